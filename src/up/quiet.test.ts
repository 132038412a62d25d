import { expect, test } from "bun:test";
import { VirtualClock } from "../base/virtual.ts";
import { collectWhenQuiet, ownCpuTimeUs } from "./quiet.ts";

test("what worked and has become quiet is collected once", async () => {
  const clock = new VirtualClock();
  let usedUs = 0;
  let collections = 0;
  const timer = collectWhenQuiet(
    clock,
    () => usedUs,
    () => {
      collections += 1;
      usedUs += 50_000;
    },
  );
  const passes = async (periodUs: number) => {
    usedUs += periodUs;
    await clock.run(10_000);
  };
  for (let round = 0; round < 5; round++) await passes(20_000);
  expect(collections).toBe(0);
  for (let round = 0; round < 3; round++) await passes(5_000_000);
  expect(collections).toBe(0);
  for (let round = 0; round < 3; round++) await passes(20_000);
  expect(collections).toBe(1);
  await passes(300_000);
  timer.cancel();
  await passes(0);
  expect(collections).toBe(1);
});

test("a process's own CPU time grows with its work", () => {
  const before = ownCpuTimeUs();
  for (const end = performance.now() + 30; performance.now() < end; );
  expect(ownCpuTimeUs() - before).toBeGreaterThan(5_000);
});
