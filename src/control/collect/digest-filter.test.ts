import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { DigestFilter } from "./digest-filter.ts";

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

test("what was added is always known, and little else, which differs from turn to turn", () => {
  const count = 20_000;
  const added = Array.from({ length: count }, (_, index) => digestOf(`added ${index}`));
  const others = Array.from({ length: count }, (_, index) => digestOf(`other ${index}`));
  const mistaken = [0, 1, 7, 8].map((turn) => {
    const filter = new DigestFilter(count, turn);
    for (const digest of added) filter.add(digest);
    expect(added.every((digest) => filter.mayHave(digest))).toBe(true);
    return others.filter((digest) => filter.mayHave(digest));
  });
  for (const each of mistaken) {
    expect(each.length).toBeGreaterThan(0);
    expect(each.length).toBeLessThan(count / 200);
  }
  const [first, second, , again] = mistaken;
  expect(first).not.toEqual(second);
  expect(first).toEqual(again);
});

test("more than was announced is still known", () => {
  const filter = new DigestFilter(0, 3);
  const added = Array.from({ length: 5000 }, (_, index) => digestOf(`${index}`));
  for (const digest of added) filter.add(digest);
  expect(added.every((digest) => filter.mayHave(digest))).toBe(true);
});
