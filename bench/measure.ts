import { dlopen, FFIType } from "bun:ffi";
import { readdirSync, readFileSync } from "node:fs";

export function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => parentOf(candidate) === pid);
}

export function treeOf(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(treeOf)];
}

function parentOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses may hold anything; after it come state and parent.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return null;
  }
}

const libc = dlopen("libc.so.6", {
  clock_gettime: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
});

/**
 * CPU time of the processes in microseconds, by the CPU clock of each: it counts nanoseconds
 * and keeps what ended threads used. The clock's number is made as in clock_getcpuclockid(3).
 */
export function cpuTimeUs(pids: readonly number[]): number {
  const time = new BigInt64Array(2);
  let sum = 0;
  for (const pid of pids) {
    if (libc.symbols.clock_gettime((~pid << 3) | 2, time) !== 0) continue;
    sum += Number(time[0]) * 1e6 + Number(time[1]) / 1e3;
  }
  return sum;
}

/** Proportional set size of the processes in bytes. */
export function pssBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + pssOf(pid), 0);
}

function pssOf(pid: number): number {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
    return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/**
 * Memory that the kernel charges to the process's cgroup, in bytes, without page cache that
 * can go at once.
 */
export function cgroupMemoryBytes(pid: number): number | null {
  try {
    const lines = readFileSync(`/proc/${pid}/cgroup`, "latin1").trim().split("\n");
    const v1 = lines.map((line) => /^\d+:([^:]*,)?memory(,[^:]*)?:(.*)$/.exec(line)?.[3]);
    const path = v1.find((at) => at !== undefined);
    if (path !== undefined) return usageWithoutCache(`/sys/fs/cgroup/memory${path}`, "usage_in");
    const v2 = lines.map((line) => /^0::(.*)$/.exec(line)?.[1]).find((at) => at !== undefined);
    return v2 === undefined ? null : usageWithoutCache(`/sys/fs/cgroup${v2}`, "current");
  } catch {
    return null;
  }
}

function usageWithoutCache(directory: string, version: "usage_in" | "current"): number {
  const file = version === "current" ? "memory.current" : "memory.usage_in_bytes";
  const usage = Number(readFileSync(`${directory}/${file}`, "latin1"));
  const stat = readFileSync(`${directory}/memory.stat`, "latin1");
  const inactive = /^(?:total_)?inactive_file (\d+)$/gm;
  const cache = [...stat.matchAll(inactive)].map((match) => Number(match[1]));
  return usage - Math.max(0, ...cache);
}
