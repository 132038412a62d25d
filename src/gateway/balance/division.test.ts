import { expect, test } from "bun:test";
import fc from "fast-check";
import { dearInstancesOf, divide } from "./division.ts";

test("dear requests are divided from cheap ones between their costs, by shares of the work", () => {
  const half = [
    { costUs: 1000, requests: 100 },
    { costUs: 100_000, requests: 1 },
  ];
  expect(divide(half, 10)).toEqual({ dearFromUs: 10_000, dearShare: 0.5 });
  const many = [
    { costUs: 900, requests: 40 },
    { costUs: 200_000, requests: 1 },
    { costUs: 1100, requests: 40 },
    { costUs: 180_000, requests: 1 },
  ];
  const division = divide(many, 10);
  expect(division?.dearFromUs).toBeGreaterThan(1100);
  expect(division?.dearFromUs).toBeLessThan(180_000);
  expect(division?.dearShare).toBeCloseTo(380 / 460, 6);
});

test("no division where it gains little: one instance, costs alike, a single class", () => {
  const apart = [
    { costUs: 1000, requests: 100 },
    { costUs: 100_000, requests: 1 },
  ];
  expect(divide(apart, 1)).toBe(null);
  const alike = [
    { costUs: 1000, requests: 1 },
    { costUs: 1500, requests: 1 },
  ];
  expect(divide(alike, 10)).toBe(null);
  expect(divide([{ costUs: 1000, requests: 1 }], 10)).toBe(null);
  expect(divide([], 10)).toBe(null);
  const nothing = [
    { costUs: 0, requests: 100 },
    { costUs: 1000, requests: 0 },
  ];
  expect(divide(nothing, 10)).toBe(null);
});

test("both sides always have an instance, and the dear one's number follows its work", () => {
  const classes = fc.array(
    fc.record({
      costUs: fc.nat(1e9),
      requests: fc.nat(1e6),
    }),
    { maxLength: 65 },
  );
  fc.assert(
    fc.property(classes, fc.integer({ min: 0, max: 100 }), (list, instances) => {
      const division = divide(list, instances);
      if (division === null) return;
      const dear = list.filter(({ costUs }) => costUs >= division.dearFromUs);
      const workOf = (some: typeof list) =>
        some.reduce((sum, { costUs, requests }) => sum + costUs * requests, 0);
      expect(division.dearShare).toBeCloseTo(workOf(dear) / workOf(list), 6);
      const count = dearInstancesOf(division, instances);
      expect(count).toBeGreaterThanOrEqual(1);
      expect(count).toBeLessThanOrEqual(instances - 1);
      const clamped = count === 1 || count === instances - 1;
      expect(clamped || Math.abs(count - division.dearShare * instances) <= 0.5).toBe(true);
    }),
    { numRuns: 1000, seed: 4 },
  );
});
