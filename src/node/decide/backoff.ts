/** The first restart comes after so long, each further one after twice the one before. */
const firstDelayMs = 250;
const delayMsMax = 60_000;
/** A process that ran for so long was stable: the next failure counts as the first again. */
export const stableAfterMs = 120_000;
/** Starts of a process that was never healthy before it counts as failed. */
export const attemptsMax = 3;

/**
 * Exponential back-off with ± 25 % of jitter, so that instances which failed together do not
 * come back together. `failures` counts consecutive ones, from 1; `jitter` is in [0, 1).
 */
export function restartDelayMs(failures: number, jitter: number): number {
  const doublings = Math.min(failures - 1, 20);
  const delayMs = Math.min(delayMsMax, firstDelayMs * 2 ** doublings);
  return Math.round(delayMs * (0.75 + 0.5 * jitter));
}
