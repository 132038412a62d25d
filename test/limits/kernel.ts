// What the kernel counts for an instance, from outside, in either version of cgroups.

import { readFileSync } from "node:fs";
import { detectCgroups } from "../../src/node/cgroup/detect.ts";
import { cgroupsOf } from "../harness/host.ts";

export interface Counters {
  /** Since the instance's process began. */
  cpuTimeUs(): number;
  /** No process of it runs, not even for a timer. */
  isFrozen(): boolean;
  /** What it is held to; Infinity: all there are. */
  ceilingCores(): number;
  /** Of its memory, the part that is pages of files. */
  fileCacheBytes(): number;
}

export function cgroupVersion(): 1 | 2 {
  const found = detectCgroups(readFileSync("/proc/self/mountinfo", "utf8"), null);
  if (!found.ok) throw new Error(found.error);
  return found.value.version;
}

export function countersOf(pid: number): Counters {
  const found = detectCgroups(readFileSync("/proc/self/mountinfo", "utf8"), null);
  if (!found.ok) throw new Error(found.error);
  const layout = found.value;
  if (layout.version === 2) {
    const directory = layout.parent + pathOf(pid, "");
    return {
      cpuTimeUs: () => field(`${directory}/cpu.stat`, "usage_usec"),
      isFrozen: () => field(`${directory}/cgroup.events`, "frozen") === 1,
      ceilingCores: () => ceiling(...text(`${directory}/cpu.max`).split(" ")),
      fileCacheBytes: () => fileCache(`${directory}/memory.stat`, ""),
    };
  }
  const cpu = layout.mounts.cpu + pathOf(pid, "cpu");
  const cpuacct = layout.mounts.cpuacct + pathOf(pid, "cpuacct");
  const memory = layout.mounts.memory + pathOf(pid, "memory");
  const freezer = layout.mounts.freezer + pathOf(pid, "freezer");
  return {
    cpuTimeUs: () => Number(text(`${cpuacct}/cpuacct.usage`)) / 1000,
    isFrozen: () => text(`${freezer}/freezer.state`) === "FROZEN",
    ceilingCores: () => ceiling(text(`${cpu}/cpu.cfs_quota_us`), text(`${cpu}/cpu.cfs_period_us`)),
    fileCacheBytes: () => fileCache(`${memory}/memory.stat`, "total_"),
  };
}

/** The process's place in the hierarchy that has the controller; "": the unified one. */
function pathOf(pid: number, controller: string): string {
  for (const line of cgroupsOf(pid).split("\n")) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path !== "" && controllers.split(",").includes(controller)) return path;
  }
  throw new Error(`process ${pid} has no cgroup of ${controller || "the unified hierarchy"}`);
}

function text(file: string): string {
  return readFileSync(file, "utf8").trim();
}

/** "max" and -1 are no quota. */
function ceiling(quota = "max", period = "100000"): number {
  return Number(quota) > 0 ? Number(quota) / Number(period) : Number.POSITIVE_INFINITY;
}

function fileCache(file: string, prefix: string): number {
  return field(file, `${prefix}active_file`) + field(file, `${prefix}inactive_file`);
}

function field(file: string, key: string): number {
  const value = new RegExp(`^${key} (\\d+)$`, "m").exec(text(file))?.[1];
  if (value === undefined) throw new Error(`${file} has no ${key}`);
  return Number(value);
}
