import { expect, test } from "bun:test";
import type { Cgroup } from "./cgroup/cgroup.ts";
import { CpuShares } from "./cpu-shares.ts";

/** As much of a cgroup as sharing touches; keeps every weight that was written. */
function cgroup() {
  const written: number[] = [];
  const group = { setCpuWeight: (cores: number) => void written.push(cores) };
  return { written, group: group as unknown as Cgroup };
}

test("weights follow who is busy, and are written only when they change", () => {
  const shares = new CpuShares(2);
  const [first, second] = [cgroup(), cgroup()];
  const reserved = shares.enter(first.group, 1);
  expect(first.written).toEqual([2]);
  const plain = shares.enter(second.group, 0);
  expect([first.written, second.written]).toEqual([[2, 1.5], [0.5]]);
  shares.balance();
  plain.observe(0);
  reserved.observe(1.5);
  shares.balance();
  expect([first.written, second.written]).toEqual([
    [2, 1.5, 1.75],
    [0.5, 0.25],
  ]);
  expect(shares.isContended).toBe(false);
  plain.observe(0.2);
  expect(shares.isContended).toBe(true);
  plain.leave();
  reserved.setMin(0.5);
  expect(first.written.at(-1)).toBe(2);
  expect(second.written).toHaveLength(2);
});

test("under contention weights are corrected by what came of them, and no longer after it", () => {
  const shares = new CpuShares(2);
  const [heavy, light] = [cgroup(), cgroup()];
  const reserved = shares.enter(heavy.group, 1.5);
  const other = shares.enter(light.group, 0.5);
  const [dueHeavy, dueLight] = [heavy.written.at(-1) ?? 0, light.written.at(-1) ?? 0];
  for (let second = 0; second < 3; second++) {
    reserved.observe(1.6);
    other.observe(0.4);
    shares.balance();
  }
  const ratio = (light.written.at(-1) ?? 0) / (heavy.written.at(-1) ?? 1);
  expect(ratio).toBeGreaterThan((1.2 * dueLight) / dueHeavy);
  reserved.observe(0.5);
  shares.balance();
  expect([heavy.written.at(-1), light.written.at(-1)]).toEqual([dueHeavy, dueLight]);
});
