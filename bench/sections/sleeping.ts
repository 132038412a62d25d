import type { InstanceStatus } from "../../src/model/instance.ts";
import { until } from "../../test/harness/host.ts";
import { median } from "../../tools/plot/numbers.ts";
import { firstByteMs, type Target } from "../client.ts";
import { Lode } from "../lode.ts";
import { cpuTimeUs, pssBytes } from "../measure.ts";
import { helloFolder } from "../peers/peers.ts";
import { medianOf, type Row, type Section, target } from "../report.ts";
import { registerSleepers, sleeperName } from "../sleepers.ts";

/** What is measured beside so many registered apps that sleep. */
interface Beside {
  readonly apps: number;
  readonly readyMs: number;
  readonly answeredMs: number;
  /** The longest that a request to an app that runs took while lode started. */
  readonly worstMs: number;
  readonly failures: number;
  readonly memory: readonly number[];
  readonly rootMemory: readonly number[];
  readonly warmMs: readonly number[];
  readonly warmCpuUs: readonly number[];
  readonly wakeMs: readonly number[];
  readonly deployMs: readonly number[];
  readonly listMs: readonly number[];
  readonly metricsMs: readonly number[];
  readonly idlePercent: readonly number[];
}

export const sleepingMemoryMaxMB = 300;

/** Of the sections that have a line in a plot. */
export const sleepingTitles = {
  memory: "Lode's memory",
  rootMemory: "of it the root process",
  answered: "`lode up` → API answers",
  deploy: "deploy → serving",
  wake: "wake → first byte",
  warm: "warm request",
  list: "a page of the list",
  metrics: "/metrics",
} as const;

type Start = Pick<Beside, "readyMs" | "answeredMs" | "worstMs" | "failures">;
type Samples = Exclude<keyof Beside, "apps" | "failures" | "readyMs" | "answeredMs" | "worstMs">;

/** Lode beside few and many apps that sleep, one after the other, each in a cloud of its own. */
export async function sleepingApps(
  counts: readonly number[],
  rounds: number,
): Promise<readonly Section[]> {
  const all: Beside[] = [];
  for (const count of counts) all.push(await beside(count, rounds));
  const title = (apps: number) => `${apps.toLocaleString("en")} sleeping apps`;
  const rows = (of: (each: Beside) => readonly number[]): Row[] =>
    all.map((each) => ({ name: title(each.apps), samples: of(each), at: each.apps }));
  const most = title(counts.at(-1) ?? 0);
  const fewest = title(counts[0] ?? 0);
  const section = (title: string, method: string, unit: string, name: Samples): Section => ({
    ...{ title, method, unit, rows: rows((each) => each[name]) },
    targets: [],
  });
  const asWithFew = (each: Section, factor: number): Section => {
    const few = medianOf(each.rows, fewest) ?? 0;
    const many = medianOf(each.rows, most);
    const says = `beside ${most} at most ${factor}× of beside ${fewest}`;
    return { ...each, targets: [target(says, many === null ? null : many / few, factor, "×")] };
  };
  return [
    memorySection(
      rows((each) => each.memory),
      most,
    ),
    section(sleepingTitles.rootMemory, "PSS.", "MB", "rootMemory"),
    answeredSection(rows((each) => [each.answeredMs])),
    readySection(
      all,
      rows((each) => [each.readyMs]),
    ),
    asWithFew(section(sleepingTitles.warm, warmMethod, "ms", "warmMs"), 1.25),
    asWithFew(section("CPU of a warm request", warmMethod, "µs", "warmCpuUs"), 1.25),
    asWithFew(section(sleepingTitles.wake, wakeMethod, "ms", "wakeMs"), 1.25),
    asWithFew(section(sleepingTitles.deploy, deployMethod, "ms", "deployMs"), 1.25),
    asWithFew(section(sleepingTitles.list, listMethod, "ms", "listMs"), 1.25),
    asWithFew(section(sleepingTitles.metrics, "GET /metrics.", "ms", "metricsMs"), 1.25),
    section("CPU at rest", "All of lode, nobody asks anything.", "% of a core", "idlePercent"),
  ];
}

const warmMethod =
  "A hello app that is awake, asked through the gateway, a connection each; CPU is that of root " +
  "process and gateways.";
const wakeMethod =
  "From a request to an app that has slept since before lode started to the first byte of its " +
  "answer.";
const deployMethod = "A new hello app each, by the command line, as it tells its duration.";
const listMethod = "GET /v1/projects/default/apps?limit=5, of five that sleep.";

function memorySection(rows: readonly Row[], most: string): Section {
  return {
    title: sleepingTitles.memory,
    method:
      "PSS of root process, gateways and their sandboxes. Every app has a release, an instance " +
      "and a host; its records are those that lode wrote for one that was deployed and slept.",
    unit: "MB",
    rows,
    targets: [
      target(
        `${most} cost lode at most ${sleepingMemoryMaxMB} MB`,
        medianOf(rows, most),
        sleepingMemoryMaxMB,
        "MB",
      ),
    ],
  };
}

function answeredSection(rows: readonly Row[]): Section {
  return {
    title: sleepingTitles.answered,
    method: "From the start of `lode up` to the answer of GET /v1/status, asked when it was ready.",
    ...{ unit: "ms", rows, targets: [] },
  };
}

