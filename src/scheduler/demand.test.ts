import { expect, test } from "bun:test";
import fc from "fast-check";
import { countFor, DemandWindow, demandWindowMs } from "./demand.ts";

/** Every value with the time it began: the greatest that held at some time of the window. */
class NaiveWindow {
  readonly #values: { value: number; from: number }[] = [{ value: 0, from: 0 }];

  observe(now: number, value: number): void {
    this.#values.push({ value, from: now });
  }

  peak(now: number): number {
    const held = this.#values.filter((_, index) => {
      const until = this.#values[index + 1]?.from ?? now;
      return until >= now - demandWindowMs;
    });
    return Math.max(...held.map(({ value }) => value));
  }
}

test("the peak is a naive twin's, and falls when it says it does", () => {
  const observations = fc.array(fc.tuple(fc.integer({ min: 1, max: 40_000 }), fc.nat(9)));
  fc.assert(
    fc.property(observations, (script) => {
      const [window, naive] = [new DemandWindow(), new NaiveWindow()];
      let now = 0;
      for (const [pause, value] of script) {
        now += pause;
        window.observe(now, value);
        naive.observe(now, value);
        expect(window.peak(now)).toBe(naive.peak(now));
      }
      for (let at = window.fallsAt(); at !== null; at = window.fallsAt()) {
        expect(at).toBeGreaterThan(now);
        const before = window.peak(at - 1);
        expect(before).toBe(naive.peak(at - 1));
        expect(window.peak(at)).toBeLessThan(before);
        expect(window.peak(at)).toBe(naive.peak(at));
        now = at;
      }
      expect(window.peak(now + 10 * demandWindowMs)).toBe(script.at(-1)?.[1] ?? 0);
    }),
    { seed: 1 },
  );
});

test("growth is at once and bounded; going back leaves room, and waits until all is known", () => {
  const scale = { base: 1, max: 8, perInstance: 10 };
  const count = (peak: number, present: number, isWhole = true) =>
    countFor({ peak, isWhole }, scale, present);
  expect([0, 10, 11, 35, 500].map((peak) => count(peak, 1))).toEqual([1, 1, 2, 4, 8]);
  // 24 fit into three, but three at 0.75 take 22 only.
  expect([40, 30, 24, 22, 8, 7, 0].map((peak) => count(peak, 4))).toEqual([4, 4, 4, 3, 2, 1, 1]);
  expect(count(0, 4, false)).toBe(4);
  expect(count(500, 4, false)).toBe(8);
  // More than scale.max were asked for by `lode scale`.
  expect(countFor({ peak: 500, isWhole: true }, { ...scale, base: 12 }, 12)).toBe(12);
});

test("a steady demand settles: what it grew to is what it keeps", () => {
  const arbitrary = fc.tuple(fc.nat(2000), fc.integer({ min: 1, max: 64 }), fc.nat(20));
  fc.assert(
    fc.property(arbitrary, ([peak, perInstance, present]) => {
      const scale = { base: 1, max: 20, perInstance };
      const first = countFor({ peak, isWhole: true }, scale, present);
      expect(countFor({ peak, isWhole: true }, scale, first)).toBe(first);
      expect(first * perInstance >= peak || first === 20).toBe(true);
    }),
    { seed: 2 },
  );
});
