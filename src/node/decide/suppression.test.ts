import { expect, test } from "bun:test";
import fc from "fast-check";
import { confinements, isBatch, type Runner, signMs } from "./suppression.ts";

const now = 1_000_000;

function runner(some: Partial<Runner>): Runner {
  const still = { minCores: 0, usedCores: 0, requestsPerSecond: 0, askedAt: null, batchAt: null };
  return { ...still, ...some };
}

const hog = runner({ usedCores: 1.6, batchAt: now });
const asked = runner({ usedCores: 0.1, requestsPerSecond: 100, askedAt: now - 500 });

test("batch is what uses much of its own accord, or for few and long requests", () => {
  expect(isBatch(runner({ usedCores: 1 }))).toBe(true);
  expect(isBatch(runner({ usedCores: 1, requestsPerSecond: 1 }))).toBe(true);
  expect(isBatch(runner({ usedCores: 2, requestsPerSecond: 500 }))).toBe(false);
  expect(isBatch(runner({ usedCores: 0.2 }))).toBe(false);
  expect(isBatch(runner({ usedCores: 0.9, minCores: 1 }))).toBe(false);
});

test("beside an app that is asked it leaves a core, and yields on the others", () => {
  expect(confinements([hog, asked], 2, now)).toEqual([{ cores: 1, yields: true }, null]);
  expect(confinements([hog, asked], 8, now)).toEqual([{ cores: 7, yields: true }, null]);
});

test("nobody is asked: it may run everywhere", () => {
  const before = { ...asked, askedAt: now - signMs - 1 };
  expect(confinements([hog, before], 2, now)).toEqual([null, null]);
  expect(confinements([hog], 2, now)).toEqual([null]);
  // Its own requests count for nothing.
  expect(confinements([{ ...hog, askedAt: now }], 2, now)).toEqual([null]);
});

test("what has rested for long enough is free again", () => {
  const rested = { ...hog, usedCores: 0, batchAt: now - signMs - 1 };
  expect(confinements([rested, asked], 2, now)).toEqual([null, null]);
});

test("the rest gets as many cores as it uses, and beyond half of all only its weight", () => {
  const busy = { ...asked, usedCores: 2.5, requestsPerSecond: 2000 };
  expect(confinements([hog, busy], 8, now)[0]).toEqual({ cores: 5, yields: true });
  const busier = { ...asked, usedCores: 6, requestsPerSecond: 5000 };
  expect(confinements([hog, busier], 8, now)[0]).toEqual({ cores: 4, yields: false });
});

test("a min is kept: on the cores left, or no core is taken", () => {
  const owed = (minCores: number) => ({ ...hog, minCores });
  expect(confinements([owed(1), asked], 2, now)[0]).toEqual({ cores: 1, yields: false });
  expect(confinements([owed(1.2), asked], 2, now)[0]).toBeNull();
  expect(confinements([owed(0.6), owed(0.6), asked], 2, now)).toEqual([null, null, null]);
});

const anyRunner = fc.record({
  minCores: fc.double({ min: 0, max: 4, noNaN: true }),
  usedCores: fc.double({ min: 0, max: 16, noNaN: true }),
  requestsPerSecond: fc.double({ min: 0, max: 5000, noNaN: true }),
  askedAt: fc.option(fc.integer({ min: now - 2 * signMs, max: now })),
  batchAt: fc.option(fc.integer({ min: now - 2 * signMs, max: now })),
});

test("in every case what is confined keeps its mins, and somebody has a core for it", () => {
  let confinedOnce = false;
  fc.assert(
    fc.property(
      fc.array(anyRunner, { maxLength: 20 }),
      fc.integer({ min: 1, max: 64 }),
      (runners, cores) => {
        const places = confinements(runners, cores, now);
        expect(places).toHaveLength(runners.length);
        const confined = runners.filter((_, index) => places[index] !== null);
        if (confined.length === 0) return;
        confinedOnce = true;
        const counts = new Set(places.flatMap((place) => place?.cores ?? []));
        expect(counts.size).toBe(1);
        const [left = 0] = counts;
        expect(left).toBeLessThan(cores);
        expect(left).toBeGreaterThanOrEqual(cores / 2);
        const guaranteed = confined.reduce((sum, { minCores }) => sum + minCores, 0);
        expect(guaranteed).toBeLessThanOrEqual(left + 1e-9);
        for (const [index, place] of places.entries()) {
          if (place?.yields) expect(runners[index]?.minCores).toBe(0);
        }
        const free = runners.filter((_, index) => places[index] === null);
        expect(free.some(({ askedAt }) => askedAt !== null && askedAt >= now - signMs)).toBe(true);
      },
    ),
    { numRuns: 2000, seed: 1 },
  );
  expect(confinedOnce).toBe(true);
});
