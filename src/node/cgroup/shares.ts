/**
 * Guaranteed cores as kernel weights.
 *
 * Siblings with weights w share C cores as C·w/Σw when all are busy. With one unit per core
 * (k = 1024 shares or 100 of v2's weight) and 0.01 core counted for those without a minimum,
 * an app's share is at least its min as long as Σ min + 0.01·(apps without one) ≤ C: the
 * scheduler keeps Σ min below the capacity, so the kernel keeps the promise.
 */
const leastCores = 0.01;

/** cgroup v1 `cpu.shares`: 1024 per core (kernel range 2–262144). */
export function sharesOf(cores: number | null): number {
  return clamp(Math.round(1024 * Math.max(cores ?? 0, leastCores)), 2, 262_144);
}

/** cgroup v2 `cpu.weight`: 100 per core (kernel range 1–10000). */
export function weightOf(cores: number | null): number {
  return clamp(Math.round(100 * Math.max(cores ?? 0, leastCores)), 1, 10_000);
}

/** A CFS ceiling; a null quota lifts it. */
export interface Quota {
  readonly quotaUs: number | null;
  readonly periodUs: number;
}

/**
 * A throttled app stands still until its period ends, so the period is its worst added
 * latency: 20 ms, a fifth of the kernel's default, for which one timer per period is cheap.
 * The kernel's least quota is 1 ms; below 0.05 cores the period grows instead, up to 1 s.
 */
export function quotaOf(cores: number | null): Quota {
  const periodUs = 20_000;
  const quotaUsMin = 1000;
  if (cores === null) return { quotaUs: null, periodUs };
  const quotaUs = Math.round(cores * periodUs);
  if (quotaUs >= quotaUsMin) return { quotaUs, periodUs };
  const stretched = Math.round(quotaUsMin / Math.max(cores, 0.001));
  return { quotaUs: quotaUsMin, periodUs: Math.min(stretched, 1_000_000) };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
