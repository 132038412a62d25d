import type { Confinement } from "../decide/suppression.ts";

/** CPU and memory settings of one cgroup; null lifts the limit. */
export interface CgroupLimits {
  /** Ceiling in cores. */
  readonly cpuMaxCores: number | null;
  /** Protected from reclaim (v2 memory.min; v1 soft limit). */
  readonly memoryMinBytes: number | null;
  /** Reclaimed and slowed above this (v2 memory.high; v1 has none). */
  readonly memoryHighBytes: number | null;
  /** Killed above this. Swap is never allowed. */
  readonly memoryMaxBytes: number | null;
  readonly pidsMax: number | null;
}

export interface CgroupUsage {
  readonly cpuTimeUs: number;
  readonly memoryBytes: number;
  /** Of memoryBytes, page cache that can go at once. */
  readonly cacheBytes: number;
  readonly oomKills: number;
  /** By its ceiling, or by a ration while it was confined. */
  readonly throttledUs: number;
  /** For how long it was held to some of the cores. */
  readonly confinedUs: number;
}

export interface Cgroup {
  readonly name: string;
  /** `cgroup.procs` files: a launcher writes `0` into each to join, before it does anything. */
  readonly joinPaths: readonly string[];
  /** As `joinPaths`, for what only shall run as it does: at its weight, on its cores. */
  readonly runPaths: readonly string[];
  setLimits(limits: CgroupLimits): Promise<void>;
  /**
   * Its part of the CPU time when others want it too, beside their weights; a new cgroup's is
   * one core. Nothing happens when it has just gone.
   */
  setCpuWeight(cores: number): void;
  /**
   * Null: it may run everywhere, by its weight, up to its ceiling. Nothing happens when it has
   * just gone.
   */
  confine(to: Confinement | null): void;
  /** What `confine` was told last; null: it may run everywhere. */
  readonly confinement: Confinement | null;
  usage(): Promise<CgroupUsage>;
  /** The same number as in `usage`, at the price of one file; 0 when it has just gone. */
  cpuTimeUs(): number;
  /** Of that, what was spent inside the kernel, by the kernel's ticks; 0 when it has just gone. */
  kernelTimeUs(): number;
  pids(): Promise<readonly number[]>;
  /** True: everything in it stands still. False: `thaw` came before that. */
  freeze(): Promise<boolean>;
  /** Takes effect before it returns, also while `freeze` still waits. */
  thaw(): Promise<void>;
  /** Gives back memory that costs little to have again, if it is worth it: page cache. */
  reclaim(): Promise<void>;
  /** Kills every process in it (also one that forks meanwhile) and waits until it is empty. */
  kill(): Promise<void>;
  /** Calls back on every OOM kill, by the kernel's event. */
  onOomKill(callback: () => void): { cancel(): void };
  /** It must be empty. */
  remove(): Promise<void>;
}

/** What whoever may thaw writes where: `thawed` into `file` of the cgroup's folder there. */
export interface Freezer {
  readonly directory: string;
  readonly file: string;
  readonly thawed: string;
}

/** Said where `canConfine` is false. */
export const noCoresRemark = "no cpuset controller: batch work cannot be kept off cores";

/**
 * The cgroups of one cloud: everything below `lode-<cloud>` in each hierarchy, nothing else is
 * ever touched. Two implementations: `v1.ts` (also hybrid hosts) and `v2.ts`.
 */
export interface CgroupTree {
  readonly version: 1 | 2;
  /** The kernel can hold a cgroup to some of the cores. */
  readonly canConfine: boolean;
  readonly freezer: Freezer;
  /** What everything in it used since it was made. */
  cpuTimeUs(): number;
  create(name: string): Promise<Cgroup>;
  /** An existing one, for adoption; null when it is gone. */
  open(name: string): Promise<Cgroup | null>;
  /** Names of those that exist. */
  list(): Promise<readonly string[]>;
  /** Kills and removes all, and the tree itself. */
  destroy(): Promise<void>;
}
