import { loadavg } from "node:os";
import { format, target } from "../report.ts";
import { type Latencies, quantile } from "./load.ts";

export const balancingTitle = "Balancing by cost";
/** In the documents' folder. */
export const plotPath = "plots/balancing.svg";
export const plotTitle = "Latency of cheap requests, by the share that is faster";

export interface Measured extends Latencies {
  readonly name: string;
  /** Of the instances' CPU over the run: the greatest, in proportion to the mean. */
  readonly imbalance: number;
  /** Cores used by all instances, in proportion to what they may use. */
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

export const tableHeader =
  "| | cheap p50 ms | p90 | p99 | dear p50 | p99 | max/mean CPU | load | n | failed |\n" +
  "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

export function rowOf(measured: Measured): string {
  const { name, cheapMs, dearMs, failed, imbalance, utilisation } = measured;
  const cells = [
    ...[0.5, 0.9, 0.99].map((share) => format(quantile(cheapMs, share))),
    ...[0.5, 0.99].map((share) => format(quantile(dearMs, share))),
    imbalance.toFixed(3),
    `${(utilisation * 100).toFixed(0)} %`,
    String(cheapMs.length + dearMs.length),
    String(failed),
  ];
  return `| ${name} | ${cells.join(" | ")} |`;
}

/** Whether the goals are met: a line for each. */
export function goalsOf(lode: Measured, oracle: Measured, peers: readonly Measured[]) {
  const p99 = ({ cheapMs }: Measured) => quantile(cheapMs, 0.99);
  return [
    ...peers.map((peer) =>
      target(`cheap route's p99 ≤ 0.1 of ${peer.name}'s`, p99(lode) / p99(peer), 0.1, ""),
    ),
    target("cheap route's p99 ≤ 1.3 of the oracle's", p99(lode) / p99(oracle), 1.3, ""),
    target("max/mean CPU of Lode's instances ≤ 1.05", lode.imbalance, 1.05, ""),
  ];
}

export function goalLines(goals: ReturnType<typeof goalsOf>): readonly string[] {
  return goals.map(
    ({ says, measured, met }) => `- ${met ? "met" : "**not met**"}: ${says} — ${measured}`,
  );
}

/** @param costs what `lode costs` said after Lode's turn */
export function renderBalancing(
  setting: Setting,
  results: readonly Measured[],
  goals: readonly string[],
  costs: string,
): string {
  const { instances, coresEach, cheapMs, dearMs, requestsPerSecond, seconds, seed } = setting;
  const [loadBefore = 0] = loadavg();
  return [
    `## ${balancingTitle}`,
    "",
    "This section is from a run by itself (`npm run bench:balancing`, " +
      `${new Date().toISOString().slice(0, 10)}; load average at its end ${format(loadBefore)}).`,
    "",
    `${instances} instances of one app, each capped at ${coresEach} cores, two routes: ` +
      `/cheap uses ${format(cheapMs)} CPU-ms a request, /dear ${format(dearMs)}; each gets ` +
      `half of the work. Open-loop Poisson arrivals, ${format(requestsPerSecond)} a second, that ` +
      `is ${format(setting.load * 100)} % load, from one list (seed ${seed}, ${seconds} s) for ` +
      "all contestants, one after the other, in front of the same instances. Lode learned the " +
      "costs from other requests just before; the oracle is told them, sees every request and " +
      "every instance, sends without a proxy, and places by the rule that Lode has.",
    "",
    tableHeader,
    ...results.map(rowOf),
    "",
    `![${plotTitle}](${plotPath})`,
    "",
    ...goals,
    "",
    "What `lode costs` said:",
    "",
    "```",
    costs,
    "```",
  ].join("\n");
}
