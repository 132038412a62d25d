/** One instance a request could go to. */
export interface Candidate {
  /** Wᵢ: work in flight from all gateways, in the unit of `cost`. */
  readonly work: number;
  /** Sᵢ: cores it can really get, above 0. */
  readonly speed: number;
  /** What this request is thought to cost, in CPU-µs; 1 for every request until that is known. */
  readonly cost: number;
  /** Work it is charged for failures, so that failing fast does not look like being fast. */
  readonly penalty: number;
}

/** Above this quantile of Wᵢ/Sᵢ an instance is hot (Prequal, NSDI '24, 4.2). */
export const hotQuantile = 0.84;

/** More than so many are sampled: the choice stays O(1) and nearly as good. */
export const candidatesMax = 32;

/** Below so many candidates the quantile is the greatest of them, so that none can be hot. */
const hotCountMin = Math.ceil(1 / (1 - hotQuantile));

const ratioOf = (candidate: Candidate) => (candidate.work + candidate.penalty) / candidate.speed;

const ratioWith = (candidate: Candidate) =>
  (candidate.work + candidate.penalty + candidate.cost) / candidate.speed;

/**
 * Which candidate takes the request: among those that are not hot the least (Wᵢ + cost)/Sᵢ, at
 * random among equals; if all are hot the least Wᵢ/Sᵢ. Returns an index, or -1 of none.
 *
 * @param random a float in [0, 1).
 */
export function choose(candidates: readonly Candidate[], random: () => number): number {
  const count = candidates.length;
  if (count <= 1) return count - 1;
  if (count > candidatesMax) return chooseSampled(candidates, random);
  const bound = count < hotCountMin ? Number.POSITIVE_INFINITY : hotBound(candidates);
  const cold = least(candidates, ratioWith, bound, random);
  return cold >= 0 ? cold : least(candidates, ratioOf, Number.POSITIVE_INFINITY, random);
}

function chooseSampled(candidates: readonly Candidate[], random: () => number): number {
  const indices: number[] = [];
  for (let taken = 0; taken < candidatesMax; taken += 1) {
    indices.push(Math.floor(random() * candidates.length));
  }
  const sample = indices.map((index) => candidates[index] as Candidate);
  return indices[choose(sample, random)] as number;
}

/** Filled and read within one call: a choice is made for every request, and allocates nothing. */
const sorted = new Float64Array(candidatesMax);

/** The quantile of Wᵢ/Sᵢ by nearest rank. */
function hotBound(candidates: readonly Candidate[]): number {
  for (let count = 0; count < candidates.length; count += 1) {
    const ratio = ratioOf(candidates[count] as Candidate);
    let at = count;
    for (; at > 0 && (sorted[at - 1] as number) > ratio; at -= 1) {
      sorted[at] = sorted[at - 1] as number;
    }
    sorted[at] = ratio;
  }
  return sorted[Math.ceil(hotQuantile * candidates.length) - 1] as number;
}

function least(
  candidates: readonly Candidate[],
  measure: (candidate: Candidate) => number,
  hotAbove: number,
  random: () => number,
): number {
  let best = -1;
  let bestValue = Number.POSITIVE_INFINITY;
  let equals = 0;
  for (let index = 0; index < candidates.length; index += 1) {
    const candidate = candidates[index] as Candidate;
    if (ratioOf(candidate) > hotAbove) continue;
    const value = measure(candidate);
    if (value < bestValue) {
      best = index;
      bestValue = value;
      equals = 1;
    } else if (value === bestValue) {
      equals += 1;
      if (random() * equals < 1) best = index;
    }
  }
  return best;
}
