// Runs cases in worker processes, one for each core, and adds up what they tell.

import { cpus } from "node:os";
import { join } from "node:path";
import { repository } from "../harness/cloud.ts";
import { emptySum, type Sum } from "./requests.ts";
import type { Kind, Progress } from "./worker.ts";

export interface MemoryRun {
  readonly sum: Sum;
  /** Of all workers together. */
  readonly durationMs: number;
  /** What a worker's resident memory grew by at most, from a quarter of its cases to its end. */
  readonly grownBytesMax: number;
}

/** What became of a slice. */
export interface Slice {
  readonly last: Progress;
  /** Resident bytes after a quarter of its cases. */
  readonly early: number;
  readonly durationMs: number;
}

/** Slices that are done, by kind, seed and place. */
export interface SliceStore {
  get(key: string): Slice | undefined;
  set(key: string, slice: Slice): unknown;
}

/** A minute at most, so that not much is lost with an interrupted run. */
const sliceCases: Readonly<Record<Kind, number>> = {
  requests: 250_000,
  answers: 250_000,
  http2: 120_000,
  hpack: 250_000,
};

/** A case takes well under a millisecond: a worker that says nothing for so long hangs. */
const silenceMs = 60_000;

interface Job {
  readonly kind: Kind;
  readonly seed: number;
  readonly count: number;
}

async function runWorker(
  { kind, seed, count }: Job,
  from: number,
  onProgress: (progress: Progress) => void,
): Promise<{ last: Progress; early: number }> {
  const child = Bun.spawn(
    [
      ...[join(repository, "tools/bun"), join(repository, "test/fuzz/worker.ts")],
      ...["--kind", kind, "--seed", `${seed}`, "--from", `${from}`, "--count", `${count}`],
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  let last: Progress | null = null;
  let early = 0;
  let heardAt = performance.now();
  const watchdog = setInterval(() => {
    if (performance.now() - heardAt > silenceMs) child.kill("SIGKILL");
  }, 1000);
  let text = "";
  for await (const bytes of child.stdout.pipeThrough(new TextDecoderStream() as never)) {
    heardAt = performance.now();
    text += bytes as unknown as string;
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) {
      last = JSON.parse(line) as Progress;
      if (early === 0 && last.cases >= count / 4) early = last.residentBytes;
      onProgress(last);
    }
  }
  clearInterval(watchdog);
  const code = await child.exited;
  if (code === 0 && last?.done === true) return { last, early };
  const index = from + (last?.cases ?? 0);
  const fault = `the worker ended with ${child.signalCode ?? code} soon after case ${index}`;
  const finding = { index, sent: "", faults: [fault] };
  return {
    last: { ...emptySum(), ...last, findings: [finding], done: false, residentBytes: 0 },
    early,
  };
}

/** The first `count` cases of a seed, in slices; those already in `store` are not run again. */
export async function runInMemory(
  job: Job,
  onProgress: (cases: number) => void,
  store: SliceStore = new Map(),
): Promise<MemoryRun> {
  const most = sliceCases[job.kind];
  const slices = Array.from({ length: Math.ceil(job.count / most) }, (_, index) => ({
    from: index * most,
    count: Math.min(most, job.count - index * most),
  }));
  const keyOf = (slice: { from: number; count: number }) =>
    `${job.kind} ${job.seed} ${slice.from} ${slice.count}`;
  const left = slices.filter((slice) => store.get(keyOf(slice)) === undefined);
  const cases = new Map(slices.map((slice) => [slice, store.get(keyOf(slice))?.last.cases ?? 0]));
  const found: Slice[] = [];
  const lane = async () => {
    for (let slice = left.shift(); slice !== undefined; slice = left.shift()) {
      const current = slice;
      const startedAt = performance.now();
      const { last, early } = await runWorker({ ...job, count: slice.count }, slice.from, (now) => {
        cases.set(current, now.cases);
        onProgress([...cases.values()].reduce((total, some) => total + some, 0));
      });
      const done = { last, early, durationMs: performance.now() - startedAt };
      // A slice with findings is run again until it has none.
      if (last.findings.length > 0) found.push(done);
      else store.set(keyOf(slice), done);
    }
  };
  await Promise.all(cpus().map(lane));
  const done = slices
    .map((slice) => store.get(keyOf(slice)))
    .filter((slice) => slice !== undefined);
  return addUp([...done, ...found]);
}

function addUp(slices: readonly Slice[]): MemoryRun {
  const sum = emptySum();
  let durationMs = 0;
  let grownBytesMax = 0;
  for (const { last, early, durationMs: took } of slices) {
    sum.cases += last.cases;
    sum.requests += last.requests;
    sum.forwarded += last.forwarded;
    sum.refused += last.refused;
    sum.stopped += last.stopped;
    sum.findings.push(...last.findings);
    durationMs += took;
    grownBytesMax = Math.max(grownBytesMax, last.residentBytes - early);
  }
  return { sum, durationMs, grownBytesMax };
}
