import { expect, test } from "bun:test";
import fc from "fast-check";
import { Backlog } from "./backlog.ts";

test("one instance that works at its speed: what is left is what came less what was spent", () => {
  const backlog = new Backlog();
  // 100 CPU-ms come to half a core.
  expect(backlog.look(1000, 1, 100_000, 0, 0.5)).toBe(100_000);
  expect(backlog.look(1100, 1, 100_000, 0, 0.5)).toBe(50_000);
  expect(backlog.look(1100, 2, 101_000, 0, 0.5)).toBe(51_000);
  expect(backlog.look(1300, 0, 101_000, 101_000, 0.5)).toBe(0);
});

test("a request that takes longer than thought keeps a share", () => {
  const backlog = new Backlog();
  backlog.look(0, 1, 16_000, 0, 1);
  expect(backlog.look(60_000, 1, 16_000, 0, 1)).toBe(1000);
});

test("an app that waits spends slowly: its requests keep their costs", () => {
  const backlog = new Backlog();
  let began = 0;
  let ended = 0;
  // Ten in flight for 100 ms each, of 1 CPU-ms: a tenth of a core.
  for (let now = 0; now <= 20_000; now += 10) {
    began += 1000;
    if (now >= 100) ended += 1000;
    const count = (began - ended) / 1000;
    const left = backlog.look(now, count, began, ended, 4);
    if (now > 10_000) expect(left).toBeGreaterThan(5000);
  }
});

test("never below nothing nor above the costs in flight, wrapping or not, and 0 when idle", () => {
  const step = fc.record({
    elapsedMs: fc.integer({ min: 0, max: 300 }),
    costUs: fc.integer({ min: 1, max: 5_000_000 }),
    ends: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), fc.integer(), (steps, first) => {
      const backlog = new Backlog();
      const inFlight: number[] = [];
      let now = 0;
      let began = first | 0;
      let ended = first | 0;
      for (const { elapsedMs, costUs, ends } of steps) {
        now += elapsedMs;
        inFlight.push(costUs);
        began = (began + costUs) | 0;
        for (const done of inFlight.splice(0, ends)) ended = (ended + done) | 0;
        const all = inFlight.reduce((sum, cost) => sum + cost, 0);
        const left = backlog.look(now, inFlight.length, began, ended, 1);
        expect(left).toBeLessThanOrEqual(all);
        expect(left).toBeGreaterThanOrEqual(0);
        expect(left > 0).toBe(inFlight.length > 0);
      }
    }),
    { numRuns: 500, seed: 9 },
  );
});
