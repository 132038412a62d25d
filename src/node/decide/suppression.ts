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
//
// What spends nearly all its time inside the kernel is rationed as well. A program's own code is
// interrupted when somebody wakes; a system call is not on most kernels, and what it leaves behind
// (memory to free, pages to write) the kernel does in whoever comes next. So it gets a tenth of the
// cores that are left to it, or its min if that is more, and nine tenths of all instants are free.
// Unpacking an archive looks the same: so not within the first second of it, and no build.

/** Of a core, smoothed; what uses less is met too seldom to matter. */
export const batchCores = 0.3;
/** CPU time for a request that somebody waits for at most. */
export const batchSeconds = 0.05;
/** After its last sign something still counts as batch, or as asked. */
export const signMs = 2000;
/** Part of its CPU time inside the kernel: most work stays below 0.6, what floods it above 0.9. */
export const kernelShareMin = 0.8;
/** A ration ends below this: near one bound it would come and go. */
export const kernelShareKept = 2 / 3;
/** Of the cores that it is confined to. */
export const rationShare = 0.1;

/** Part of a ration that counts as all of it. */
const rationUsed = 0.8;
/**
 * Of CPU time, after which a third of an old share is left; whoever begins has worked inside the
 * kernel for 0.8 s before that tells.
 */
const kernelMemorySeconds = 0.5;

/** Where a cgroup's processes may run, and after whom. */
export interface Confinement {
  /** On the machine's first cores, so many of them. */
  readonly cores: number;
  /** Whoever else wakes there runs at once: it gets what is left, whatever its weight. */
  readonly yields: boolean;
  /** So much of these cores' time at most; null: all that is left. */
  readonly rationCores: number | null;
}

export interface Runner {
  readonly minCores: number;
  /** Of late. */
  readonly usedCores: number;
  readonly requestsPerSecond: number;
  /** Of its CPU time, the part inside the kernel of late; 0 while nobody looks. */
  readonly kernelShare: number;
  /** Somebody waits for its end: it is never rationed. */
  readonly isAwaited: boolean;
  /** What it is held to now. */
  readonly rationCores: number | null;
  /** When it got its last request; null: it gets none. */
  readonly askedAt: Timestamp | null;
  /** When it was last seen to be batch work; null: never. */
  readonly batchAt: Timestamp | null;
}

export function isBatch(runner: Runner): boolean {
  const { minCores, usedCores, requestsPerSecond, rationCores } = runner;
  // Who uses up a ration would use more.
  const usesItUp = rationCores !== null && usedCores >= rationUsed * rationCores;
  const isHot = usesItUp || (usedCores >= batchCores && usedCores > minCores);
  return isHot && usedCores > batchSeconds * requestsPerSecond;
}

/** `share` after `usedSeconds` more of CPU time, of which `newest` is the part in the kernel. */
export function kernelShareAfter(share: number, newest: number, usedSeconds: number): number {
  return newest + (share - newest) * Math.exp(-usedSeconds / kernelMemorySeconds);
}

function rationOf(runner: Runner, coresLeft: number): number | null {
  const bound = runner.rationCores === null ? kernelShareMin : kernelShareKept;
  if (runner.isAwaited || runner.kernelShare < bound) return null;
  return Math.max(runner.minCores, rationShare * coresLeft);
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
    const left = cores - free;
    const yields = runner.minCores === 0 && used <= free;
    return { cores: left, yields, rationCores: rationOf(runner, left) };
  });
}
