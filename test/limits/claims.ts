// What Lode promises about limits, each promise as something to be seen: apps are deployed and
// limited as a user does it, and the kernel's counters say what they got.

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { burstSeconds } from "../../src/node/decide/credit.ts";
import { type Cloud, repository } from "../harness/cloud.ts";
import { sleep } from "../harness/host.ts";
import { type Counters, countersOf } from "./kernel.ts";

export interface Claim {
  readonly name: string;
  readonly wanted: string;
  readonly measured: string;
  readonly holds: boolean;
}

export const cores = availableParallelism();
const appFolder = join(repository, "test/limits/app");

/** An app of `app/` and its counters. */
export interface Loaded {
  readonly name: string;
  readonly counters: Counters;
  ask(path: string): Promise<string>;
  limit(...options: readonly string[]): Promise<void>;
}

export async function deployLoad(
  cloud: Cloud,
  name: string,
  folder: string = appFolder,
): Promise<Loaded> {
  await cloud.deploy(folder, name);
  const counters = countersOf(await cloud.pidOf(name));
  return {
    name,
    counters,
    async ask(path) {
      const answer = await cloud.get(name, path, { timeoutMs: 180_000 });
      if (answer.status !== 200) throw new Error(`${name}${path}: ${answer.status} ${answer.body}`);
      return answer.body;
    },
    async limit(...options) {
      await cloud.ok(["limits", name, ...options]);
    },
  };
}

interface Use {
  /** Of each app. */
  readonly cores: readonly number[];
  /** What the rest of the machine used meanwhile. */
  readonly others: number;
}

/** Cores in use during the time. */
async function use(apps: readonly Loaded[], seconds: number): Promise<Use> {
  const startedAt = performance.now();
  const busy = busySeconds();
  const before = apps.map(({ counters }) => counters.cpuTimeUs());
  await sleep(seconds * 1000);
  const usedUs = apps.map(({ counters }, index) => counters.cpuTimeUs() - (before[index] ?? 0));
  // Between the first look at a clock and the last, so that nobody seems to get more than there is.
  const passed = (performance.now() - startedAt) / 1000;
  const cores = usedUs.map((used) => used / 1e6 / passed);
  const own = cores.reduce((sum, one) => sum + one, 0);
  return { cores, others: Math.max(0, (busySeconds() - busy) / passed - own) };
}

/** The quietest of several looks: a machine that others use, too, has less to give. */
async function quietUse(apps: readonly Loaded[], seconds: number): Promise<Use> {
  let best: Use | null = null;
  for (let look = 0; look < 8; look++) {
    const now = await use(apps, seconds);
    if (best === null || now.others < best.others) best = now;
    if (best.others < 0.05 * cores) break;
  }
  return best ?? { cores: [], others: 0 };
}

export async function usedCores(app: Loaded, seconds: number): Promise<number> {
  return (await use([app], seconds)).cores[0] ?? Number.NaN;
}

/** What all of the machine's cores worked since it started; proc(5), in ticks of 10 ms. */
function busySeconds(): number {
  const line = readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "";
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0, steal = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softIrq + steal) / 100;
}

function besides(others: number): string {
  return others < 0.05 * cores ? "" : `, while others used ${others.toFixed(1)} cores`;
}

function within(value: number, wanted: number, tolerance: number): boolean {
  return Math.abs(value / wanted - 1) <= tolerance;
}

const percent = (value: number) => `${(value * 100).toFixed(1)} %`;
const inCores = (value: number) => `${value.toFixed(3)} cores`;

/** The agent has sampled all, seen who is busy, and set the weights. */
const settleSeconds = 3;

/** Two apps that both want everything: each gets its min and half of what nobody reserved. */
export async function sharesClaims(cloud: Cloud, seconds: number): Promise<Claim[]> {
  const [first, second] = [await deployLoad(cloud, "first"), await deployLoad(cloud, "second")];
  const claims: Claim[] = [];
  const cases = [
    { mins: [0.75, 0.25], wanted: 0.75, name: "mins of 75 % and 25 % of the machine" },
    { mins: [0.5, 0], wanted: 0.75, name: "a min of 50 % beside none: half of the rest each" },
    { mins: [0, 0], wanted: 0.5, name: "no mins: halves" },
  ];
  for (const app of [first, second]) await app.ask(`/spin?processes=${cores}`);
  for (const { mins, wanted, name } of cases) {
    // Lifted first: together they never ask for more than there is.
    for (const app of [first, second]) await app.limit("--cpu", "-");
    for (const [index, app] of [first, second].entries()) {
      const min = (mins[index] ?? 0) * cores;
      if (min > 0) await app.limit("--cpu", `${min}::`);
    }
    await sleep(settleSeconds * 1000);
    const { cores: used, others } = await quietUse([first, second], seconds);
    const [ours = 0, theirs = 0] = used;
    const share = ours / (ours + theirs);
    claims.push({
      name: `CPU under contention, ${name}`,
      wanted: `${percent(wanted)} and ${percent(1 - wanted)}, each within 5 %`,
      measured: `${percent(share)} and ${percent(1 - share)}${besides(others)}`,
      holds: within(share, wanted, 0.05) && within(1 - share, 1 - wanted, 0.05),
    });
  }
  for (const app of [first, second]) await cloud.ok(["rm", app.name, "--yes"]);
  return claims;
}

