import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Candidate, candidatesMax, choose, hotQuantile } from "./choose.ts";
import { afterFailure, noPenalty, penaltyAt, penaltyHalfLifeMs, penaltyMax } from "./penalty.ts";

/** Every index the rule allows, written down without regard to speed. */
function naiveChoices(candidates: readonly Candidate[]): readonly number[] {
  const ratio = (c: Candidate) => (c.work + c.penalty) / c.speed;
  const sorted = candidates.map(ratio).sort((a, b) => a - b);
  const bound = sorted[Math.ceil(hotQuantile * sorted.length) - 1] ?? 0;
  const cold = candidates.filter((c) => ratio(c) <= bound);
  const value = (c: Candidate) => (c.work + c.penalty + c.cost) / c.speed;
  const best = Math.min(...cold.map(value));
  return candidates.flatMap((c, index) => (ratio(c) <= bound && value(c) === best ? [index] : []));
}

const candidate = fc.record({
  work: fc.integer({ min: 0, max: 20 }),
  speed: fc.constantFrom(0.25, 0.5, 1, 2, 4),
  cost: fc.constant(1),
  penalty: fc.constantFrom(0, 0, 0, 8),
});

test("agrees with the naive twin", () => {
  fc.assert(
    fc.property(
      fc.array(candidate, { minLength: 1, maxLength: candidatesMax }),
      fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 40 }),
      (candidates, randoms) => {
        let next = 0;
        const random = () => randoms[next++ % randoms.length] as number;
        expect(naiveChoices(candidates)).toContain(choose(candidates, random));
      },
    ),
    { numRuns: 3000, seed: 1 },
  );
});

function seeded(): () => number {
  let seed = 1;
  return () => {
    seed = (seed * 16_807) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
}

test("nobody to choose from, and one", () => {
  const only = { work: 9, speed: 1, cost: 1, penalty: 0 };
  expect(choose([], () => 0)).toBe(-1);
  expect(choose([only], () => 0)).toBe(0);
});

test("equals are taken equally often", () => {
  const equal = Array.from({ length: 5 }, () => ({ work: 1, speed: 1, cost: 1, penalty: 0 }));
  const counts = [0, 0, 0, 0, 0];
  const random = seeded();
  for (let run = 0; run < 10_000; run += 1) {
    const index = choose(equal, random);
    counts[index] = (counts[index] ?? 0) + 1;
  }
  for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(300);
});

test("of very many, a sample finds a free instance among busy ones", () => {
  const many = Array.from({ length: 320 }, (_, index) => ({
    work: index % 5 === 0 ? 0 : 10,
    speed: 1,
    cost: 1,
    penalty: 0,
  }));
  const random = seeded();
  let free = 0;
  for (let run = 0; run < 1000; run += 1) free += choose(many, random) % 5 === 0 ? 1 : 0;
  // 32 draws miss the free fifth once in 1,262 times.
  expect(free).toBeGreaterThan(990);
});

test("a penalty grows with failures to its bound and fades", () => {
  let penalty = afterFailure(noPenalty, 1000);
  expect(penaltyAt(penalty, 1000)).toBe(8);
  expect(penaltyAt(penalty, 1000 + penaltyHalfLifeMs)).toBe(4);
  for (let failure = 0; failure < 1000; failure += 1) penalty = afterFailure(penalty, 1000);
  expect(penaltyAt(penalty, 1000)).toBe(penaltyMax);
  expect(penaltyAt(penalty, 1000 + 20 * penaltyHalfLifeMs)).toBe(0);
});

test("an instance that fails at once is avoided although it is always free", () => {
  let penalty = noPenalty;
  let failures = 0;
  for (let request = 0; request < 1000; request += 1) {
    const now = request * 10;
    const candidates = [
      { work: 0, speed: 1, cost: 1, penalty: penaltyAt(penalty, now) },
      { work: 3, speed: 1, cost: 1, penalty: 0 },
    ];
    if (choose(candidates, () => 0) !== 0) continue;
    failures += 1;
    penalty = afterFailure(penalty, now);
  }
  expect(failures).toBeLessThan(10);
  expect(failures).toBeGreaterThan(1);
});
