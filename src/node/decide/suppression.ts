import type { Timestamp } from "../../base/time.ts";

// Weights divide the cores' time, but say nothing of when: beside one that keeps every core busy a
// request waits for the scheduler's tick, or for the end of somebody's system call, four times on
// its way. So what is batch work at this moment is kept off some cores while others are asked.
//
//   batch   uses more than its min and than `batchCores`, and for each request it gets more than
//           `batchSeconds`: nobody waits for it who would notice a millisecond
//   asked   got a request of late and is not batch
//
// With somebody asked, batch work runs on the machine's first cores only, and as many of the last
// ones as the rest uses, at least one and at most half, are free of it. What it is guaranteed holds
// there: the mins of all that is confined fit onto the cores left to it, or fewer are taken, or
// none. One without a min also yields there, unless the rest needs more than the free cores: then
// weights decide, as ever. Nobody asked: nothing is confined.

/** Of a core, smoothed; what uses less is met too seldom to matter. */
export const batchCores = 0.3;
/** CPU time for a request that somebody waits for at most. */
export const batchSeconds = 0.05;
/** After its last sign something still counts as batch, or as asked. */
export const signMs = 2000;

/** Where a cgroup's processes may run, and after whom. */
export interface Confinement {
  /** On the machine's first cores, so many of them. */
  readonly cores: number;
  /** Whoever else wakes there runs at once: it gets what is left, whatever its weight. */
  readonly yields: boolean;
}

export interface Runner {
  readonly minCores: number;
  /** Of late. */
  readonly usedCores: number;
  readonly requestsPerSecond: number;
  /** When it got its last request; null: it gets none. */
  readonly askedAt: Timestamp | null;
  /** When it was last seen to be batch work; null: never. */
  readonly batchAt: Timestamp | null;
}

export function isBatch({ minCores, usedCores, requestsPerSecond }: Runner): boolean {
  const isHot = usedCores >= batchCores && usedCores > minCores;
  return isHot && usedCores > batchSeconds * requestsPerSecond;
}

/** Where each of them may run, in their order; null: everywhere. */
export function confinements(
  runners: readonly Runner[],
  cores: number,
  now: Timestamp,
): readonly (Confinement | null)[] {
  const since = now - signMs;
  const batch = runners.filter(({ batchAt }) => batchAt !== null && batchAt >= since);
  const others = runners.filter((runner) => !batch.includes(runner));
  const isAsked = others.some(({ askedAt }) => askedAt !== null && askedAt >= since);
  const guaranteed = batch.reduce((sum, { minCores }) => sum + minCores, 0);
  const used = others.reduce((sum, { usedCores }) => sum + usedCores, 0);
  const wanted = Math.max(1, Math.ceil(used));
  const free = Math.min(wanted, Math.floor(cores / 2), Math.floor(cores - guaranteed));
  if (!isAsked || free < 1) return runners.map(() => null);
  return runners.map((runner) => {
    if (!batch.includes(runner)) return null;
    return { cores: cores - free, yields: runner.minCores === 0 && used <= free };
  });
}
