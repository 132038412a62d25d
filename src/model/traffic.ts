// How traffic is counted: the same in gateways, which count, and in control, which adds up.

/** Upper bounds of the buckets of a request's duration, in milliseconds; one more is beyond. */
export const latencyBoundsMs: readonly number[] = [
  1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000,
];

/** Upper bounds of the buckets of a cold start's duration, in milliseconds. */
export const coldStartBoundsMs: readonly number[] = [
  5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000,
];

/** Index of the bucket that `value` falls into. */
export function bucketOf(value: number, bounds: readonly number[]): number {
  let index = 0;
  while (index < bounds.length && value > (bounds[index] as number)) index += 1;
  return index;
}

export const protocols = ["HTTP/1.0", "HTTP/1.1", "HTTP/2"] as const;
/** A status' first digit; 101 stands for tunnels, such as WebSockets. */
export const statusClasses = ["1xx", "2xx", "3xx", "4xx", "5xx"] as const;

/**
 * One app's counts as a flat list of numbers:
 *
 *   requests by protocol and status class, requests by duration, and then four sums
 */
export const trafficLayout = {
  requests: 0,
  latency: protocols.length * statusClasses.length,
  latencyMs: protocols.length * statusClasses.length + latencyBoundsMs.length + 1,
  bytesIn: protocols.length * statusClasses.length + latencyBoundsMs.length + 2,
  bytesOut: protocols.length * statusClasses.length + latencyBoundsMs.length + 3,
  length: protocols.length * statusClasses.length + latencyBoundsMs.length + 4,
} as const;

/** Where requests of a protocol that ended with a status are counted. */
export function requestIndex(protocol: string, status: number): number {
  const row = Math.max(0, protocols.indexOf(protocol as (typeof protocols)[number]));
  const column = Math.min(statusClasses.length, Math.max(1, Math.floor(status / 100))) - 1;
  return trafficLayout.requests + row * statusClasses.length + column;
}
