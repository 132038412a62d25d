/**
 * min: guaranteed under contention. max: the sustained ceiling. burst: the ceiling while the
 * instance has credit. A null max and burst mean the whole machine. Per instance.
 */
export interface Bounds {
  readonly min: number | null;
  readonly max: number | null;
  readonly burst: number | null;
}

export interface Limits {
  /** Cores. */
  readonly cpu: Bounds;
  /** Bytes. */
  readonly memory: Bounds;
  /** Processes and threads. */
  readonly pids: number;
  /** Open files of each process. */
  readonly openFiles: number;
  /** Bytes that the app's volume may hold, shared by its instances. */
  readonly disk: number;
}

export const unbounded: Bounds = { min: null, max: null, burst: null };

export const defaultLimits: Limits = {
  cpu: unbounded,
  memory: unbounded,
  pids: 1024,
  openFiles: 65_536,
  disk: 1024 ** 3,
};
