import { answerWell } from "./app.ts";
import type { Seed } from "./corpus.ts";
import { judge } from "./judge.ts";
import { appHost } from "./memory-gateway.ts";
import { cutAnywhere, mutatedStream } from "./mutate.ts";
import { Dice } from "./random.ts";
import type { World } from "./world.ts";

export interface Finding {
  readonly index: number;
  readonly sent: string;
  readonly faults: readonly string[];
}

export interface Sum {
  cases: number;
  /** Requests in what clients sent. */
  requests: number;
  /** Requests that the app got. */
  forwarded: number;
  /** Cases that ended with a refusal by the gateway. */
  refused: number;
  /** Cases in which nothing went on to the app. */
  stopped: number;
  readonly findings: Finding[];
}

export const emptySum = (): Sum => ({
  cases: 0,
  requests: 0,
  forwarded: 0,
  refused: 0,
  stopped: 0,
  findings: [],
});

export const withHost = (text: string, host: string): string => text.replaceAll("{host}", host);

/** Case `index` of the run with this seed, alone or after others. */
export function runRequestCase(
  world: World,
  corpus: readonly Seed[],
  seed: number,
  index: number,
  sum: Sum,
): void {
  const dice = Dice.of(seed, index);
  runStream(world, withHost(mutatedStream(dice, corpus), appHost), dice, index, sum);
}

export function runStream(world: World, sent: string, dice: Dice, index: number, sum: Sum): void {
  const early = dice.once(10);
  const outcome = world.run({
    dice,
    chunks: cutAnywhere(Buffer.from(sent, "latin1"), dice),
    answer: answerWell,
    early,
    silent: dice.once(16),
    watcher: null,
  });
  const { faults, forwarded, refused } = judge(sent, outcome, early);
  sum.cases += 1;
  sum.requests += 1;
  sum.forwarded += forwarded;
  if (refused) sum.refused += 1;
  if (forwarded === 0) sum.stopped += 1;
  if (faults.length > 0) sum.findings.push({ index, sent, faults });
}
