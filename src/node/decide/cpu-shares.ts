// How instances share the node's C cores when together they want more. Each is owed its min, and
// of the rest as much as the others. The kernel divides by weights: siblings with weights w that
// are busy get C·w/Σw. So, counting weights in cores, with R = C − Σ min over all n instances:
//
//     idle  w = min + i     i: a quarter of R, divided among the idle ones
//     busy  w = min + b     b: what then is left of R, divided among the busy ones
//
// Σw ≤ C as long as R is not used up, so whoever is busy gets at least its w, whatever the idle
// ones begin to do: a min holds at once, without anybody having to notice. What must be noticed is
// only who takes part in the rest. One that stops being idle has i until it is seen; i is small
// beside many idle ones, and otherwise large enough to be seen by.
//
// The kernel does not divide exactly: on Linux 6.18 a group in which something wakes now and then,
// as in every server, loses up to a quarter of its part to a heavier one. So what those that want
// more got of each other's time is compared with what they were due, and weights are corrected.

/** What an instance without anything left of R weighs beyond its min. */
export const leastShareCores = 0.01;
/** Below this an instance is idle: half of what one that starves in spite of its share gets. */
export const idleCores = 0.005;

export interface CpuClaim {
  readonly minCores: number;
  readonly busy: boolean;
}

/** The weight of an instance beyond its min, in cores. */
export interface SpareCores {
  readonly busy: number;
  readonly idle: number;
}

export function spareCores(claims: Iterable<CpuClaim>, cores: number): SpareCores {
  let rest = cores;
  let busy = 0;
  let idle = 0;
  for (const claim of claims) {
    rest -= claim.minCores;
    if (claim.busy) busy += 1;
    else idle += 1;
  }
  const idleShare = Math.max(leastShareCores, toPowerOfTwo(rest / 4 / Math.max(1, idle)));
  const left = rest - idle * idleShare;
  return { busy: Math.max(leastShareCores, left / Math.max(1, busy)), idle: idleShare };
}

/** Downwards, so that the weights of many idle instances seldom change. */
function toPowerOfTwo(cores: number): number {
  return cores <= 0 ? 0 : 2 ** Math.floor(Math.log2(cores));
}

/** One that uses less of what it is due does not want it. */
const wantingPart = 0.7;
/** A use seen for a second is off by some percent: what is corrected at once, of an error. */
const correctedPower = 0.5;
export const correctionMax = 4 / 3;
/** Smaller changes are not worth writing. */
const correctionSteps = 64;

export interface CpuUse {
  /** By the rule above, in cores. */
  readonly weightCores: number;
  readonly usedCores: number;
  /** What its weight was multiplied with meanwhile. */
  readonly correction: number;
}

/** Corrections from now on, in their order, when together they want more than there is. */
export function corrections(uses: readonly CpuUse[]): readonly number[] {
  const wanting = wantingOf(wantingOf(uses));
  const due = duePerWeight(wanting);
  const compared = new Set(wanting.length < 2 ? [] : wanting);
  return uses.map((use) => {
    if (!compared.has(use)) return 1;
    const error = (due * use.weightCores) / use.usedCores;
    const wanted = use.correction * error ** correctedPower;
    const bounded = Math.min(Math.max(wanted, 1 / correctionMax), correctionMax);
    return Math.round(bounded * correctionSteps) / correctionSteps;
  });
}

function wantingOf(uses: readonly CpuUse[]): readonly CpuUse[] {
  const due = duePerWeight(uses);
  return uses.filter((use) => use.usedCores > wantingPart * due * use.weightCores);
}

function duePerWeight(uses: readonly CpuUse[]): number {
  const used = uses.reduce((sum, { usedCores }) => sum + usedCores, 0);
  return used / uses.reduce((sum, { weightCores }) => sum + weightCores, 0);
}