function readySection(all: readonly Beside[], rows: readonly Row[]): Section {
  const [few, many] = [all[0], all.at(-1)];
  const more = few === undefined || many === undefined ? null : many.readyMs - few.readyMs;
  const failures = all.reduce((sum, each) => sum + each.failures, 0);
  const worst = Math.max(...all.map(({ worstMs }) => worstMs));
  return {
    title: "`lode up` → ready",
    method:
      "From the start of `lode up` on what an earlier lode left to its ready line, while an app " +
      `that runs is asked every 5 ms: ${failures} requests failed, the slowest took ` +
      `${worst.toFixed(0)} ms.`,
    unit: "ms",
    rows,
    targets: [
      target("ready at most 1 s later than beside the fewest", more, 1000, "ms more"),
      target("no request to a running app fails meanwhile", failures, 0, "failed"),
    ],
  };
}

async function beside(apps: number, rounds: number): Promise<Beside> {
  const lode = await Lode.start();
  try {
    await lode.deploy(helloFolder, "awake");
    await lode.deploy(helloFolder, "sleeper");
    await lode.putToSleep("sleeper");
    const status = await statusOf(lode, "sleeper");
    await lode.cloud.signal("SIGTERM");
    await registerSleepers(lode.cloud.dataDirectory, "sleeper", status, apps);
    const start = await restart(lode);
    await settle(lode);
    const memory = await sampled(rounds, async () => {
      await Bun.sleep(200);
      return pssBytes(ownProcesses(lode)) / 1e6;
    });
    const rootMemory = await sampled(rounds, async () => pssBytes([lode.rootPid()]) / 1e6);
    const idlePercent = await sampled(rounds, () => idle(lode));
    const warm = await warmRequests(lode, rounds);
    // While they sleep: of ten, the wakes that follow leave none.
    const listMs = await sampled(rounds, () => asked(lode, listPath(apps)));
    const metricsMs = await sampled(rounds, () => asked(lode, "/metrics"));
    let next = 0;
    const wakeMs = await sampled(rounds, async () => {
      const app = sleeperName(Math.floor((apps * next++) / rounds));
      return firstByteMs(lode.target(app), performance.now());
    });
    const deployMs = await sampled(rounds, () => lode.deploy(helloFolder, `new-${next++}`));
    return {
      apps,
      ...start,
      ...warm,
      memory,
      rootMemory,
      wakeMs,
      deployMs,
      listMs,
      metricsMs,
      idlePercent,
    };
  } finally {
    await lode.stop();
  }
}

function listPath(apps: number): string {
  return `/v1/projects/default/apps?limit=5&after=${sleeperName(Math.floor(apps / 2) - 1)}`;
}

async function statusOf(lode: Lode, app: string): Promise<InstanceStatus> {
  const page = await lode.cloud.api(`/v1/projects/default/apps/${app}/instances`);
  const { items } = (await page.json()) as { items: (InstanceStatus & { node: string })[] };
  const [{ node: _, ...status } = { node: "" }] = items;
  return status as InstanceStatus;
}

/** Starts lode again while an app that runs is asked all the time. */
async function restart(lode: Lode): Promise<Start> {
  let failures = 0;
  let worstMs = 0;
  let done = false;
  const asking = (async () => {
    while (!done) {
      await firstByteMs(lode.target("awake"), performance.now()).then(
        (tookMs) => {
          worstMs = Math.max(worstMs, tookMs);
        },
        () => {
          failures += 1;
        },
      );
      await Bun.sleep(5);
    }
  })();
  const startMs = performance.now();
  await lode.cloud.bringUp();
  const readyMs = performance.now() - startMs;
  await asked(lode, "/v1/status");
  const answeredMs = performance.now() - startMs;
  await Bun.sleep(3000);
  done = true;
  await asking;
  return { readyMs, answeredMs, worstMs, failures };
}

/** What a start leaves to be done afterwards is done when two seconds take hardly any CPU. */
async function settle(lode: Lode): Promise<void> {
  await until("lode has nothing to do", async () => (await idle(lode, 2000)) < 3, 240_000);
}

async function idle(lode: Lode, periodMs = 1000): Promise<number> {
  const pids = ownProcesses(lode);
  const beforeUs = cpuTimeUs(pids);
  const startMs = performance.now();
  await Bun.sleep(periodMs);
  return (100 * (cpuTimeUs(pids) - beforeUs)) / ((performance.now() - startMs) * 1000);
}

const requestsPerRound = 100;

async function warmRequests(
  lode: Lode,
  rounds: number,
): Promise<Pick<Beside, "warmMs" | "warmCpuUs">> {
  const to: Target = lode.target("awake");
  const warmMs: number[] = [];
  const warmCpuUs = await sampled(rounds, async () => {
    const pids = ownProcesses(lode);
    const beforeUs = cpuTimeUs(pids);
    const each: number[] = [];
    for (let request = 0; request < requestsPerRound; request++) {
      each.push(await firstByteMs(to, performance.now()));
    }
    warmMs.push(median(each));
    return (cpuTimeUs(pids) - beforeUs) / requestsPerRound;
  });
  return { warmMs, warmCpuUs };
}

async function asked(lode: Lode, path: string): Promise<number> {
  const startMs = performance.now();
  const response = await lode.cloud.api(path);
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return performance.now() - startMs;
}

function ownProcesses(lode: Lode): readonly number[] {
  return [lode.rootPid(), ...lode.processes().gateways];
}

async function sampled(rounds: number, sample: () => Promise<number>): Promise<number[]> {
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) samples.push(await sample());
  return samples;
}
