import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  confinements,
  isBatch,
  kernelShareAfter,
  kernelShareKept,
  kernelShareMin,
  type Runner,
  rationShare,
  signMs,
} from "./suppression.ts";

const now = 1_000_000;

function runner(some: Partial<Runner>): Runner {
  const still = { minCores: 0, usedCores: 0, requestsPerSecond: 0, askedAt: null, batchAt: null };
  return { ...still, kernelShare: 0, isAwaited: false, rationCores: null, ...some };
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
  expect(confinements([hog, asked], 2, now)).toEqual([
    { cores: 1, yields: true, rationCores: null },
    null,
  ]);
  expect(confinements([hog, asked], 8, now)).toEqual([
    { cores: 7, yields: true, rationCores: null },
    null,
  ]);
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
  expect(confinements([hog, busy], 8, now)[0]).toMatchObject({ cores: 5, yields: true });
  const busier = { ...asked, usedCores: 6, requestsPerSecond: 5000 };
  expect(confinements([hog, busier], 8, now)[0]).toMatchObject({ cores: 4, yields: false });
});

test("a min is kept: on the cores left, or no core is taken", () => {
  const owed = (minCores: number) => ({ ...hog, minCores });
  expect(confinements([owed(1), asked], 2, now)[0]).toMatchObject({ cores: 1, yields: false });
  expect(confinements([owed(1.2), asked], 2, now)[0]).toBeNull();
  expect(confinements([owed(0.6), owed(0.6), asked], 2, now)).toEqual([null, null, null]);
});

test("what spends its time inside the kernel is rationed, what has a min to no less", () => {
  const kernel = { ...hog, kernelShare: 0.95 };
  const places = (one: Runner, cores: number) => confinements([one, asked], cores, now)[0];
  expect(places(kernel, 2)?.rationCores).toBeCloseTo(0.1);
  expect(places(kernel, 8)?.rationCores).toBeCloseTo(0.7);
  expect(places({ ...kernel, minCores: 0.5 }, 2)?.rationCores).toBe(0.5);
  expect(places({ ...kernel, kernelShare: 0.7 }, 2)?.rationCores).toBeNull();
  // Near the bound it does not come and go.
  expect(places({ ...kernel, kernelShare: 0.7, rationCores: 0.1 }, 2)?.rationCores).not.toBeNull();
  expect(places({ ...kernel, kernelShare: 0.6, rationCores: 0.1 }, 2)?.rationCores).toBeNull();
  // A build.
  expect(places({ ...kernel, isAwaited: true }, 2)?.rationCores).toBeNull();
  // Nobody is asked.
  expect(confinements([kernel], 2, now)).toEqual([null]);
});

test("who uses up a ration is batch work still", () => {
  const rationed = runner({ usedCores: 0.09, rationCores: 0.1, kernelShare: 1 });
  expect(isBatch(rationed)).toBe(true);
  expect(isBatch({ ...rationed, usedCores: 0.05 })).toBe(false);
  expect(isBatch({ ...rationed, requestsPerSecond: 5 })).toBe(false);
  // With more cores than it has threads for.
  expect(isBatch({ ...rationed, usedCores: 1, rationCores: 1.5 })).toBe(true);
  // Held to its min it wants more than that.
  expect(isBatch({ ...rationed, usedCores: 0.5, minCores: 0.5, rationCores: 0.5 })).toBe(true);
});

test("the share of the kernel is of CPU time, not of time that passed", () => {
  expect(kernelShareAfter(0, 1, 0)).toBe(0);
  expect(kernelShareAfter(0, 1, 0.81)).toBeGreaterThan(kernelShareMin);
  expect(kernelShareAfter(0, 1, 0.8)).toBeLessThan(kernelShareMin);
  // In one step or in ten.
  let share = 0;
  for (let step = 0; step < 10; step++) share = kernelShareAfter(share, 0.9, 0.01);
  expect(share).toBeCloseTo(kernelShareAfter(0, 0.9, 0.1));
});

/** Spends `part` of its time inside the kernel, counted by ticks of 4 ms, on a whole core. */
function everRationed(part: number, seconds: number): boolean {
  let random = 12345;
  let share = 0;
  for (let look = 0; look < seconds * 20; look++) {
    const ticks = Array.from({ length: 12 }, () => {
      random = (random * 1103515245 + 12345) % 2 ** 31;
      return random / 2 ** 31 < part;
    });
    share = kernelShareAfter(share, ticks.filter((inside) => inside).length / 12, 0.05);
    if (share >= kernelShareMin) return true;
  }
  return false;
}

test("what computes as well is not rationed by chance, what floods the kernel soon", () => {
  expect(everRationed(0.6, 600)).toBe(false);
  expect(everRationed(0.95, 2)).toBe(true);
});

const anyRunner = fc.record({
  minCores: fc.double({ min: 0, max: 4, noNaN: true }),
  usedCores: fc.double({ min: 0, max: 16, noNaN: true }),
  requestsPerSecond: fc.double({ min: 0, max: 5000, noNaN: true }),
  isAwaited: fc.boolean(),
  kernelShare: fc.double({ min: 0, max: 1, noNaN: true }),
  rationCores: fc.option(fc.double({ min: 0.05, max: 6, noNaN: true })),
  askedAt: fc.option(fc.integer({ min: now - 2 * signMs, max: now })),
  batchAt: fc.option(fc.integer({ min: now - 2 * signMs, max: now })),
});

test("in every case what is confined keeps its mins, and somebody has a core for it", () => {
  let [confinedOnce, rationedOnce] = [false, false];
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
          const ration = place?.rationCores ?? null;
          if (ration === null) continue;
          rationedOnce = true;
          expect(runners[index]?.isAwaited).toBe(false);
          expect(ration).toBeGreaterThanOrEqual(runners[index]?.minCores ?? 0);
          expect(ration).toBeGreaterThanOrEqual(rationShare * left);
          expect(runners[index]?.kernelShare).toBeGreaterThanOrEqual(kernelShareKept);
        }
        const free = runners.filter((_, index) => places[index] === null);
        expect(free.some(({ askedAt }) => askedAt !== null && askedAt >= now - signMs)).toBe(true);
      },
    ),
    { numRuns: 2000, seed: 1 },
  );
  expect([confinedOnce, rationedOnce]).toEqual([true, true]);
});
