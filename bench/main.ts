// `npm run bench`: Lode and its peers side by side on this machine. Prints a table for each
// question, keeps all that was measured in .build/bench and writes it, part by part, into
// docs/BENCHMARKS.md and docs/plots. Arguments choose parts by name; the others stay as they are.
//
//   --quick    few samples: for trying the benchmark itself; written to .build/bench/trial
//   --render   runs nothing: writes page and plots anew from the runs that are kept

import { partNames, writePart } from "./page.ts";
import { type Peers, startPeers, stopPeers } from "./peers/peers.ts";
import { renderSection, type Section } from "./report.ts";
import { beginRun, documents, keepRun, trial } from "./runs.ts";
import { coldStart } from "./sections/coldStart.ts";
import { deployToServing } from "./sections/deploy.ts";
import { ownIdle, ownIdleBesideFew } from "./sections/idle.ts";
import { idleMemory, readyMemory } from "./sections/memory.ts";
import { sleepingApps } from "./sections/sleeping.ts";
import { thaw } from "./sections/thaw.ts";
import { warmRequests } from "./sections/warm.ts";

const quick = process.argv.includes("--quick");
const place = quick ? trial : documents;
const rounds = quick ? 5 : 25;
const apps = quick ? 10 : 300;
const containers = quick ? 2 : 20;
const sleepers = quick ? [10, 1000] : [10, 1000, 10_000, 100_000];

/** `npm run bench:balancing` asks the last part's. */
type Asked = Exclude<(typeof partNames)[number], "balancing">;

const questions: Readonly<Record<Asked, (peers: Peers) => Promise<readonly Section[]>>> = {
  cold: async (peers) => [await coldStart(peers, 2 * rounds)],
  thaw: async (peers) => [await thaw(peers, 8 * rounds)],
  ready: async (peers) => [await readyMemory(peers, quick ? 3 : 12)],
  deploy: async (peers) => [await deployToServing(peers, rounds)],
  warm: async (peers) => await warmRequests(peers, rounds),
  idle: async (peers) => await ownIdleBesideFew(peers, rounds),
  memory: async (peers) => [
    await idleMemory(peers, apps, containers),
    ...(await ownIdle(peers, rounds, `${apps} apps`)),
  ],
  sleeping: async () => await sleepingApps(sleepers, quick ? 3 : 10),
};

function chosenParts(): readonly Asked[] {
  const all = Object.keys(questions) as Asked[];
  const names = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
  const unknown = names.filter((name) => !all.some((each) => each === name));
  if (unknown.length > 0) throw new Error(`no part ${unknown}; there are ${all.join(", ")}`);
  return names.length === 0 ? all : all.filter((each) => names.includes(each));
}

async function ask(names: readonly Asked[]): Promise<void> {
  const peers = await startPeers();
  try {
    for (const name of names) {
      const end = beginRun(versionsOf(peers));
      const sections = await questions[name](peers);
      for (const section of sections) {
        console.log(`${[section.title, "", ...renderSection(section)].join("\n")}\n`);
      }
      await keepRun(place, name, { circumstances: end(), data: sections });
      await writePart(place, name);
      console.log(`written: ${name} in ${place.says}\n`);
    }
  } finally {
    await stopPeers(peers);
  }
}

function versionsOf({ lode, docker, workerd }: Peers): readonly string[] {
  return [
    `Lode ${lode.version} on Bun ${Bun.version}`,
    docker.ok ? `Docker ${docker.peer.version}` : `no Docker: ${docker.reason}`,
    workerd.ok ? `workerd ${workerd.peer.version}` : `no workerd: ${workerd.reason}`,
  ];
}

if (process.argv.includes("--render")) {
  for (const name of partNames) {
    const written = await writePart(place, name);
    console.log(`${name}: ${written ? `written in ${place.says}` : "no run is kept"}`);
  }
} else await ask(chosenParts());
process.exit(0);
