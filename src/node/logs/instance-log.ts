import {
  appendFileSync,
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Clock, Timestamp } from "../../base/time.ts";
import { formatBytes } from "../../base/units.ts";
import { pause } from "../linux/time.ts";
import { type Growth, watchGrowth } from "./growth.ts";
import { splitLines } from "./lines.ts";
import { freeHead } from "./space.ts";
import { decodeMarks, encodeMarks, Timeline } from "./timeline.ts";

// One folder an instance:
//
//   out     what the app writes: its own O_APPEND descriptor, so it outlives lode and costs
//           nothing to carry
//   times   marks (offset, time), see timeline.ts
//   events  JSON lines {at, text} of what lode says about it, exact in time
//
// `out` is bounded by freeing its head on the disk (a hole; offsets stay as they are), which
// works while the app holds the descriptor, loses no line and needs no help from the app. Its
// length goes on counting; only the last `keptBytes` exist.

/** Kept of an app's output, per instance. */
export const keptBytes = 16 * 1024 ** 2;
/** So much more may be there before the head is freed. */
export const freeStepBytes = 4 * 1024 ** 2;
/** Between two cuts of a flood: in it the fastest app writes less than its memory may hold. */
const cutPauseMs = 50;
/** Published at most at once; the rest of a flood is named, not shown. */
const liveBytesMax = 256 * 1024;
const eventBytesMax = 256 * 1024;
/** Marks in the file, before it is written anew without those that are gone. */
const storedMarksMax = 16_384;

export interface TimedLine {
  readonly at: Timestamp;
  readonly stream: "out" | "lode";
  readonly text: string;
}

export interface LogQuery {
  readonly since: Timestamp | null;
  /** At most so many, the newest. */
  readonly tail: number;
}

export interface InstanceLog {
  /** A descriptor for the app's stdout and stderr. The caller closes it. */
  openForApp(): number;
  /**
   * Follows the file, from now until `rest`: marks times, keeps it bounded, goes live.
   * @param runPaths of the app's cgroup: what it costs to keep it bounded is the app's.
   */
  watch(runPaths: readonly string[]): void;
  /** The app does not run: a last look, then nothing. */
  rest(): void;
  event(text: string): void;
  /** Hands every new line to `live` until then; what is there already counts as seen. */
  followUntil(until: Timestamp): void;
  read(query: LogQuery): TimedLine[];
}

export function openInstanceLog(
  directory: string,
  clock: Clock,
  live: (line: TimedLine) => void,
): InstanceLog {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return new FileLog(directory, clock, live);
}

const lastLines = 20;

/** What an app said last, for whoever is told how it ended. */
export function lastOutput(log: InstanceLog, since: Timestamp): readonly string[] {
  const lines = log.read({ since, tail: lastLines });
  return lines.filter(({ stream }) => stream === "out").map(({ text }) => text);
}

class FileLog implements InstanceLog {
  readonly #out: string;
  readonly #times: string;
  readonly #events: string;
  readonly #clock: Clock;
  readonly #live: (line: TimedLine) => void;
  readonly #timeline: Timeline;
  #growth: Growth | null = null;
  #runPaths: readonly string[] = [];
  #freed = 0;
  #freeing = false;
  #followUntil = 0;
  #published = 0;
  #storedMarks: number;

  constructor(directory: string, clock: Clock, live: (line: TimedLine) => void) {
    this.#out = join(directory, "out");
    this.#times = join(directory, "times");
    this.#events = join(directory, "events");
    this.#clock = clock;
    this.#live = live;
    this.#timeline = new Timeline(decodeMarks(readOrEmpty(this.#times)));
    this.#storedMarks = this.#timeline.marks.length;
    this.#catchUp();
  }

