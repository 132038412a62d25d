import { expect, test } from "bun:test";
import { coldStartBoundsMs } from "../model/traffic.ts";
import { Tally } from "./tally.ts";

const reading = (cpuTimeUs: number, throttledUs = 0, oomKills = 0, confinedUs = 0) => ({
  ...{ cpuTimeUs, throttledUs, confinedUs, oomKills },
});

test("an instance to which nothing happened has nothing to tell", () => {
  expect(new Tally().totals).toBeNull();
});

test("sums go on over processes, whose cgroups begin at 0 each", () => {
  const tally = new Tally();
  tally.begin();
  tally.read(reading(100, 5));
  tally.read(reading(250, 5, 1));
  tally.begin();
  tally.read(reading(40, 2, 1, 9));
  const confinedUs = 9;
  expect(tally.totals).toMatchObject({ cpuTimeUs: 290, throttledUs: 7, confinedUs, oomKills: 2 });
});

test("of an adopted process only what it uses from then on is told", () => {
  const tally = new Tally();
  tally.adopt();
  tally.read(reading(5000, 10, 1));
  expect(tally.totals).toBeNull();
  tally.read(reading(5100, 10, 1));
  expect(tally.totals).toMatchObject({ cpuTimeUs: 100, throttledUs: 0, oomKills: 0 });
});

test("a wake that starts the program is a cold start of its duration", () => {
  const tally = new Tally();
  tally.runs(1000);
  tally.wakeBegins(2000);
  tally.runs(2012);
  tally.runs(2050);
  tally.restarted(0);
  tally.restarted(2);
  const counted = tally.totals;
  expect(counted).toMatchObject({ wakes: 1, coldStartMs: 12, restarts: 2 });
  const bucket = coldStartBoundsMs.findIndex((bound) => bound >= 12);
  expect(counted?.coldStarts[bucket]).toBe(1);
  expect(counted?.coldStarts.reduce((sum, count) => sum + count)).toBe(1);
});
