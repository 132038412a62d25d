// One probe: refused in every runtime, canaries unchanged, the neighbour as fast as without it.

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { repository } from "../harness/cloud.ts";
import { patienceMs } from "../harness/pace.ts";
import { faultOf, readReport } from "./judge.ts";
import { type Probe, withinSeconds } from "./probes.ts";
import type { Runtime, Stage } from "./stage.ts";
import { runSupply } from "./supply.ts";
import type { Watch, Window } from "./watch.ts";

/** The neighbour's p99 while a probe runs, over its p99 without. */
export const slowdownMax = 1.5;
/** The API's p99 while a bomb runs. */
export const apiMsMax = 100;

const windowMs = 400;
const settleMs = 300;
/** Enough to judge the API by. */
export const roundsMin = 3;
/** Part of all cores that idles while only the neighbour is asked. */
const idleMin = 0.3;

export interface Pressure {
  /** Medians over the windows. */
  readonly neighbourMs: { readonly without: number; readonly during: number };
  readonly apiMs: { readonly without: number; readonly during: number };
  /** Whether enough of the machine idled without the probe: else it is no judge of a slowdown. */
  readonly isQuiet: boolean;
}

/** What the probe reports from inside the app of this runtime. */
export async function runInside(stage: Stage, probe: Probe, runtime: Runtime, holdS: number) {
  const { cloud, around } = stage;
  if (probe.group === "supply") return await runSupply(stage, probe.id);
  const given = { ...probe.arguments?.(around), hold: holdS, within: withinSeconds };
  const words = Object.entries(given);
  const query = words.map(([name, value]) => `${name}=${value}`).join("&");
  const path = `/${probe.id}?${query}`;
  const answer = await cloud.get(stage.hostile(runtime), path, { timeoutMs: 40_000 });
  return answer.body;
}

/** Those that do nothing in no time. */
const needsTime = ["cpu-spin", "log-flood"];

/** Null when it was refused and no canary has changed. */
export async function refusedInside(stage: Stage, probe: Probe, runtime: Runtime) {
  const before = await stage.canaries();
  const text = await runInside(stage, probe, runtime, needsTime.includes(probe.id) ? 1 : 0);
  // Links lie in wait for the next start.
  if (probe.id === "planted-link") {
    await stage.cloud.deploy(stage.folderOf(runtime), stage.hostile(runtime));
  }
  let after = await stage.canaries();
  // A flood's log is cut a moment later.
  for (let left = 100; after !== before && left > 0; left--) {
    await Bun.sleep(patienceMs(100));
    after = await stage.canaries();
  }
  return { report: readReport(text), fault: faultOf(readReport(text), before, after) };
}

/**
 * Measures with and without the probe in turn, so that what else the machine does weighs on
 * both; once more, in so many rounds, when the bound seems broken on a quiet machine.
 */
export async function measure(
  stage: Stage,
  watch: Watch,
  probe: Probe,
  runtime: Runtime,
  roundsMax: number,
  isFine = holds,
): Promise<Pressure> {
  const without: Window[] = [];
  const during: Window[] = [];
  let wanted = roundsMin;
  let idleS = 0;
  for (;;) {
    const idleBefore = idleTime();
    without.push(await windowOf(() => pressAsUsual(stage, probe, runtime)));
    idleS += idleTime() - idleBefore;
    during.push(await windowOf(() => press(stage, probe, runtime)));
    await Bun.sleep(settleMs);
    if (without.length < wanted) continue;
    const coreS = (availableParallelism() * without.length * windowMs) / 1000;
    const isQuiet = idleS >= idleMin * coreS;
    const pressure = { ...pressureIn(watch, without, during), isQuiet };
    if (isFine(pressure, probe) || !isQuiet || wanted >= roundsMax) return pressure;
    wanted = roundsMax;
  }
}

export function holds({ neighbourMs, apiMs }: Pressure, { bomb }: Probe): boolean {
  const isFast = neighbourMs.during <= slowdownMax * neighbourMs.without;
  return isFast && (bomb !== true || apiMs.during < apiMsMax);
}

/** Seconds that all cores together have idled since boot. */
function idleTime(): number {
  const ticksPerSecond = 100;
  const first = readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "";
  return Number(first.trim().split(/\s+/)[4]) / ticksPerSecond;
}

/** A bomb is compared with silence, the others with an app that does nothing bad as often. */
async function pressAsUsual(stage: Stage, probe: Probe, runtime: Runtime): Promise<void> {
  if (probe.bomb === true) await Bun.sleep(windowMs);
  else await press(stage, { ...probe, id: "nothing", arguments: () => ({}) }, runtime);
}

async function press(stage: Stage, probe: Probe, runtime: Runtime): Promise<void> {
  const end = performance.now() + windowMs;
  do await runInside(stage, probe, runtime, 1);
  while (probe.bomb !== true && performance.now() < end);
}

async function windowOf(act: () => Promise<void>): Promise<Window> {
  const from = performance.now();
  await act();
  return { from, to: performance.now() };
}

function pressureIn(
  watch: Watch,
  without: readonly Window[],
  during: readonly Window[],
): Omit<Pressure, "isQuiet"> {
  return {
    neighbourMs: {
      without: median(without.map((window) => watch.neighbourP99Ms([window]))),
      during: median(during.map((window) => watch.neighbourP99Ms([window]))),
    },
    apiMs: {
      without: median(without.map((window) => watch.apiP99Ms([window]))),
      during: median(during.map((window) => watch.apiP99Ms([window]))),
    },
  };
}

function median(values: readonly number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export const proofFile = `${repository}/docs/SECURITY-PROOF.md`;
