// `npm run rig`: the node's tests, the hostile probes and whole clouds, on the unified cgroups of a
// machine of their own. `npm run rig -- COMMAND…` runs something else in it, at the repository's
// root.

import { parseArgs } from "node:util";
import { type Rig, slowness, withRig } from "./rig.ts";

const options = {
  cpus: { type: "string", default: "2" },
  memory: { type: "string", default: "4096" },
  minutes: { type: "string", default: "60" },
  internet: { type: "boolean", default: false },
} as const;

const usage =
  "usage: npm run rig -- [--cpus N] [--memory MIB] [--minutes N] [--internet] [COMMAND…]";

function readArguments() {
  const argv = process.argv.slice(2);
  const first = argv.findIndex((argument, index) => {
    const before = argv[index - 1] ?? "";
    return !argument.startsWith("--") && !/^--(?:cpus|memory|minutes)$/.test(before);
  });
  const own = first < 0 ? argv : argv.slice(0, first);
  try {
    const { values } = parseArgs({ args: own, options });
    const [cpus, memoryMib, minutes] = [values.cpus, values.memory, values.minutes].map(Number);
    if (!(Number(cpus) >= 1 && Number(memoryMib) >= 256 && Number(minutes) > 0)) {
      throw new Error("a number is out of range");
    }
    const machine = { cpus: cpus ?? 2, memoryMib: memoryMib ?? 4096, internet: values.internet };
    const command = first < 0 ? null : argv.slice(first);
    return { machine, timeoutMs: (minutes ?? 60) * 60_000, command };
  } catch (error) {
    console.error(`rig: ${error instanceof Error ? error.message : error}\n${usage}`);
    process.exit(2);
  }
}

/** One command each, so that the machine is clean of what a failed one left. */
const suite = [
  "./src/node",
  ...["instances", "lifecycle", "gateway", "scale"].map((name) => `./test/${name}.test.ts`),
  "./test/limits",
  "./test/sandbox",
].map((path) => ["tools/bun", "test", `--timeout=${60_000 * slowness}`, path]);

for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

const { machine, timeoutMs, command } = readArguments();

async function show(rig: Rig, argv: readonly string[]): Promise<number> {
  const { code } = await rig.run(argv, {
    timeoutMs,
    onOutput: (bytes, stream) => void process[stream].write(bytes),
  });
  return code;
}

const codes = await withRig(machine, async (rig) => {
  const ends: number[] = [];
  for (const argv of command === null ? suite : [command]) ends.push(await show(rig, argv));
  return ends;
});
process.exit(codes.find((code) => code !== 0) ?? 0);
