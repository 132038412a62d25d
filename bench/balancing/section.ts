import { lineChart } from "../../tools/plot/lines.ts";
import { percentile, percentileOfSorted, readable } from "../../tools/plot/numbers.ts";
import { logarithmicScale, ninesScale } from "../../tools/plot/scale.ts";
import type { Picture } from "../pictures.ts";
import { type TargetLine, target, targetLine } from "../report.ts";
import type { Run } from "../runs.ts";
import type { Latencies } from "./load.ts";

export interface Measured extends Latencies {
  readonly name: string;
  /** Of the instances' CPU over the run: the greatest, in proportion to the mean. */
  readonly imbalance: number;
  /** Cores used by all instances until the last answer, in proportion to what they may use. */
  readonly utilisation: number;
}

/** What was measured with. */
export interface Setting {
  readonly instances: number;
  readonly coresEach: number;
  readonly cheapMs: number;
  readonly dearMs: number;
  readonly requestsPerSecond: number;
  readonly seconds: number;
  readonly seed: number;
  readonly load: number;
}

/** What is left to tell of a run when another has taken its place. */
export interface Earlier {
  readonly begunAt: string;
  readonly loadBefore: number;
  readonly seconds: number;
  readonly imbalance: number;
  /** Of all contestants, Lode first. */
  readonly cheapP99Ms: Readonly<Record<string, number>>;
  readonly failed: number;
  readonly goalsMet: boolean;
}

export interface Balancing {
  readonly setting: Setting;
  readonly lode: Measured;
  readonly oracle: Measured;
  readonly peers: readonly Measured[];
  /** What `lode costs` said after Lode's turn. */
  readonly costs: string;
  /** On this machine, the oldest first: one run may be luck. */
  readonly earlier: readonly Earlier[];
}

const resultsOf = ({ lode, oracle, peers }: Balancing) => [lode, oracle, ...peers];

const cheapP99Ms = ({ cheapMs }: Measured) => percentile(cheapMs, 99);

export const tableHeader =
  "| | cheap p50 ms | p90 | p99 | dear p50 | p99 | max/mean CPU | load | n | failed |\n" +
  "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

export function rowOf(measured: Measured): string {
  const { name, cheapMs, dearMs, failed, imbalance, utilisation } = measured;
  const cells = [
    ...[50, 90, 99].map((percent) => readable(percentile(cheapMs, percent))),
    ...[50, 99].map((percent) => readable(percentile(dearMs, percent))),
    imbalance.toFixed(3),
    `${(utilisation * 100).toFixed(0)} %`,
    String(cheapMs.length + dearMs.length),
    String(failed),
  ];
  return `| ${name} | ${cells.join(" | ")} |`;
}

/** Whether the goals are met. */
export function goalsOf({ lode, oracle, peers }: Balancing): readonly TargetLine[] {
  const ours = cheapP99Ms(lode);
  return [
    ...peers.map((peer) =>
      target(`cheap route's p99 ≤ 0.1 of ${peer.name}'s`, ours / cheapP99Ms(peer), 0.1, ""),
    ),
    target("cheap route's p99 ≤ 1.3 of the oracle's", ours / cheapP99Ms(oracle), 1.3, ""),
    target("max/mean CPU of Lode's instances ≤ 1.05", lode.imbalance, 1.05, ""),
  ];
}

/** Of a run that is kept, and those that it tells of. */
export function earlierOf(run: Run): readonly Earlier[] {
  const balancing = run.data as Balancing;
  const results = resultsOf(balancing);
  const summary: Earlier = {
    begunAt: run.circumstances.begunAt,
    loadBefore: run.circumstances.loadBefore,
    seconds: balancing.setting.seconds,
    imbalance: balancing.lode.imbalance,
    cheapP99Ms: Object.fromEntries(results.map((each) => [each.name, cheapP99Ms(each)])),
    failed: results.reduce((sum, each) => sum + each.failed, 0),
    goalsMet: goalsOf(balancing).every(({ met }) => met),
  };
  return [...balancing.earlier, summary];
}

