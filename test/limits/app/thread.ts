// One thread of growth.ts: waits for a round, then works and counts what it got done when.

interface Start {
  readonly memory: SharedArrayBuffer;
  readonly index: number;
  readonly bucketMs: number;
  readonly buckets: number;
}

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<Start>) => {
  const { memory, index, bucketMs, buckets } = data;
  const beganAt = new BigInt64Array(memory, 0, 1);
  const round = new Int32Array(memory, 8, 1);
  const progress = new Int32Array(memory, 16 + 4 * index * buckets, buckets);
  self.postMessage("ready");
  for (let seen = 0; ; seen = Atomics.load(round, 0)) {
    Atomics.wait(round, 0, seen);
    const origin = Atomics.load(beganAt, 0);
    for (;;) {
      let mixed = 0;
      for (let step = 0; step < 2000; step++) mixed = (mixed * 31 + step) | 0;
      const bucket = Math.floor(Number(process.hrtime.bigint() - origin) / 1e6 / bucketMs);
      if (bucket >= buckets) break;
      // The sum is used, or the loop could be left out.
      progress[bucket] = (progress[bucket] ?? 0) + (mixed === 1 ? 2 : 1);
    }
  }
};
