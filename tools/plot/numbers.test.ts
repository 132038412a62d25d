import { expect, test } from "bun:test";
import { median, percentile, readable } from "./numbers.ts";

test("numbers have three digits and thousands apart", () => {
  expect([94_692, 213, 30.14, 0.967, 0].map(readable)).toEqual([
    ...["94,692", "213", "30.1", "0.97", "0.00"],
  ]);
});

test("the median lies in the middle, whatever the order", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([])).toBeNaN();
});

test("a percentile is the nearest rank", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect([0, 1, 50, 99, 100].map((percent) => percentile(hundred, percent))).toEqual([
    ...[1, 1, 50, 99, 100],
  ]);
  expect(percentile([], 50)).toBeNaN();
});
