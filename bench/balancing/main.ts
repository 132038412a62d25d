// `npm run bench:balancing`: ten capped instances of one app with two routes whose CPU costs
// differ 1:100, at 80 % load, half of it by each route, with the same open-loop Poisson arrivals
// for each contestant: nginx and HAProxy by least connections, Lode, and an oracle that knows the
// costs. Prints a table and whether the goals are met.
//
//   --seconds N   of measured load for each contestant (60)
//   --load F      of the instances' capacity (0.8)

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePorts, until } from "../../test/harness/host.ts";
import { Lode } from "../lode.ts";
import { cpuTimeUs } from "../measure.ts";
import { stop } from "../peers/install.ts";
import { Connections } from "./client.ts";
import { type Arrival, arrivals, type Latencies, quantile, run } from "./load.ts";
import { Oracle } from "./oracle.ts";
import { costRatio, writeProgram } from "./program.ts";
import { startHaproxy, startNginx } from "./proxies.ts";

const instances = 10;
const coresEach = 0.1;
/** Half of the work is the dear route's. */
const dearShare = 1 / (1 + costRatio);
const learnSeconds = 40;
const seed = 7;

function argument(name: string, otherwise: number): number {
  const index = process.argv.indexOf(`--${name}`);
  return index < 0 ? otherwise : Number(process.argv[index + 1]);
}

const seconds = argument("seconds", 60);
const load = argument("load", 0.8);

type Send = (dear: boolean, done: (status: number) => void) => void;

interface Measured extends Latencies {
  readonly name: string;
  /** Of the instances' CPU over the run: the greatest, in proportion to the mean. */
  readonly imbalance: number;
  /** Cores used by all instances, in proportion to what they may use. */
  readonly utilisation: number;
}

const path = (dear: boolean) => (dear ? "/dear" : "/cheap");

/** CPU time of each instance, in µs. */
function usage(lode: Lode): readonly number[] {
  return [...lode.processes().instances.values()].map((pids) => cpuTimeUs(pids));
}

async function measure(name: string, lode: Lode, list: readonly Arrival[], send: Send) {
  const before = usage(lode);
  const began = performance.now();
  const latencies = await run(list, send);
  const elapsedUs = (performance.now() - began) * 1000;
  const used = usage(lode).map((after, index) => after - (before[index] ?? 0));
  const all = used.reduce((sum, one) => sum + one, 0);
  const imbalance = Math.max(...used) / (all / used.length);
  const utilisation = all / (elapsedUs * instances * coresEach);
  const measured: Measured = { name, ...latencies, imbalance, utilisation };
  console.log(rowOf(measured));
  return measured;
}

function rowOf({ name, cheapMs, dearMs, failed, imbalance, utilisation }: Measured): string {
  const cells = [
    ...[0.5, 0.9, 0.99].map((share) => quantile(cheapMs, share).toFixed(1)),
    ...[0.5, 0.99].map((share) => quantile(dearMs, share).toFixed(0)),
    imbalance.toFixed(3),
    `${(utilisation * 100).toFixed(0)} %`,
    String(cheapMs.length + dearMs.length),
    String(failed),
  ];
  return `| ${name} | ${cells.join(" | ")} |`;
}

async function start(lode: Lode): Promise<readonly string[]> {
  const { cloud } = lode;
  await lode.deploy(await writeProgram(), "balanced");
  await cloud.ok(["scale", `balanced=${instances}`]);
  await until(
    "all instances run",
    async () => {
      const states = await lode.states("balanced");
      return states.length === instances && states.every((state) => state === "running");
    },
    60_000,
  );
  await cloud.ok(["limits", "balanced", "--cpu", String(coresEach)]);
  const folder = join("/run", `lode-${cloud.id()}`, "s");
  return readdirSync(folder).map((name) => join(folder, name));
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
  const [nginxPort = 0, haproxyPort = 0] = await freePorts(2);
  const ends: (() => unknown)[] = [() => lode.stop()];
  try {
    const sockets = await start(lode);
    const cheap = await costMs(lode, sockets, false, 30);
    const dear = await costMs(lode, sockets, true, 1);
    const meanMs = cheap * (1 - dearShare) + dear * dearShare;
    const rate = (instances * coresEach * 1000 * load) / meanMs;
    console.log(
      `${instances} instances of ${coresEach} cores; /cheap ${cheap.toFixed(2)} CPU-ms, ` +
        `/dear ${dear.toFixed(1)}; ${rate.toFixed(0)} requests/s for ${load * 100} % load`,
    );
    console.log(
      "| | cheap p50 ms | p90 | p99 | dear p50 | p99 | max/mean CPU | load | n | failed |",
    );
    console.log("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    const list = arrivals(seed, seconds, rate, dearShare);
    const results: Measured[] = [];
    const contend = async (name: string, send: Send) => {
      results.push(await measure(name, lode, list, send));
    };
    const { port, host } = lode.target("balanced");
    const own = new Connections({ port }, host);
    ends.push(() => own.close());
    await run(arrivals(seed + 1, learnSeconds, rate, dearShare), (isDear, done) =>
      own.get(path(isDear), done),
    );
    await contend("Lode", (isDear, done) => own.get(path(isDear), done));
    console.log((await lode.cloud.ok(["costs", "balanced"])).trimEnd());
    const oracle = new Oracle(sockets, host, coresEach);
    ends.push(() => oracle.close());
    await contend("oracle", (isDear, done) =>
      oracle.send(path(isDear), isDear ? dear : cheap, done),
    );
    for (const [at, begin] of [
      [nginxPort, startNginx],
      [haproxyPort, startHaproxy],
    ] as const) {
      const proxy = await begin(at, sockets, join(folder, String(at)));
      ends.push(() => stop(proxy.process));
      await Bun.sleep(500);
      const connections = new Connections({ port: at }, host);
      await contend(proxy.name, (isDear, done) => connections.get(path(isDear), done));
      connections.close();
    }
    tell(results);
  } finally {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  }
}

function tell(results: readonly Measured[]): void {
  const [lode, oracle, ...peers] = results as [Measured, Measured, ...Measured[]];
  const p99 = ({ cheapMs }: Measured) => quantile(cheapMs, 0.99);
  const goal = (says: string, value: number, max: number) =>
    console.log(`${value <= max ? "met" : "NOT MET"}: ${says}: ${value.toFixed(3)}`);
  for (const peer of peers) goal(`cheap p99 ≤ 0.1 of ${peer.name}`, p99(lode) / p99(peer), 0.1);
  goal("cheap p99 ≤ 1.3 of the oracle's", p99(lode) / p99(oracle), 1.3);
  goal("max/mean CPU of instances ≤ 1.05", lode.imbalance, 1.05);
}

await main();
process.exit(0);
