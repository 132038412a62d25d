import { firstByteMs } from "../client.ts";
import { cpuTimeUs, pssBytes } from "../measure.ts";
import { helloFolder, type Peers } from "../peers/peers.ts";
import { medianOf, type Section, target } from "../report.ts";

const periodMs = 1000;

/** Beside apps that run and are asked nothing; other questions may have left more. */
export async function ownIdleBesideFew(peers: Peers, rounds: number): Promise<Section[]> {
  for (const app of ["few-1", "few-2", "few-3", "few-4", "few-5"]) {
    await peers.lode.deploy(helloFolder, app);
    await firstByteMs(peers.lode.target(app), performance.now());
  }
  return await ownIdle(peers, rounds, "a few apps");
}

/** What Lode itself takes while nobody asks anything: its root process and its gateways. */
export async function ownIdle(peers: Peers, rounds: number, when: string): Promise<Section[]> {
  const root = [peers.lode.rootPid()];
  const { gateways, instances } = peers.lode.processes();
  const all = [...root, ...gateways];
  await Bun.sleep(5000);
  const cpu: number[] = [];
  const memory = { all: [] as number[], root: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const beforeUs = cpuTimeUs(all);
    const startMs = performance.now();
    await Bun.sleep(periodMs);
    const elapsedUs = (performance.now() - startMs) * 1000;
    cpu.push((100 * (cpuTimeUs(all) - beforeUs)) / elapsedUs);
    memory.all.push(pssBytes(all) / 1e6);
    memory.root.push(pssBytes(root) / 1e6);
  }
  const minutes = ((performance.now() - peers.lode.upSinceMs) / 60_000).toFixed(1);
  const beside =
    `Lode was up for ${minutes} minutes, in which it did what the parts before in this run asked ` +
    `of it; ${instances.size} instances ran or were made ahead.`;
  const name = `root process and ${gateways.length} sandbox and gateway processes`;
  const memoryRows = [
    { name, samples: memory.all },
    { name: "… of it the root process", samples: memory.root },
  ];
  const cpuRows = [{ name, samples: cpu }];
  return [
    {
      title: `Lode's own memory, ${when}`,
      method: `PSS, read every second while nothing is asked. ${beside}`,
      unit: "MB",
      rows: memoryRows,
      targets: [target("at most 120 MB", medianOf(memoryRows, name), 120, "MB")],
    },
    {
      title: `Lode's own CPU, ${when}`,
      method: "CPU time over each second, of one core.",
      unit: "%",
      rows: cpuRows,
      targets: [target("at most 1 %", medianOf(cpuRows, name), 1, "%")],
    },
  ];
}