  openForApp(): number {
    return openSync(this.#out, "a", 0o600);
  }

  watch(runPaths: readonly string[]): void {
    this.#runPaths = runPaths;
    this.#growth ??= watchGrowth(this.#out, this.#clock, (size) => {
      this.#grown(size, this.#clock.now());
    });
  }

  rest(): void {
    this.#growth?.look();
    this.#growth?.close();
    this.#growth = null;
    this.#runPaths = [];
    this.#publish(true);
  }

  event(text: string): void {
    const line = { at: this.#clock.now(), stream: "lode" as const, text };
    this.#growth?.look();
    appendFileSync(this.#events, `${JSON.stringify({ at: line.at, text })}\n`, { mode: 0o600 });
    if (line.at < this.#followUntil) this.#live(line);
    if (statSync(this.#events).size <= 2 * eventBytesMax) return;
    replaceFile(this.#events, readOrEmpty(this.#events).slice(-eventBytesMax));
  }

  followUntil(until: Timestamp): void {
    this.#growth?.look();
    const now = this.#clock.now();
    if (now < this.#followUntil) this.#publish(false);
    else this.#published = this.#size();
    this.#followUntil = Math.max(this.#followUntil, until);
  }

  read({ since, tail }: LogQuery): TimedLine[] {
    // So that a line has one time, however often it is asked for.
    this.#growth?.look();
    const events = this.#readEvents().filter(({ at }) => since === null || at >= since);
    const lines = [...this.#readOut(since, tail), ...events];
    return lines.sort((left, right) => left.at - right.at).slice(-tail);
  }

  /** What was written while no lode watched has the time of the file's last change. */
  #catchUp(): void {
    withFile(this.#out, (descriptor) => {
      const { size, mtimeMs } = fstatSync(descriptor);
      // As much as an earlier lode, or its keeper, may have freed.
      if (size > keptBytes) this.#free(size - keptBytes);
      this.#grown(size, Math.trunc(mtimeMs));
      this.#published = size;
    });
  }

  #grown(size: number, at: Timestamp): void {
    if (size > (this.#timeline.marks.at(-1)?.offset ?? 0)) this.#mark(size, at);
    this.#bound(size);
    this.#publish(false);
  }

  #mark(offset: number, at: Timestamp): void {
    const thinned = this.#timeline.add({ offset, at });
    this.#storedMarks += 1;
    if (!thinned && this.#storedMarks < storedMarksMax) {
      appendFileSync(this.#times, encodeMarks(this.#timeline.marks.slice(-1)), { mode: 0o600 });
      return;
    }
    replaceFile(this.#times, encodeMarks(this.#timeline.marks));
    this.#storedMarks = this.#timeline.marks.length;
  }

  #bound(size: number): void {
    if (size - this.#freed > keptBytes + freeStepBytes) this.#free(size - keptBytes);
  }

  #free(until: number): void {
    this.#freed = until;
    this.#timeline.forgetBefore(until);
    if (!this.#freeing) void this.#punch();
  }

  /**
   * One at a time; what a flood adds meanwhile is the next one's. That comes soon: what is cut
   * before the kernel must make room for it in the app's memory is never written to the disk.
   */
  async #punch(): Promise<void> {
    this.#freeing = true;
    for (let punched = 0; punched < this.#freed; ) {
      punched = this.#freed;
      if (!(await freeHead(this.#out, punched, this.#runPaths))) break;
      await pause(this.#clock, cutPauseMs);
      this.#bound(this.#size());
    }
    this.#freeing = false;
  }

  #size(): number {
    return withFile(this.#out, (descriptor) => fstatSync(descriptor).size) ?? 0;
  }

  #publish(withLast: boolean): void {
    const now = this.#clock.now();
    if (now >= this.#followUntil) return;
    const size = this.#size();
    if (size - this.#published > liveBytesMax) {
      const skipped = size - liveBytesMax - this.#published;
      const text = `${formatBytes(skipped)} of output came too fast to be shown live`;
      this.#live({ at: now, stream: "lode", text });
      this.#published = size - liveBytesMax;
    }
    for (const { text, end } of this.#lines(this.#published, size, withLast)) {
      this.#live({ at: this.#timeline.timeOf(end) ?? now, stream: "out", text });
      this.#published = end;
    }
  }

  #lines(from: number, to: number, withLast: boolean) {
    const bytes = withFile(this.#out, (descriptor) => readRange(descriptor, from, to));
    return splitLines(bytes ?? new Uint8Array(), from, withLast);
  }

  /** Reads backwards in growing pieces until there are enough lines. */
  #readOut(since: Timestamp | null, tail: number): TimedLine[] {
    const size = this.#size();
    const oldest = Math.max(this.#freed, since === null ? 0 : this.#timeline.offsetSince(since));
    for (let length = 64 * 1024; ; length *= 4) {
      const from = Math.max(oldest, size - length);
      const lines = this.#lines(from, size, true);
      // The first piece is a line's end, unless the file begins here.
      if (from > 0 && from !== this.#lineStart(from)) lines.shift();
      if (from > oldest && lines.length < tail) continue;
      const now = this.#clock.now();
      return lines
        .slice(-tail)
        .map(({ text, end }) => ({
          at: this.#timeline.timeOf(end) ?? now,
          stream: "out" as const,
          text,
        }))
        .filter(({ at }) => since === null || at >= since);
    }
  }

  /** `offset` when a line begins there. */
  #lineStart(offset: number): number | null {
    const before = withFile(this.#out, (descriptor) => readRange(descriptor, offset - 1, offset));
    return before?.[0] === 10 ? offset : null;
  }

  #readEvents(): TimedLine[] {
    const text = new TextDecoder().decode(readOrEmpty(this.#events).slice(-eventBytesMax));
    const events: TimedLine[] = [];
    for (const line of text.split("\n")) {
      try {
        const { at, text: said } = JSON.parse(line) as { at: Timestamp; text: string };
        events.push({ at, stream: "lode", text: said });
      } catch {
        // Cut at the beginning of what is read, or torn by a crash.
      }
    }
    return events;
  }
}

function readRange(descriptor: number, from: number, to: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, to - from));
  let length = 0;
  while (length < bytes.length) {
    const count = readSync(descriptor, bytes, length, bytes.length - length, from + length);
    if (count === 0) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

function withFile<Value>(path: string, use: (descriptor: number) => Value): Value | null {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    return null;
  }
  try {
    return use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function replaceFile(path: string, content: Uint8Array): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function readOrEmpty(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch {
    return new Uint8Array();
  }
}
