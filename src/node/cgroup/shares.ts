/** cgroup v1 `cpu.shares`: 1024 per core, the kernel's default (its range is 2–262144). */
export function sharesOf(cores: number): number {
  return clamp(Math.round(1024 * cores), 2, 262_144);
}

/** cgroup v2 `cpu.weight`: 100 per core, the kernel's default (its range is 1–10000). */
export function weightOf(cores: number): number {
  return clamp(Math.round(100 * cores), 1, 10_000);
}

/** A CFS ceiling; a null quota lifts it. */
export interface Quota {
  readonly quotaUs: number | null;
  readonly periodUs: number;
}

const periodUs = 20_000;
/** What the kernel does after a burst is as long as the burst: 10 ms make a ration's 1 ms each. */
const rationPeriodUs = 10_000;

/**
 * A throttled app stands still until its period ends, so the period is its worst added
 * latency: 20 ms, a fifth of the kernel's default, for which one timer per period is cheap.
 * The kernel's least quota is 1 ms; below 0.05 cores the period grows instead, up to 1 s.
 */
export function quotaOf(cores: number | null): Quota {
  return cores === null ? { quotaUs: null, periodUs } : quotaIn(cores, periodUs);
}

/** Its ceiling, or its ration where that is less; null: it has none. */
export function rationedQuotaOf(ceiling: number | null, ration: number | null): Quota {
  if (ration === null || (ceiling !== null && ceiling <= ration)) return quotaOf(ceiling);
  return quotaIn(ration, rationPeriodUs);
}

function quotaIn(cores: number, periodUs: number): Quota {
  const quotaUsMin = 1000;
  const quotaUs = Math.round(cores * periodUs);
  if (quotaUs >= quotaUsMin) return { quotaUs, periodUs };
  const stretched = Math.round(quotaUsMin / Math.max(cores, 0.001));
  return { quotaUs: quotaUsMin, periodUs: Math.min(stretched, 1_000_000) };
}

/** As cpuset.cpus takes it: the first `count` of those in `all` ("0-3,8"). */
export function firstCores(all: string, count: number): string {
  const cores = all.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  return cores.slice(0, count).join(",");
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
