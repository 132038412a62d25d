import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../base/time.ts";
import { systemClock } from "../../fabric/system.ts";
import { mount, unmount } from "../linux/libc.ts";
import { LaunchMounts, unneededMounts } from "./launch-mounts.ts";

const folder = mkdtempSync(join(tmpdir(), "lode-mounts-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("what sandboxes are shown stays, what lies below something unneeded is not named", () => {
  const points = [
    ...["/", "/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/run", "/run/lock"],
    ...["/run/lode-abc123", "/run/lode-abc123/x", "/run/lode-abc1234", "/proc/sys/fs/x", "/tmp"],
    ...["/srv", "/srv/data", "/srv/data/disk", "/srv/other", "/usr", "/usr/local", "/tmp/x"],
    ...["/system", "/home"],
  ];
  const list = points.map((path) => `1 2 0:3 / ${path} rw shared:1 - ext4 none rw\n`).join("");
  expect(unneededMounts(list, ["/run/lode-abc123", "/srv/data"])).toEqual([
    ...["/sys", "/dev/pts", "/run/lock", "/run/lode-abc1234", "/proc/sys/fs/x", "/srv/other"],
    ...["/tmp/x", "/system", "/home"],
  ]);
});

async function startWorker(): Promise<Worker> {
  const worker = new Worker("data:text/javascript,postMessage(1);setInterval(() => {}, 1000)");
  await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
  return worker;
}

test("a launch has fewer mounts, and the host's own again when these change", async () => {
  const plans: (() => void)[] = [];
  const after = (_: number, plan: () => void) => {
    plans.push(plan);
    return { cancel: () => undefined };
  };
  const clock: Clock = { ...systemClock, after };
  const shown = join(folder, "shown");
  mkdirSync(shown);
  const mounts = new LaunchMounts([shown], clock);
  const list = () =>
    Bun.spawnSync(["cat", "/proc/self/mountinfo"]).stdout.toString().trim().split("\n");
  const carryOut = async () => {
    for (const plan of plans.splice(0)) plan();
    while (mounts.within([shown], list).length >= all.length) await Bun.sleep(5);
  };
  const before = [readFileSync("/proc/self/mountinfo", "utf8"), process.cwd()];
  const all = mounts.within([shown], list);
  await carryOut();
  const few = mounts.within([shown], list);
  // Threads that this one has started since share its working directory.
  const workers = await Promise.all(Array.from({ length: 4 }, startWorker));
  expect(mounts.within([shown], list)).toEqual(few);
  expect(few.length).toBeLessThan(all.length);
  expect(few.some((line) => line.includes(" /sys"))).toBe(false);
  expect([readFileSync("/proc/self/mountinfo", "utf8"), process.cwd()]).toEqual(before);
  const [inside, beside] = [join(shown, "inside"), join(folder, "beside")];
  for (const point of [inside, beside]) {
    mkdirSync(point);
    expect(mount("none", point, "tmpfs", 0, null).ok).toBe(true);
  }
  expect(mounts.within([], list).length).toBe(all.length + 2);
  await carryOut();
  const next = mounts.within([inside], list).join();
  expect([next.includes(inside), next.includes(beside)]).toEqual([true, false]);
  expect(mounts.within([beside], list).length).toBe(all.length + 2);
  expect(() =>
    mounts.within([], () => {
      throw new Error("of the action");
    }),
  ).toThrow("of the action");
  for (const worker of workers) worker.terminate();
  mounts.close();
  for (const point of [inside, beside]) unmount(point);
  expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(before[0] ?? "");
});