/** A ceiling holds whatever the app tries, and what is below it is really there. */
export async function maxClaim(cloud: Cloud, seconds: number): Promise<Claim> {
  const app = await deployLoad(cloud, "capped");
  await app.limit("--cpu", "0.5");
  await app.ask(`/spin?processes=${cores}`);
  const { cores: all, others } = await quietUse([app], seconds);
  const used = all[0] ?? Number.NaN;
  await cloud.ok(["rm", app.name, "--yes"]);
  return {
    name: "a CPU max of 0.5",
    wanted: "0.5 cores within 5 %",
    measured: `${inCores(used)}${besides(others)}`,
    holds: within(used, 0.5, 0.05),
  };
}

interface Phase {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** Until the kernel holds it to so many cores. */
async function untilHeldTo(app: Loaded, ceiling: number, seconds: number): Promise<Phase | null> {
  const startedAt = performance.now();
  const first = app.counters.cpuTimeUs();
  for (let passed = 0; passed < seconds; passed = (performance.now() - startedAt) / 1000) {
    const cpuSeconds = (app.counters.cpuTimeUs() - first) / 1e6;
    if (app.counters.ceilingCores() <= ceiling) return { seconds: passed, cpuSeconds };
    await sleep(50);
  }
  return null;
}

/**
 * decide/credit.ts: the bucket holds (burst − max) · 60 core-seconds; emptied, the app is held to
 * max until an eighth is earned again.
 */
export async function creditClaims(cloud: Cloud): Promise<Claim[]> {
  const [max, burst] = [0.4, 0.9];
  const capacity = (burst - max) * burstSeconds;
  const app = await deployLoad(cloud, "bursting");
  await app.limit("--cpu", `:${max}:${burst}`);
  await app.ask(`/spin?processes=${cores}`);
  const spent = await untilHeldTo(app, max, 4 * burstSeconds);
  const credit = spent === null ? Number.NaN : spent.cpuSeconds - max * spent.seconds;
  const held = await quietUse([app], 8);
  const heldTo = held.cores[0] ?? Number.NaN;
  await app.ask("/rest");
  // An eighth, earned at max − 0 for each second of rest; half of that is not enough.
  const refillSeconds = capacity / 8 / max;
  await sleep((refillSeconds / 2) * 1000);
  await app.ask(`/spin?processes=${cores}`);
  const early = await usedCores(app, 2);
  await app.ask("/rest");
  await sleep((refillSeconds / 2 + 2) * 1000);
  await app.ask(`/spin?processes=${cores}`);
  const again = await use([app], 3);
  const refilled = again.cores[0] ?? Number.NaN;
  await cloud.ok(["rm", app.name, "--yes"]);
  return [
    {
      name: `burst credit of ${max} to ${burst} cores is spent`,
      wanted: `${capacity} core-seconds above max, within 5 %`,
      measured: `${credit.toFixed(2)} core-seconds in ${spent?.seconds.toFixed(1)} s`,
      holds: within(credit, capacity, 0.05),
    },
    {
      name: "without credit max holds",
      wanted: `${max} cores within 5 %`,
      measured: `${inCores(heldTo)}${besides(held.others)}`,
      holds: within(heldTo, max, 0.05),
    },
    {
      name: `credit is refilled by ${refillSeconds.toFixed(1)} s of rest, not by half of it`,
      wanted: `at most ${max} cores, then more`,
      measured: `${inCores(early)}, then ${inCores(refilled)}${besides(again.others)}`,
      holds: early <= max * 1.05 && refilled > (max + burst) / 2,
    },
  ];
}

/** The app measures its own progress; the same program without Lode beside it, as a control. */
export async function growthClaim(cloud: Cloud, rounds: number): Promise<Claim> {
  const app = await deployLoad(cloud, "growing");
  const grown = JSON.parse(await app.ask(`/growth?threads=${cores}&rounds=${rounds}`)) as number[];
  await cloud.ok(["rm", app.name, "--yes"]);
  const script = `import { growthMs } from ${JSON.stringify(join(appFolder, "growth.ts"))};
    console.log(JSON.stringify(await growthMs(${cores}, ${rounds}))); process.exit(0);`;
  const bare = Bun.spawnSync([process.execPath, "--config=/dev/null", "-e", script]);
  const alone = JSON.parse(bare.stdout.toString()) as number[];
  const middle = (values: readonly number[]) =>
    values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
  return {
    name: `growth from 0.05 cores to all ${cores}`,
    wanted: `within 20 ms of the jump (median of ${rounds})`,
    measured: `${middle(grown)} ms; without Lode ${middle(alone)} ms`,
    holds: middle(grown) <= 20,
  };
}
