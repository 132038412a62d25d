// `npm run check`: everything that needs no running cloud, at once. `npm test`, and so CI, begins
// with it.

import { join } from "node:path";

const root = join(import.meta.dir, "..");

/** dependency-cruiser sees nothing, and is content, when its parser is missing. */
const modulesMin = 150;

interface Outcome {
  readonly passed: boolean;
  /** Shown when it failed. */
  readonly output: string;
}

async function runTool(argv: readonly string[]): Promise<Outcome> {
  const child = Bun.spawn([...argv], {
    cwd: root,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : {}) },
  });
  const [out, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { passed: (await child.exited) === 0, output: `${out}${errors}` };
}

/** Biome's ci colours even what goes into a file. */
const colors = process.stdout.isTTY ? ["--colors=force"] : ["--colors=off"];

const tool = (name: string) => join(root, "node_modules/.bin", name);

async function checkArchitecture(): Promise<Outcome> {
  const config = ["--config", ".dependency-cruiser.mjs"];
  const cruised = await runTool([tool("depcruise"), ...config, "--output-type", "err-long", "src"]);
  const modules = Number(/(\d+) modules,/.exec(Bun.stripANSI(cruised.output))?.[1] ?? 0);
  if (modules >= modulesMin) return cruised;
  const few = `dependency-cruiser saw ${modules} modules, fewer than ${modulesMin}`;
  return { passed: false, output: `${cruised.output}\n${few}: is @swc/core installed?\n` };
}

const checks: readonly (readonly [string, () => Promise<Outcome>])[] = [
  ["format and lint", () => runTool([tool("biome"), "ci", "--error-on-warnings", ...colors])],
  ["types", () => runTool([tool("tsc"), "--build"])],
  ["architecture", checkArchitecture],
  [
    "tidy, and canaries",
    () => runTool([join(root, "tools/bun"), "test", "--timeout=60000", "./tools"]),
  ],
];

const outcomes = await Promise.all(
  checks.map(async ([title, check]) => {
    const startedAt = performance.now();
    const outcome = await check();
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    if (!outcome.passed) process.stdout.write(`\n── ${title} ──\n${outcome.output.trimEnd()}\n\n`);
    process.stdout.write(`${outcome.passed ? "passed" : "FAILED"}  ${title} (${seconds} s)\n`);
    return outcome;
  }),
);
process.exit(outcomes.every((outcome) => outcome.passed) ? 0 : 1);
