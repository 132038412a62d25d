import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { linearScale, logarithmicScale, niceStep, ninesScale, type Scale } from "./scale.ts";

const values = ({ ticks }: Scale) => ticks.map(({ value }) => value);
const labels = ({ ticks }: Scale) => ticks.map(({ label }) => label);

const size = fc
  .record({ digits: fc.integer({ min: 100, max: 999 }), power: fc.integer({ min: -6, max: 8 }) })
  .map(({ digits, power }) => digits * 10 ** power);

/** 1, 2 or 5 times a power of ten. */
const isNice = (value: number) => /^[125](?:\.0+)?e[+-]\d+$/.test(value.toExponential(6));

describe("a linear scale", () => {
  test("counts in 1, 2 or 5 from zero, with the digits that the step has", () => {
    expect(labels(linearScale(131))).toEqual(["0", "20", "40", "60", "80", "100", "120"]);
    expect(labels(linearScale(599))).toEqual(["0", "100", "200", "300", "400", "500"]);
    expect(labels(linearScale(0.3))).toEqual([
      "0.00",
      "0.05",
      "0.10",
      "0.15",
      "0.20",
      "0.25",
      "0.30",
    ]);
    expect(labels(linearScale(94_692)).at(-1)).toBe("80,000");
    expect(linearScale(200).at(50)).toBe(0.25);
  });

  test("has two to eight ticks, evenly apart, and no room for another, whatever its size", () => {
    fc.assert(
      fc.property(size, (max) => {
        const ticks = values(linearScale(max));
        const step = (ticks[1] as number) - (ticks[0] as number);
        expect(ticks[0]).toBe(0);
        expect(isNice(step)).toBe(true);
        expect(ticks.length).toBeGreaterThanOrEqual(2);
        expect(ticks.length).toBeLessThanOrEqual(8);
        expect(ticks.at(-1) as number).toBeLessThanOrEqual(max * (1 + 1e-6));
        expect((ticks.at(-1) as number) + step).toBeGreaterThan(max);
        expect(new Set(labels(linearScale(max))).size).toBe(ticks.length);
      }),
      { seed: 7 },
    );
  });

  test("has steps that are not below what is asked and never more than 2.5 times it", () => {
    fc.assert(
      fc.property(size, (least) => {
        const step = niceStep(least);
        expect(isNice(step)).toBe(true);
        expect(step / least).toBeGreaterThanOrEqual(1 - 1e-9);
        expect(step / least).toBeLessThanOrEqual(2.5 + 1e-9);
      }),
      { seed: 7 },
    );
  });

  test("refuses what has no size", () => {
    for (const max of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => linearScale(max)).toThrow("a linear scale");
    }
  });
});

describe("a logarithmic scale", () => {
  test("goes from the step below to the step above", () => {
    expect(values(logarithmicScale(0.79, 237))).toEqual([0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]);
    expect(labels(logarithmicScale(0.22, 1911))).toEqual(["1", "10", "100", "1,000"]);
    expect(labels(logarithmicScale(10, 100_000))).toEqual([
      "10",
      "100",
      "1,000",
      "10,000",
      "100,000",
    ]);
    expect(labels(logarithmicScale(0.02, 0.05))).toEqual(["0.02", "0.05"]);
    expect(values(logarithmicScale(5, 5))).toEqual([5, 10]);
    const scale = logarithmicScale(1, 100);
    expect(scale.at(10)).toBeCloseTo(0.5, 12);
  });

  test("holds all values between its ends, with ticks in order and not too many", () => {
    fc.assert(
      fc.property(size, size, (one, other) => {
        const [min, max] = [Math.min(one, other), Math.max(one, other)];
        const scale = logarithmicScale(min, max);
        for (const value of [min, max, ...values(scale)]) {
          expect(scale.at(value)).toBeGreaterThanOrEqual(-1e-9);
          expect(scale.at(value)).toBeLessThanOrEqual(1 + 1e-9);
        }
        // No wider than it must be.
        expect(scale.at(min / 2.6)).toBeLessThan(0);
        expect(scale.at(max * 2.6)).toBeGreaterThan(1);
        const ticks = values(scale);
        expect(ticks.length).toBeGreaterThanOrEqual(1);
        expect(ticks.length).toBeLessThanOrEqual(10);
        expect(ticks.every(isNice)).toBe(true);
        expect(ticks).toEqual(ticks.toSorted((a, b) => a - b));
        expect(new Set(labels(scale)).size).toBe(ticks.length);
      }),
      { seed: 7 },
    );
  });

  test("refuses zero, which it has no place for", () => {
    for (const min of [0, -1, Number.NaN]) {
      expect(() => logarithmicScale(min, 1)).toThrow("a logarithmic scale");
    }
  });
});

test("a scale of nines gives each as much room as the one before", () => {
  const scale = ninesScale(0.999);
  expect(labels(scale)).toEqual(["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
  expect([0, 0.9, 0.99, 0.999].map((share) => scale.at(share) * 3)).toEqual([
    ...[0, 1, 2, 3].map((nines) => expect.closeTo(nines, 9)),
  ]);
  expect(labels(ninesScale(0.99))).not.toContain("99.9 %");
});
