import { expect, test } from "bun:test";
import fc from "fast-check";
import { type CpuClaim, leastShareCores, spareCores } from "./cpu-shares.ts";

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
