import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  type CpuClaim,
  type CpuUse,
  correctionMax,
  corrections,
  leastShareCores,
  spareCores,
} from "./cpu-shares.ts";

/** What each claim gets of the cores when those in `wanting` want all they can get. */
function granted(
  claims: readonly CpuClaim[],
  cores: number,
  wanting: (claim: CpuClaim) => boolean,
) {
  const spare = spareCores(claims, cores);
  const weights = claims.map((claim) =>
    wanting(claim) ? claim.minCores + (claim.busy ? spare.busy : spare.idle) : 0,
  );
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => (cores * weight) / sum);
}

const busy = (minCores: number): CpuClaim => ({ minCores, busy: true });
const idle = (minCores: number): CpuClaim => ({ minCores, busy: false });
const anyone = () => true;
const theBusy = (claim: CpuClaim) => claim.busy;

test("each busy one gets its min and as much of the rest as the others", () => {
  const cores = granted([busy(1), busy(0)], 2, anyone);
  expect(cores).toEqual([1.5, 0.5]);
  expect(granted([busy(0), busy(0)], 2, anyone)).toEqual([1, 1]);
});

test("mins alone count when they take all there is", () => {
  const [large = 0, small = 0] = granted([busy(1.5), busy(0.5)], 2, anyone);
  expect(Math.abs(large / small - 3)).toBeLessThan(0.15);
});

test("one without a min is not starved by a busy one that has it, whatever else is idle", () => {
  const sleepers = Array.from({ length: 100 }, () => idle(0));
  const [reserved = 0, plain = 0] = granted([busy(0.5), busy(0), ...sleepers], 2, theBusy);
  expect(plain).toBeGreaterThan(0.4);
  expect(reserved).toBeGreaterThan(plain);
});

test("idle ones of a small number are worth something before anybody has seen them", () => {
  const [, late = 0] = granted([busy(1), idle(0)], 2, anyone);
  expect(late).toBeGreaterThanOrEqual(0.25);
});

test("every min holds whoever begins to want how much", () => {
  const claim = fc.record({
    minCores: fc.double({ min: 0, max: 3, noNaN: true }),
    busy: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(claim, { minLength: 1, maxLength: 60 }), fc.integer(), (claims, seed) => {
      const reserved = claims.reduce((sum, { minCores }) => sum + minCores, 0);
      // What the scheduler and the least share leave room for.
      const cores = Math.ceil(reserved + claims.length * leastShareCores) + 1;
      const wanting = new Set(claims.filter((_, index) => (seed >> (index % 31)) & 1));
      const shares = granted(claims, cores, (one) => wanting.has(one));
      for (const [index, one] of claims.entries()) {
        if (wanting.has(one)) expect(shares[index]).toBeGreaterThanOrEqual(one.minCores - 1e-9);
      }
    }),
  );
});

interface Runner {
  readonly weightCores: number;
  /** What it would use of an empty machine. */
  readonly wantedCores: number;
  /** What the kernel makes of its weight. */
  readonly bias: number;
}

/** Uses after so many rounds of a kernel that divides `cores` by biased weights. */
function settled(runners: readonly Runner[], cores: number, rounds: number): readonly CpuUse[] {
  let uses: readonly CpuUse[] = [];
  let found = runners.map(() => 1);
  for (let round = 0; round < rounds; round++) {
    const used = runners.map(() => 0);
    let left = cores;
    for (let open = runners.map((_, index) => index); open.length > 0 && left > 1e-9; ) {
      const weight = (index: number) => {
        const { weightCores, bias } = runners[index] as Runner;
        return weightCores * bias * (found[index] ?? 1);
      };
      const sum = open.reduce((total, index) => total + weight(index), 0);
      const part = left;
      for (const index of open) {
        const more = (runners[index]?.wantedCores ?? 0) - (used[index] ?? 0);
        const got = Math.min(more, (part * weight(index)) / sum);
        used[index] = (used[index] ?? 0) + got;
        left -= got;
      }
      open = open.filter((index) => (used[index] ?? 0) < (runners[index]?.wantedCores ?? 0) - 1e-9);
    }
    const before = found;
    uses = runners.map(({ weightCores }, index) => {
      return { weightCores, usedCores: used[index] ?? 0, correction: before[index] ?? 1 };
    });
    found = [...corrections(uses)];
  }
  return uses;
}

test("what the kernel takes from the lighter one is given back within seconds", () => {
  const heavy = { weightCores: 1.5, wantedCores: 2, bias: 1 };
  const light = { weightCores: 0.5, wantedCores: 2, bias: 0.82 };
  const [first, second] = settled([heavy, light], 2, 1);
  expect((first?.usedCores ?? 0) / 2).toBeGreaterThan(0.78);
  const [ours, theirs] = settled([heavy, light], 2, 6);
  expect(ours?.usedCores).toBeWithin(1.485, 1.515);
  expect(theirs?.usedCores).toBeWithin(0.485, 0.515);
  expect(second?.correction).toBe(1);
});

test("who uses less than its part is left alone, and so are the others for its sake", () => {
  const modest = { weightCores: 1, wantedCores: 0.3, bias: 1 };
  const greedy = { weightCores: 0.5, wantedCores: 2, bias: 1 };
  for (const { correction } of settled([modest, greedy, greedy], 2, 10)) {
    expect(correction).toBe(1);
  }
  for (const { correction } of settled([modest, greedy], 2, 10)) expect(correction).toBe(1);
  expect(corrections([])).toEqual([]);
  expect(corrections([{ weightCores: 1, usedCores: 0, correction: 1 }])).toEqual([1]);
});

test("however the kernel divides, corrections are bounded and bring each nearer to its due", () => {
  const runner = fc.record({
    weightCores: fc.double({ min: 0.1, max: 4, noNaN: true }),
    bias: fc.double({ min: 0.9, max: 1.1, noNaN: true }),
  });
  const runners = fc.array(runner, { minLength: 2, maxLength: 6 });
  fc.assert(
    fc.property(runners, (all) => {
      const wanting = all.map((one) => ({ ...one, wantedCores: 8 }));
      const sum = all.reduce((total, { weightCores }) => total + weightCores, 0);
      for (const { weightCores, usedCores, correction } of settled(wanting, 8, 30)) {
        expect(correction).toBeWithin(1 / correctionMax - 0.01, correctionMax + 0.01);
        expect(usedCores / ((8 * weightCores) / sum)).toBeWithin(0.97, 1.03);
      }
    }),
    { seed: 2 },
  );
});
