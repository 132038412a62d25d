import { expect, test } from "bun:test";
import { seededRandom, VirtualClock } from "./virtual.ts";

test("timers fire in due order, ties in the order they were set, each at its own time", () => {
  const clock = new VirtualClock(1000);
  const trace: string[] = [];
  clock.after(20, () => trace.push(`b${clock.now()}`));
  clock.after(10, () => {
    trace.push(`a${clock.now()}`);
    clock.after(5, () => trace.push(`nested${clock.now()}`));
  });
  clock.after(20, () => trace.push(`c${clock.now()}`));
  clock.advance(19);
  expect(trace).toEqual(["a1010", "nested1015"]);
  clock.advance(1);
  expect(trace).toEqual(["a1010", "nested1015", "b1020", "c1020"]);
  expect(clock.now()).toBe(1020);
  expect(clock.pending).toBe(0);
});

test("a period repeats until it is cancelled, also from within its callback", () => {
  const clock = new VirtualClock(0);
  const times: number[] = [];
  const timer = clock.every(10, () => {
    times.push(clock.now());
    if (times.length === 3) timer.cancel();
  });
  clock.advance(100);
  expect(times).toEqual([10, 20, 30]);
  expect(clock.pending).toBe(0);
});

test("run lets promises settle between timers", async () => {
  const clock = new VirtualClock(0);
  const sleep = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve));
  const times: number[] = [];
  void (async () => {
    for (let round = 0; round < 3; round++) {
      await sleep(10);
      times.push(clock.now());
    }
  })();
  await clock.run(100);
  expect(times).toEqual([10, 20, 30]);
});

test("seeded randomness repeats itself, and differs by seed", () => {
  const draw = (seed: number) => {
    const random = seededRandom(seed);
    return [...Array.from({ length: 100 }, () => random.next()), random.token(12)];
  };
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
  expect(seededRandom(3).token(12)).toMatch(/^[a-z0-9]{12}$/);
  const random = seededRandom(7);
  const numbers = Array.from({ length: 10_000 }, () => random.next());
  expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  expect(Math.abs(mean - 0.5)).toBeLessThan(0.02);
});
