import { expect, test } from "bun:test";
import { defaultLimits, type Limits } from "../model/limits.ts";
import type { Cgroup, CgroupUsage } from "./cgroup/cgroup.ts";
import { CpuShares } from "./cpu-shares.ts";
import type { Confinement } from "./decide/suppression.ts";
import { Meter } from "./meter.ts";
import { Tally } from "./tally.ts";

/** What a meter uses of a cgroup, with how often it was read in full. */
function fakeCgroup() {
  const now: CgroupUsage = {
    ...{ cpuTimeUs: 1000, memoryBytes: 3e6, cacheBytes: 1e6, oomKills: 0, throttledUs: 0 },
    confinedUs: 0,
  };
  const state = { now, readings: 0, confinement: null as Confinement | null };
  const cgroup = {
    get confinement() {
      return state.confinement;
    },
    setCpuWeight() {},
    setLimits: async () => {},
    cpuTimeUs: () => state.now.cpuTimeUs,
    usage: async () => {
      state.readings += 1;
      return state.now;
    },
  } as unknown as Cgroup;
  return { state, cgroup };
}

function meterOf(limits: Limits, cgroup: Cgroup): Meter {
  const meter = new Meter(limits, new CpuShares(2), new Tally());
  meter.begin();
  meter.attach(cgroup, 0);
  return meter;
}

test("what stood still is not read, and its use is nothing", async () => {
  const { state, cgroup } = fakeCgroup();
  const meter = meterOf(defaultLimits, cgroup);
  const busy = await meter.sample(1000);
  expect(busy).toMatchObject({ cpuCores: 0.001, cpuTimeUs: 1000, memoryBytes: 2e6 });
  const idle = await meter.sample(2000);
  expect(idle).toEqual({ ...busy, cpuCores: 0 } as NonNullable<typeof busy>);
  expect(await meter.sample(3000)).toBe(idle);
  expect(state.readings).toBe(1);
  state.now = { ...state.now, cpuTimeUs: 501_000, memoryBytes: 5e6 };
  expect(await meter.sample(4000)).toMatchObject({ cpuCores: 0.5, memoryBytes: 4e6 });
  expect(state.readings).toBe(2);
});

test("being confined is told at the next look, also of what stands still", async () => {
  const { state, cgroup } = fakeCgroup();
  const meter = meterOf(defaultLimits, cgroup);
  expect(await meter.sample(1000)).toMatchObject({ confined: false });
  state.confinement = { cores: 1, yields: true, rationCores: null };
  const resting = await meter.sample(2000);
  expect(resting).toMatchObject({ confined: true, cpuCores: 0 });
  expect(await meter.sample(3000)).toBe(resting);
  state.now = { ...state.now, cpuTimeUs: 501_000 };
  expect(await meter.sample(4000)).toMatchObject({ confined: true, cpuCores: 0.5 });
  state.confinement = null;
  expect(await meter.sample(5000)).toMatchObject({ confined: false });
});

test("credit that is earned back is accounted for, whether or not anything runs", async () => {
  const { state, cgroup } = fakeCgroup();
  const limits = { ...defaultLimits, cpu: { min: null, max: 0.1, burst: 1 } };
  const meter = meterOf(limits, cgroup);
  state.now = { ...state.now, cpuTimeUs: 1e6 };
  const spent = await meter.sample(1000);
  const earned = await meter.sample(2000);
  const left = (usage: typeof spent) => usage?.cpuCredit?.left ?? 0;
  expect(left(earned)).toBeCloseTo(left(spent) + 0.1);
  expect(state.readings).toBe(2);
});
