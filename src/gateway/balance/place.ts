import { type Candidate, choose } from "./choose.ts";
import { type Division, dearInstancesOf } from "./division.ts";

/** A candidate of an app whose dear requests are kept together. */
export interface DividedCandidate extends Candidate {
  /** Dear requests in flight, from all gateways. */
  readonly dear: number;
  /** CPU-µs of the requests it got lately. */
  readonly used: number;
}

/**
 * Dear requests queue behind one another so long as one of their instances has no more left to
 * do than so many of them: their share of the work was measured in the past, and may have grown.
 */
const queuedDearMax = 4;

/** Filled and read within one call: a choice is made for every request, and allocates nothing. */
const eligible: DividedCandidate[] = [];

/**
 * Which candidate takes a dear request: as an index, or -1 of none. It queues behind other dear
 * ones when as many instances have some as are their due; otherwise it goes to one that has none,
 * and there to the one that was used least lately. So the instances with dear requests are others
 * from moment to moment, and in the long run all get as much to do.
 *
 * A cheap request needs only `choose`, its candidates' work being that of `workForCheap`.
 */
export function placeDear(
  candidates: readonly DividedCandidate[],
  division: Division,
  random: () => number,
): number {
  const joins = joinsDear(candidates, division);
  eligible.length = 0;
  for (const candidate of candidates) {
    if (candidate.dear > 0 === joins) eligible.push(candidate);
  }
  const index = joins ? choose(eligible, random) : leastUsed(eligible);
  return index < 0 ? -1 : candidates.indexOf(eligible[index] as DividedCandidate);
}

/**
 * Work as a cheap request reckons with it: that of dear ones is known least well, as what was
 * spent on them already is a guess, so that an instance with some must be well ahead to be taken.
 */
export function workForCheap(work: number, dear: number, division: Division): number {
  return dear > 0 ? work + division.dearFromUs : work;
}

function joinsDear(candidates: readonly DividedCandidate[], division: Division): boolean {
  let having = 0;
  let leastInTurns = Number.POSITIVE_INFINITY;
  for (const { dear, work, cost } of candidates) {
    if (dear <= 0) continue;
    having += 1;
    leastInTurns = Math.min(leastInTurns, work / cost);
  }
  if (having === candidates.length) return true;
  return leastInTurns <= queuedDearMax && having >= dearInstancesOf(division, candidates.length);
}

/** One that failed lately only if all did. */
function leastUsed(candidates: readonly DividedCandidate[]): number {
  let best = -1;
  for (let index = 0; index < candidates.length; index += 1) {
    const candidate = candidates[index] as DividedCandidate;
    const other = candidates[best];
    if (other === undefined || isBefore(candidate, other)) best = index;
  }
  return best;
}

function isBefore(one: DividedCandidate, other: DividedCandidate): boolean {
  if (one.penalty !== other.penalty) return one.penalty < other.penalty;
  return one.used / one.speed < other.used / other.speed;
}
