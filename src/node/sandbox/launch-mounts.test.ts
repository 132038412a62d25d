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
    ...["/ ext4", "/proc proc", "/sys sysfs", "/sys/fs/cgroup cgroup2", "/dev devtmpfs"],
    ...["/dev/pts devpts", "/run tmpfs", "/run/lock tmpfs", "/run/lode-abc123 tmpfs"],
    ...["/run/lode-abc123/disk btrfs", "/run/lode-abc1234 tmpfs", "/proc/sys/fs/x autofs"],
    ...["/srv/data btrfs", "/tmp tmpfs", "/var/docker/netns/1 nsfs", "/system ext4"],
  ];
  const list = points
    .map((point) => point.split(" "))
    .map(([path, type]) => `1 2 0:3 / ${path} rw shared:1 - ${type} none rw\n`)
    .join("");
  expect(unneededMounts(list, "/run/lode-abc123")).toEqual([
    ...["/sys", "/dev/pts", "/run/lock", "/run/lode-abc123/disk", "/run/lode-abc1234"],
    ...["/proc/sys/fs/x", "/var/docker/netns/1"],
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
  const mounts = new LaunchMounts("/run/lode-none00", clock);
  const list = () =>
    Bun.spawnSync(["cat", "/proc/self/mountinfo"]).stdout.toString().trim().split("\n");
  const carryOut = async () => {
    for (const plan of plans.splice(0)) plan();
    while (mounts.within(list).length >= all.length) await Bun.sleep(5);
  };
  const before = [readFileSync("/proc/self/mountinfo", "utf8"), process.cwd()];
  const all = mounts.within(list);
  await carryOut();
  const few = mounts.within(list);
  // Threads that this one has started since share its working directory.
  const workers = await Promise.all(Array.from({ length: 4 }, startWorker));
  expect(mounts.within(list)).toEqual(few);
  expect(few.length).toBeLessThan(all.length);
  expect(few.some((line) => line.includes(" /sys"))).toBe(false);
  expect([readFileSync("/proc/self/mountinfo", "utf8"), process.cwd()]).toEqual(before);
  const point = join(folder, "new");
  mkdirSync(point);
  expect(mount("none", point, "tmpfs", 0, null).ok).toBe(true);
  expect(mounts.within(list).some((line) => line.includes(point))).toBe(true);
  await carryOut();
  const next = mounts.within(list);
  expect(next.some((line) => line.includes(point))).toBe(true);
  expect(next.length).toBeLessThan(all.length);
  expect(() =>
    mounts.within(() => {
      throw new Error("of the action");
    }),
  ).toThrow("of the action");
  for (const worker of workers) worker.terminate();
  mounts.close();
  unmount(point);
  expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(before[0] ?? "");
});
