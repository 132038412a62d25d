/**
 * How an app's instances are shared out between its dear requests and its cheap ones, so that a
 * cheap one need not wait behind a dear one: task assignment by size, with as many instances for
 * each side as its share of the work (SITA-E; Crovella, Harchol-Balter, Murta 1998).
 */
export interface Division {
  /** Requests that cost so many CPU-µs, or more, are dear. */
  readonly dearFromUs: number;
  /** Their share of the work, 0 to 1. */
  readonly dearShare: number;
}

/** What is known of one class. */
export interface ClassWork {
  /** CPU-µs a request. */
  readonly costUs: number;
  /** Requests seen, in proportion to those of the other classes. */
  readonly requests: number;
}

/** The load that instances are thought to have: without much, nobody waits, divided or not. */
const loadAssumed = 0.8;
/** Dear requests wait longer when divided off; the mean slowdown must fall to this share. */
const worthwhileShare = 0.5;

/** Requests of one side, by sums over them: of 1, X, X² and 1/X, X being their cost. */
interface Side {
  readonly count: number;
  readonly work: number;
  readonly squares: number;
  readonly inverses: number;
}

const sideOf = (classes: readonly ClassWork[]): Side => ({
  count: sum(classes, () => 1),
  work: sum(classes, (costUs) => costUs),
  squares: sum(classes, (costUs) => costUs * costUs),
  inverses: sum(classes, (costUs) => 1 / costUs),
});

function sum(classes: readonly ClassWork[], of: (costUs: number) => number): number {
  return classes.reduce((all, { costUs, requests }) => all + requests * of(costUs), 0);
}

/**
 * Sum over a side's requests of wait/cost, on `servers` at the assumed load ρ. The mean wait is
 * that of M/G/c: E[X²]/2E[X] · ρ^(√(2(c+1)) − 1) / (c(1−ρ)) (Sakasegawa 1977, with the variance
 * by Lee and Longton 1959).
 */
function slowdowns({ count, work, squares, inverses }: Side, servers: number): number {
  if (count === 0) return 0;
  const busy = loadAssumed ** (Math.sqrt(2 * (servers + 1)) - 1) / (servers * (1 - loadAssumed));
  return ((inverses * squares) / (2 * work)) * busy;
}

/**
 * The division that leaves requests the least slowdown (wait in proportion to their cost); null:
 * none is worth it.
 */
export function divide(classes: readonly ClassWork[], instances: number): Division | null {
  if (instances < 2) return null;
  const sorted = classes
    .filter(({ costUs, requests }) => costUs > 0 && requests > 0)
    .sort((one, other) => one.costUs - other.costUs);
  const all = sideOf(sorted);
  let best: Division | null = null;
  let least = slowdowns(all, instances) * worthwhileShare;
  for (let first = 1; first < sorted.length; first += 1) {
    const [below, above] = [sorted[first - 1] as ClassWork, sorted[first] as ClassWork];
    if (below.costUs === above.costUs) continue;
    const dear = sideOf(sorted.slice(first));
    const cheap = sideOf(sorted.slice(0, first));
    const dearShare = dear.work / all.work;
    const slowdown =
      slowdowns(dear, Math.max(1, dearShare * instances)) +
      slowdowns(cheap, Math.max(1, (1 - dearShare) * instances));
    if (slowdown >= least) continue;
    least = slowdown;
    best = { dearFromUs: Math.sqrt(below.costUs * above.costUs), dearShare };
  }
  return best;
}

/** How many of so many instances, two or more, may have dear requests at a time. */
export function dearInstancesOf({ dearShare }: Division, instances: number): number {
  return Math.max(1, Math.min(instances - 1, Math.round(dearShare * instances)));
}
