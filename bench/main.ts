// `npm run bench`: Lode and its peers side by side, in one run on this machine. Prints a table
// for each question and writes docs/BENCHMARKS.md. `--quick` takes few samples and writes
// nothing: it is for trying the benchmark itself. Other arguments choose sections.

import { loadavg } from "node:os";
import { join } from "node:path";
import { balancingTitle } from "./balancing/section.ts";
import { type Peers, startPeers, stopPeers } from "./peers/peers.ts";
import { renderDocument, renderSection, type Section, sectionOf, withSection } from "./report.ts";
import { coldStart } from "./sections/coldStart.ts";
import { deployToServing } from "./sections/deploy.ts";
import { ownIdle } from "./sections/idle.ts";
import { idleMemory, readyMemory } from "./sections/memory.ts";
import { sleepingApps } from "./sections/sleeping.ts";
import { thaw } from "./sections/thaw.ts";
import { warmRequests } from "./sections/warm.ts";

const quick = process.argv.includes("--quick");
const chosen = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const rounds = quick ? 5 : 25;
const apps = quick ? 10 : 300;
const containers = quick ? 2 : 20;
const sleepers = quick ? [10, 1000] : [10, 1000, 10_000, 100_000];

const questions: readonly (readonly [string, (peers: Peers) => Promise<readonly Section[]>])[] = [
  ["cold", async (peers) => [await coldStart(peers, 2 * rounds)]],
  ["thaw", async (peers) => [await thaw(peers, 4 * rounds)]],
  ["ready", async (peers) => [await readyMemory(peers, quick ? 3 : 12)]],
  ["deploy", async (peers) => [await deployToServing(peers, rounds)]],
  ["warm", async (peers) => await warmRequests(peers, rounds)],
  ["idle", async (peers) => await ownIdle(peers, rounds, "a few apps")],
  ["memory", async (peers) => [await idleMemory(peers, apps, containers)]],
  ["idle", async (peers) => await ownIdle(peers, rounds, `${apps} apps`)],
  ["sleeping", async () => await sleepingApps(sleepers, quick ? 3 : 10)],
];

const [loadBefore = 0] = loadavg();
const peers = await startPeers();
const sections: Section[] = [];
try {
  for (const [name, ask] of questions) {
    if (chosen.length > 0 && !chosen.includes(name)) continue;
    for (const section of await ask(peers)) {
      sections.push(section);
      console.log(`${renderSection(section)}\n`);
    }
  }
} finally {
  await stopPeers(peers);
}

if (!quick && chosen.length === 0) {
  const versions = [
    `Lode ${peers.lode.version} on Bun ${Bun.version}`,
    peers.docker.ok ? `Docker ${peers.docker.peer.version}` : `no Docker: ${peers.docker.reason}`,
    peers.workerd.ok
      ? `workerd ${peers.workerd.peer.version}`
      : `no workerd: ${peers.workerd.reason}`,
  ];
  const file = join(import.meta.dir, "../docs/BENCHMARKS.md");
  // Written by a command of its own, which this one does not run.
  const balancing = sectionOf(await Bun.file(file).text(), balancingTitle);
  const document = renderDocument(sections, versions, loadBefore);
  await Bun.write(
    file,
    balancing === null ? document : withSection(document, balancingTitle, balancing),
  );
  console.log("written: docs/BENCHMARKS.md");
}
process.exit(0);
