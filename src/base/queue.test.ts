import { expect, test } from "bun:test";
import { BoundedQueue } from "./queue.ts";
import { seededRandom } from "./virtual.ts";

test("behaves as an array that loses its first item beyond the capacity", () => {
  const random = seededRandom(1);
  const queue = new BoundedQueue<number>(100);
  const twin: number[] = [];
  let dropped = 0;
  for (let step = 0; step < 20_000; step++) {
    if (random.next() < (step % 2000 < 1000 ? 0.7 : 0.3)) {
      const expected = twin.length === 100 ? twin.shift() : undefined;
      if (expected !== undefined) dropped++;
      twin.push(step);
      expect(queue.push(step)).toBe(expected);
    } else {
      expect(queue.shift()).toBe(twin.shift());
    }
    expect(queue.length).toBe(twin.length);
  }
  expect(dropped).toBeGreaterThan(100);
  queue.clear();
  expect(queue.shift()).toBeUndefined();
});
