import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bounds, defaultLimits, unbounded } from "../../model/limits.ts";
import {
  account,
  type Bucket,
  burstSeconds,
  ceiling,
  ceilings,
  creditCapacity,
  fullCredit,
  rebase,
} from "./credit.ts";

const bounds: Bounds = { min: 0.25, max: 1, burst: 3 };
const full: Bucket = { credit: creditCapacity(bounds), exhausted: false };

test("unset bounds mean the whole machine", () => {
  const limits = ceilings(defaultLimits, fullCredit(defaultLimits), 0);
  expect(limits).toMatchObject({ cpuMaxCores: null, memoryMaxBytes: null, memoryHighBytes: null });
  expect(ceiling({ min: null, max: 2, burst: null }, full)).toBe(2);
  expect(ceiling({ min: null, max: null, burst: 2 }, full)).toBe(2);
});

test("a full bucket lasts its window at the whole of burst, then max holds", () => {
  let bucket = full;
  for (let second = 1; second <= burstSeconds; second++) {
    expect(ceiling(bounds, bucket)).toBe(3);
    bucket = account(bucket, bounds, 3, 1);
  }
  expect(bucket).toEqual({ credit: 0, exhausted: true });
  expect(ceiling(bounds, bucket)).toBe(1);
  // An eighth must be earned before the ceiling rises again: 15 core-seconds at 1 a second.
  for (let second = 0; second < 14; second++) bucket = account(bucket, bounds, 0, 1);
  expect(ceiling(bounds, bucket)).toBe(1);
  expect(ceiling(bounds, account(bucket, bounds, 0, 1))).toBe(3);
});

test("memory that is held when the credit ends is not taken away", () => {
  const mebibyte = 1024 ** 2;
  const memory = { min: null, max: 100 * mebibyte, burst: 200 * mebibyte };
  const limits = { ...defaultLimits, memory };
  const spent = { ...fullCredit(limits), memory: { credit: 0, exhausted: true } };
  expect(ceilings(limits, spent, 150 * mebibyte)).toMatchObject({
    memoryMaxBytes: 150 * mebibyte,
    memoryHighBytes: 100 * mebibyte,
  });
  expect(ceilings(limits, spent, 20 * mebibyte).memoryMaxBytes).toBe(100 * mebibyte);
  expect(ceilings(limits, fullCredit(limits), 0).memoryMaxBytes).toBe(200 * mebibyte);
});

test("credit stays between nothing and its capacity, and follows a naive ledger", () => {
  const uses = fc.array(fc.tuple(fc.double({ min: 0, max: 4, noNaN: true }), fc.nat(5)));
  fc.assert(
    fc.property(uses, (periods) => {
      let bucket = full;
      let naive = full.credit;
      for (const [use, seconds] of periods) {
        bucket = account(bucket, bounds, use, seconds);
        naive += (1 - use) * seconds;
        if (naive < 0) naive = 0;
        if (naive > full.credit) naive = full.credit;
        const now = ceiling(bounds, bucket);
        const isLow = now === 1;
        if (Math.abs(bucket.credit - naive) > 1e-9 || (!isLow && now !== 3)) return false;
        if (bucket.credit === 0 && !isLow) return false;
      }
      return true;
    }),
    { seed: 1 },
  );
});

test("sustained use never exceeds max by more than one full bucket", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 9, noNaN: true }), { maxLength: 400 }),
      (wishes) => {
        let bucket = full;
        let used = 0;
        for (const wish of wishes) {
          const use = Math.min(wish, ceiling(bounds, bucket) ?? wish);
          used += use;
          bucket = account(bucket, bounds, use, 1);
        }
        // One period may overshoot, as a ceiling is lowered only after it was seen.
        expect(used).toBeLessThanOrEqual(wishes.length * 1 + full.credit + 2 + 1e-6);
      },
    ),
    { seed: 2 },
  );
});

test("new limits keep what was earned, within the new capacity", () => {
  const before = { ...defaultLimits, cpu: bounds };
  const smaller = { ...defaultLimits, cpu: { min: null, max: 1, burst: 1.5 } };
  const half = { ...fullCredit(before), cpu: { credit: 60, exhausted: false } };
  expect(rebase(half, before, smaller).cpu.credit).toBe(30);
  const open = { ...defaultLimits, cpu: unbounded };
  expect(rebase(half, before, open).cpu).toEqual({ credit: 0, exhausted: false });
  expect(rebase(fullCredit(open), open, before).cpu).toEqual(full);
});
