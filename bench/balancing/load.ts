import { seededRandom } from "../../src/base/virtual.ts";

export interface Arrival {
  /** Milliseconds after the beginning. */
  readonly atMs: number;
  readonly dear: boolean;
}

/** Poisson arrivals, the same for every contestant. @param rate requests a second */
export function arrivals(
  seed: number,
  seconds: number,
  rate: number,
  dearShare: number,
): readonly Arrival[] {
  const random = seededRandom(seed);
  const list: Arrival[] = [];
  let atMs = 0;
  for (;;) {
    atMs -= (Math.log(1 - random.next()) / rate) * 1000;
    if (atMs > seconds * 1000) return list;
    list.push({ atMs, dear: random.next() < dearShare });
  }
}

export interface Latencies {
  readonly cheapMs: readonly number[];
  readonly dearMs: readonly number[];
  readonly failed: number;
  /** Until the last answer, in milliseconds after the beginning. */
  readonly lastMs: number;
}

/** Sends each request when it is due, whatever came of those before (open loop). */
export async function run(
  list: readonly Arrival[],
  send: (dear: boolean, done: (status: number) => void) => void,
): Promise<Latencies> {
  const cheapMs: number[] = [];
  const dearMs: number[] = [];
  let failed = 0;
  let lastMs = 0;
  let left = list.length;
  const began = performance.now();
  await new Promise<void>((resolve) => {
    const drain = setTimeout(resolve, (list.at(-1)?.atMs ?? 0) + 60_000);
    let next = 0;
    const pump = () => {
      const now = performance.now() - began;
      for (let arrival = list[next]; arrival !== undefined; arrival = list[next]) {
        if (arrival.atMs > now) break;
        next += 1;
        const { atMs, dear } = arrival;
        send(dear, (status) => {
          if (status === 200) {
            lastMs = performance.now() - began;
            (dear ? dearMs : cheapMs).push(lastMs - atMs);
          } else failed += 1;
          left -= 1;
          if (left > 0) return;
          clearTimeout(drain);
          resolve();
        });
      }
      if (next < list.length) setTimeout(pump, 1);
    };
    pump();
  });
  return { cheapMs, dearMs, failed: failed + left, lastMs };
}