export function balancingLines(balancing: Balancing): readonly string[] {
  const { setting, costs, earlier } = balancing;
  const { instances, coresEach, cheapMs, dearMs, requestsPerSecond, seconds, seed } = setting;
  return [
    `${instances} instances of one app, each capped at ${coresEach} cores, two routes: ` +
      `/cheap uses ${readable(cheapMs)} CPU-ms a request, /dear ${readable(dearMs)}; each gets ` +
      `half of the work. Open-loop Poisson arrivals, ${readable(requestsPerSecond)} a second, ` +
      `that is ${readable(setting.load * 100)} % load, from one list (seed ${seed}, ` +
      `${seconds} s) for all contestants, one after the other, in front of the same instances. ` +
      "Lode learned the costs from other requests just before; the oracle is told them, sees " +
      "every request and every instance, sends without a proxy, and places by the rule that " +
      "Lode has. Load is that of the time until the last answer.",
    "",
    tableHeader,
    ...resultsOf(balancing).map(rowOf),
    "",
    ...lostLines(balancing),
    ...goalsOf(balancing).map(targetLine),
    "",
    ...earlierLines(earlier),
    "What `lode costs` said:",
    "",
    "```",
    costs,
    "```",
  ];
}

function lostLines(balancing: Balancing): readonly string[] {
  const lost = resultsOf(balancing).filter(({ failed }) => failed > 0);
  if (lost.length === 0) return [];
  const each = lost.map(({ name, failed, cheapMs, dearMs }) => {
    return `${failed} of ${cheapMs.length + dearMs.length + failed} in the turn of ${name}`;
  });
  return [`Requests without an answer, which are in no latency: ${each.join(", ")}.`, ""];
}

function earlierLines(earlier: readonly Earlier[]): readonly string[] {
  if (earlier.length === 0) return [];
  const names = [...new Set(earlier.flatMap((run) => Object.keys(run.cheapP99Ms)))];
  const titles = names.map((name) => ` ${name} p99 ms |`).join("");
  const rows = earlier.map((run) => {
    const latencies = names.map((name) => readable(run.cheapP99Ms[name] ?? Number.NaN));
    const cells = [
      ...[run.begunAt.slice(0, 16).replace("T", " "), readable(run.loadBefore)],
      ...[`${run.seconds}`, ...latencies, run.imbalance.toFixed(3), `${run.failed}`],
      run.goalsMet ? "all met" : "**not all met**",
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return [
    "Earlier runs on the same machine, all that were kept, of the cheap route:",
    "",
    `| begun (UTC) | load average | s |${titles} max/mean CPU | failed | goals |`,
    `|---|${"---:|".repeat(4 + names.length)}---|`,
    ...rows,
    "",
  ];
}

const percentMax = 99.9;

/** The shares that a curve is drawn at, the nines spread out. */
const shares = Array.from({ length: 151 }, (_, step) => 1 - (1 - percentMax / 100) ** (step / 150));

export function balancingPictures(balancing: Balancing): readonly Picture[] {
  const title = "Latency of cheap requests, by the share that is faster";
  const lines = resultsOf(balancing).map(({ name, cheapMs }) => {
    const sorted = cheapMs.toSorted((one, other) => one - other);
    const points = shares.map((x) => ({ x, y: percentileOfSorted(sorted, x * 100) }));
    return { name, points };
  });
  const drawn = lines.flatMap(({ points }) => points.map(({ y }) => y));
  const svg = lineChart({
    title,
    note:
      "A request at 99 % is slower than 99 of a hundred; " +
      `on the right the ${percentMax}th percentiles.`,
    across: { label: "share of the requests that are faster", scale: ninesScale(percentMax / 100) },
    up: { label: "ms", scale: logarithmicScale(Math.min(...drawn), Math.max(...drawn)) },
    lines,
  });
  return [{ file: "balancing.svg", title, svg }];
}
