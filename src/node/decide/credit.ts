import type { CreditLeft } from "../../model/instance.ts";
import type { Bounds, Limits } from "../../model/limits.ts";

// Burst credit is a token bucket, one for CPU and one for memory of each instance. With the
// use u over a period of t seconds, the sustained ceiling `max` and the ceiling `burst`:
//
//     capacity K = (burst − max) · 60 s
//     credit   C ← clamp(C + (max − u) · t, 0, K)
//
// in core-seconds and byte-seconds. The instance may use `burst` while it has credit. When the
// credit is gone it is held to `max` until an eighth of K is earned again; without that gap
// the ceiling would flap at every sample. An instance begins with a full bucket, as the start
// is when an app needs most. (The shape is that of EC2's CPU credits; the window is ours.)

/** What the kernel enforces: the shape of `CgroupLimits`, which see. */
export interface Ceilings {
  readonly cpuMaxCores: number | null;
  readonly memoryMinBytes: number | null;
  readonly memoryHighBytes: number | null;
  readonly memoryMaxBytes: number | null;
  readonly pidsMax: number | null;
}

/** How long a full bucket lasts at the whole of `burst`. */
export const burstSeconds = 60;
const resumeShare = 1 / 8;

export interface Bucket {
  /** Core-seconds or byte-seconds. */
  readonly credit: number;
  /** The credit ran out and has not come back far enough. */
  readonly exhausted: boolean;
}

export interface Credit {
  readonly cpu: Bucket;
  readonly memory: Bucket;
}

/** The most a bucket holds; 0 when the bounds leave nothing to burst into. */
export function creditCapacity(bounds: Bounds): number {
  if (bounds.max === null || bounds.burst === null) return 0;
  return Math.max(0, bounds.burst - bounds.max) * burstSeconds;
}

/** What is left, to be shown; null: there is nothing to burst into. */
export function creditLeft(bounds: Bounds, bucket: Bucket): CreditLeft | null {
  const capacity = creditCapacity(bounds);
  return capacity === 0 ? null : { left: Math.min(bucket.credit, capacity), capacity };
}

function full(bounds: Bounds): Bucket {
  return { credit: creditCapacity(bounds), exhausted: false };
}

export function fullCredit(limits: Limits): Credit {
  return { cpu: full(limits.cpu), memory: full(limits.memory) };
}

/** The bucket after `seconds` of using `use` (cores or bytes). */
export function account(bucket: Bucket, bounds: Bounds, use: number, seconds: number): Bucket {
  const capacity = creditCapacity(bounds);
  if (capacity === 0 || bounds.max === null) return { credit: 0, exhausted: false };
  const credit = Math.min(capacity, Math.max(0, bucket.credit + (bounds.max - use) * seconds));
  const exhausted = bucket.exhausted ? credit < capacity * resumeShare : credit === 0;
  return { credit, exhausted };
}

/** After a change of limits: what was earned stays, within the new capacity. */
export function rebase(credit: Credit, before: Limits, after: Limits): Credit {
  return {
    cpu: rebaseBucket(credit.cpu, before.cpu, after.cpu),
    memory: rebaseBucket(credit.memory, before.memory, after.memory),
  };
}

function rebaseBucket(bucket: Bucket, before: Bounds, after: Bounds): Bucket {
  const capacity = creditCapacity(after);
  if (creditCapacity(before) === 0) return full(after);
  const credit = Math.min(bucket.credit, capacity);
  return { credit, exhausted: capacity > 0 && (bucket.exhausted || credit === 0) };
}

/** The present ceiling; null is the whole machine. */
export function ceiling(bounds: Bounds, bucket: Bucket): number | null {
  if (bounds.burst === null) return bounds.max;
  if (bounds.max === null || bounds.burst <= bounds.max) return bounds.burst;
  return bucket.exhausted ? bounds.max : bounds.burst;
}

/** Whether use must be sampled often: some credit is spent, so a ceiling depends on it. */
export function needsAccounting(limits: Limits, credit: Credit): boolean {
  return (
    credit.cpu.credit < creditCapacity(limits.cpu) ||
    credit.memory.credit < creditCapacity(limits.memory)
  );
}

/**
 * What the kernel shall enforce now. Memory that an instance holds when its credit ends is not
 * taken from it, which would kill it: it keeps what it has, may not grow, and the ceiling goes
 * down to `max` as it gives memory back.
 */
export function ceilings(limits: Limits, credit: Credit, memoryBytes: number): Ceilings {
  const memoryCeiling = ceiling(limits.memory, credit.memory);
  const held =
    credit.memory.exhausted && memoryCeiling !== null && limits.memory.burst !== null
      ? Math.min(limits.memory.burst, Math.max(memoryCeiling, roundUp(memoryBytes)))
      : memoryCeiling;
  return {
    cpuMaxCores: ceiling(limits.cpu, credit.cpu),
    memoryMinBytes: limits.memory.min,
    memoryHighBytes: credit.memory.exhausted ? limits.memory.max : null,
    memoryMaxBytes: held,
    pidsMax: limits.pids,
  };
}

/** To whole mebibytes, so that the limit is not rewritten for every page. */
function roundUp(bytes: number): number {
  return Math.ceil(bytes / 1024 ** 2) * 1024 ** 2;
}
