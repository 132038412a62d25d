import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fitting, spread, textWidth, wrap } from "./layout.ts";

describe("labels moved apart", () => {
  const bounds = [0, 100] as const;

  test("stay where they are when they are far enough apart", () => {
    expect(spread([70, 10, 40], 15, bounds)).toEqual([70, 10, 40]);
  });

  test("part evenly when they collide, and in the order that they had", () => {
    expect(spread([50, 50], 10, bounds)).toEqual([45, 55]);
    expect(spread([52, 50, 80], 10, bounds)).toEqual([56, 46, 80]);
    expect(spread([], 10, bounds)).toEqual([]);
  });

  test("stay between the bounds", () => {
    expect(spread([99, 100], 10, bounds)).toEqual([90, 100]);
    expect(spread([-5, 0, 1], 10, bounds)).toEqual([0, 10, 20]);
  });

  test("are a gap apart, within bounds, in order, whatever they are", () => {
    const places = fc.array(fc.double({ min: -50, max: 150, noNaN: true }), { maxLength: 7 });
    fc.assert(
      fc.property(places, (given) => {
        const moved = spread(given, 15, [0, 100]);
        const sorted = moved.toSorted((one, other) => one - other);
        for (const [index, place] of sorted.entries()) {
          expect(place).toBeGreaterThanOrEqual(-1e-9);
          expect(place).toBeLessThanOrEqual(100 + 1e-9);
          if (index === 0) continue;
          expect(place - (sorted[index - 1] as number)).toBeGreaterThanOrEqual(15 - 1e-9);
        }
        for (const [one, at] of given.entries()) {
          for (const [other, beside] of given.entries()) {
            if (at < beside) expect(moved[one] as number).toBeLessThan(moved[other] as number);
          }
        }
      }),
      { seed: 7 },
    );
  });

  test("move no more than the best of all places on a grid would have them", () => {
    const place = fc.integer({ min: 0, max: 12 });
    fc.assert(
      fc.property(place, place, place, (a, b, c) => {
        const given = [a, b, c].toSorted((one, other) => one - other);
        const cost = (places: readonly number[]) =>
          places.reduce((sum, at, index) => sum + (at - (given[index] as number)) ** 2, 0);
        let best = Number.POSITIVE_INFINITY;
        for (let one = 0; one <= 12; one += 0.5) {
          for (let two = one + 4; two <= 12; two += 0.5) {
            for (let three = two + 4; three <= 12; three += 0.5) {
              best = Math.min(best, cost([one, two, three]));
            }
          }
        }
        expect(cost(spread(given, 4, [0, 12]))).toBeLessThanOrEqual(best + 1e-9);
      }),
      { seed: 7, numRuns: 60 },
    );
  });
});

test("text is broken at spaces, and no line is wider than it may be", () => {
  expect(wrap("a bb ccc", textWidth("a bb", 12), 12)).toEqual(["a bb", "ccc"]);
  expect(wrap("unbreakable", 1, 12)).toEqual(["unbreakable"]);
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[a-z]{1,9}$/), { minLength: 1 }), (words) => {
      const lines = wrap(words.join(" "), 80, 12, "bold");
      expect(lines.join(" ")).toBe(words.join(" "));
      for (const line of lines) expect(textWidth(line, 12, "bold")).toBeLessThanOrEqual(80);
    }),
    { seed: 7 },
  );
});

test("numbers that would touch the one before are left out", () => {
  const at = (place: number) => ({ label: "1,000", place });
  const wide = textWidth("1,000", 12);
  expect(fitting([at(0), at(wide + 10), at(wide + 12), at(2 * wide + 20)], 12)).toEqual([
    ...[true, true, false, true],
  ]);
});
