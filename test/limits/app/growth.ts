// How long it takes from a jump of the load until the app makes progress at its full rate.
//
//   5 % busy on one core │ jump │ every thread works, counting its progress in buckets of time
//
// Full is what all threads together do once they are under way, on average of the second half.

const bucketMs = 4;
const buckets = 50;

interface Shared {
  /** 0: threads wait; n: round n has begun. */
  readonly round: Int32Array;
  /** When it began, in nanoseconds of the monotonic clock. */
  readonly beganAt: BigInt64Array;
  /** Units of work by thread and bucket. */
  readonly progress: Int32Array;
}

/**
 * Milliseconds for each round: the end of the first bucket with at least 0.9 of the full rate in
 * which every thread has begun.
 */
export async function growthMs(threads: number, rounds: number): Promise<number[]> {
  const memory = new SharedArrayBuffer(16 + 4 * threads * buckets);
  const shared: Shared = {
    round: new Int32Array(memory, 8, 1),
    beganAt: new BigInt64Array(memory, 0, 1),
    progress: new Int32Array(memory, 16),
  };
  const workers = Array.from({ length: threads }, (_, index) => {
    const worker = new Worker(`${import.meta.dir}/thread.ts`);
    worker.postMessage({ memory, index, bucketMs, buckets });
    return worker;
  });
  await Promise.all(
    workers.map((worker) => new Promise((ready) => worker.addEventListener("message", ready))),
  );
  const result: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    await lowLoad(400);
    shared.progress.fill(0);
    Atomics.store(shared.beganAt, 0, process.hrtime.bigint());
    Atomics.store(shared.round, 0, round);
    Atomics.notify(shared.round, 0);
    await Bun.sleep(bucketMs * buckets + 50);
    result.push(growthOf(shared.progress, threads));
  }
  for (const worker of workers) worker.terminate();
  return result;
}

/** Works for 1 ms of every 20: 0.05 cores. */
async function lowLoad(durationMs: number): Promise<void> {
  const end = performance.now() + durationMs;
  while (performance.now() < end) {
    const pause = performance.now() + 1;
    while (performance.now() < pause);
    await Bun.sleep(19);
  }
}

function growthOf(progress: Int32Array, threads: number): number {
  const rows = Array.from({ length: threads }, (_, thread) =>
    progress.subarray(thread * buckets, (thread + 1) * buckets),
  );
  const begun = Math.max(...rows.map((row) => row.findIndex((units) => units > 0)));
  const sums = Array.from({ length: buckets }, (_, bucket) =>
    rows.reduce((sum, row) => sum + (row[bucket] ?? 0), 0),
  );
  const settled = sums.slice(buckets / 2);
  const full = settled.reduce((sum, units) => sum + units, 0) / settled.length;
  const grown = sums.findIndex((sum, bucket) => bucket >= begun && sum >= 0.9 * full);
  return (grown + 1) * bucketMs;
}
