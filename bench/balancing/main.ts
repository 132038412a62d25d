// `npm run bench:balancing`: ten capped instances of one app with two routes whose CPU costs
// differ 1:100, at 80 % load, half of it by each route, with the same open-loop Poisson arrivals
// for each contestant: nginx and HAProxy by least connections, Lode, and an oracle that knows the
// costs. Prints a table and whether the goals are met, keeps what was measured in .build/bench, and
// writes its part of docs/BENCHMARKS.md.
//
//   --seconds N   of measured load for each contestant (50); fewer are written to
//                 .build/bench/trial

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cloudPaths, dataPaths } from "../../src/node/paths.ts";
import { freePorts, until } from "../../test/harness/host.ts";
import { Lode } from "../lode.ts";
import { cpuTimeUs } from "../measure.ts";
import { writePart } from "../page.ts";
import { stop } from "../peers/install.ts";
import { targetLine } from "../report.ts";
import { beginRun, documents, keepRun, keptRun, trial } from "../runs.ts";
import { Connections } from "./client.ts";
import { type Arrival, arrivals, run } from "./load.ts";
import { Oracle } from "./oracle.ts";
import { costRatio, writeProgram } from "./program.ts";
import { startHaproxy, startNginx } from "./proxies.ts";
import {
  type Balancing,
  earlierOf,
  goalsOf,
  type Measured,
  rowOf,
  type Setting,
  tableHeader,
} from "./section.ts";

const instances = 10;
const coresEach = 0.1;
/** Half of the work is the dear route's. */
const dearShare = 1 / (1 + costRatio);
const learnSeconds = 25;
const secondsAtLeast = 50;
const seed = 7;
const load = 0.8;

const secondsAt = process.argv.indexOf("--seconds");
const seconds = secondsAt < 0 ? secondsAtLeast : Number(process.argv[secondsAt + 1]);
const place = seconds < secondsAtLeast ? trial : documents;

type Send = (dear: boolean, done: (status: number) => void) => void;

const path = (dear: boolean) => (dear ? "/dear" : "/cheap");

/** CPU time of each instance, in µs. */
function usage(lode: Lode): readonly number[] {
  return [...lode.processes().instances.values()].map((pids) => cpuTimeUs(pids));
}

async function measure(name: string, lode: Lode, list: readonly Arrival[], send: Send) {
  const before = usage(lode);
  const latencies = await run(list, send);
  const used = usage(lode).map((after, index) => after - (before[index] ?? 0));
  const all = used.reduce((sum, one) => sum + one, 0);
  const imbalance = Math.max(...used) / (all / used.length);
  const utilisation = all / (latencies.lastMs * 1000 * instances * coresEach);
  const measured: Measured = { name, ...latencies, imbalance, utilisation };
  console.log(rowOf(measured));
  return measured;
}

async function start(lode: Lode, folder: string): Promise<readonly string[]> {
  const { cloud } = lode;
  await writeProgram(folder, instances);
  await lode.deploy(folder, "balanced");
  await until(
    "all instances run",
    async () => {
      const states = await lode.states("balanced");
      return states.length === instances && states.every((state) => state === "running");
    },
    60_000,
  );
  await cloud.ok(["limits", "balanced", "--cpu", String(coresEach)]);
  const served = dataPaths.appSockets(cloudPaths(cloud.dataDirectory, cloud.id()));
  return readdirSync(served).map((name) => join(served, name));
}

/** CPU-ms of a request, measured on all instances without a proxy. */
async function costMs(lode: Lode, sockets: readonly string[], dear: boolean, count: number) {
  const direct = sockets.map((socket) => new Connections({ path: socket }, "balanced"));
  const all = () =>
    Promise.all(
      direct.map(async (connections) => {
        for (let index = 0; index < count; index += 1) {
          await new Promise<void>((done) => connections.get(path(dear), () => done()));
        }
      }),
    );
  await all();
  const before = usage(lode);
  await all();
  const used = usage(lode).reduce((sum, after, index) => sum + after - (before[index] ?? 0), 0);
  for (const connections of direct) connections.close();
  return used / 1000 / (count * sockets.length);
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lode-balancing-"));
  const lode = await Lode.start();
  const end = beginRun([`Lode ${lode.version} on Bun ${Bun.version}`]);
  const ends: (() => unknown)[] = [() => lode.stop()];
  try {
    const sockets = await start(lode, join(folder, "app"));
    const setting = await settingOf(lode, sockets);
    const { cheapMs, dearMs, requestsPerSecond: rate } = setting;
    console.log(
      `${instances} instances of ${coresEach} cores; /cheap ${cheapMs.toFixed(2)} CPU-ms, ` +
        `/dear ${dearMs.toFixed(1)}; ${rate.toFixed(0)} requests/s for ${load * 100} % load`,
    );
    console.log(tableHeader);
    const list = arrivals(seed, seconds, rate, dearShare);
    const { port, host } = lode.target("balanced");
    const own = new Connections({ port }, host);
    ends.push(() => own.close());
    const send: Send = (isDear, done) => own.get(path(isDear), done);
    await run(arrivals(seed + 1, learnSeconds, rate, dearShare), send);
    const measured = await measure("Lode", lode, list, send);
    const costs = (await lode.cloud.ok(["costs", "balanced"])).trimEnd();
    const oracle = await measureOracle(lode, sockets, setting, list);
    const peers: Measured[] = [];
    for (const begin of [startNginx, startHaproxy]) {
      const [at = 0] = await freePorts(1);
      const proxy = await begin(at, sockets, join(folder, String(at)));
      ends.push(() => stop(proxy.process));
      await Bun.sleep(500);
      const connections = new Connections({ port: at }, host);
      const through: Send = (isDear, done) => connections.get(path(isDear), done);
      peers.push(await measure(proxy.name, lode, list, through));
      connections.close();
    }
    const before = keptRun(place, "balancing");
    const earlier = before === null ? [] : earlierOf(before);
    const found: Balancing = { setting, lode: measured, oracle, peers, costs, earlier };
    console.log(`\n${goalsOf(found).map(targetLine).join("\n")}\n\n${costs}`);
    await keepRun(place, "balancing", { circumstances: end(), data: found });
    await writePart(place, "balancing");
    console.log(`written: balancing in ${place.says}`);
  } finally {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What requests cost here, and so how many are how much load. */
async function settingOf(lode: Lode, sockets: readonly string[]): Promise<Setting> {
  const cheapMs = await costMs(lode, sockets, false, 60);
  const dearMs = await costMs(lode, sockets, true, 2);
  const meanMs = cheapMs * (1 - dearShare) + dearMs * dearShare;
  const requestsPerSecond = (instances * coresEach * 1000 * load) / meanMs;
  return { instances, coresEach, cheapMs, dearMs, requestsPerSecond, seconds, seed, load };
}

async function measureOracle(
  lode: Lode,
  sockets: readonly string[],
  { cheapMs, dearMs }: Setting,
  list: readonly Arrival[],
): Promise<Measured> {
  const classes = [
    { costUs: cheapMs * 1000, requests: 1 - dearShare },
    { costUs: dearMs * 1000, requests: dearShare },
  ];
  const oracle = new Oracle(sockets, lode.target("balanced").host, coresEach, classes);
  const measured = await measure("oracle", lode, list, (isDear, done) =>
    oracle.send(path(isDear), (isDear ? dearMs : cheapMs) * 1000, done),
  );
  oracle.close();
  return measured;
}

await main();
process.exit(0);
