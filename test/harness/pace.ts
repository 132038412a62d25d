// Time limits of tests end what hangs; none of them measures speed. An emulated machine needs
// more time for everything: the rig says how many times more, and every limit grows by that.

/** 1: a real machine. */
export const slowness = Number(process.env["LODE_TEST_SLOWNESS"] || 1);

/** As long as `durationMs` is on a real machine. */
export function patienceMs(durationMs: number): number {
  return durationMs * slowness;
}
