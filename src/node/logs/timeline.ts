import type { Timestamp } from "../../base/time.ts";

/** By `at`, the file had reached `offset`. */
export interface Mark {
  readonly offset: number;
  readonly at: Timestamp;
}

const marksMax = 8192;

/**
 * Times for raw output, which has none: marks of how long the file was when. A line has the
 * time of the first mark at or after its end, so it is late by at most the distance of two
 * looks at the file (200 ms; exact to a few ms for the first line after a pause). Marks are
 * sorted by offset and by time; when there are too many, every second one of the older half
 * goes.
 */
export class Timeline {
  #marks: Mark[];

  constructor(marks: readonly Mark[] = []) {
    this.#marks = [...marks];
  }

  get marks(): readonly Mark[] {
    return this.#marks;
  }

  /** True when marks were thinned, so that what is stored must be rewritten. */
  add(mark: Mark): boolean {
    const last = this.#marks.at(-1);
    if (last !== undefined && mark.offset <= last.offset) return false;
    this.#marks.push({ offset: mark.offset, at: Math.max(mark.at, last?.at ?? 0) });
    if (this.#marks.length <= marksMax) return false;
    const half = marksMax / 2;
    this.#marks = this.#marks.filter((_, index) => index >= half || index % 2 === 1);
    return true;
  }

  /** Time of the line that ends at `end`; null when no mark reaches so far. */
  timeOf(end: number): Timestamp | null {
    return this.#marks[this.#first((mark) => mark.offset >= end)]?.at ?? null;
  }

  /** Where the lines at or after a time begin (perhaps in the middle of one). */
  offsetSince(since: Timestamp): number {
    const index = this.#first((mark) => mark.at >= since);
    return this.#marks[index - 1]?.offset ?? 0;
  }

  /** Marks below this offset belong to output that is gone. */
  forgetBefore(offset: number): void {
    const index = this.#first((mark) => mark.offset > offset);
    if (index > 0) this.#marks = this.#marks.slice(index);
  }

  #first(holds: (mark: Mark) => boolean): number {
    let low = 0;
    let high = this.#marks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const mark = this.#marks[middle];
      if (mark !== undefined && holds(mark)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

const markBytes = 16;

export function encodeMarks(marks: readonly Mark[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(marks.length * markBytes));
  marks.forEach(({ offset, at }, index) => {
    view.setFloat64(index * markBytes, offset, true);
    view.setFloat64(index * markBytes + 8, at, true);
  });
  return new Uint8Array(view.buffer);
}

/** Stops at the first mark that is torn or out of order. */
export function decodeMarks(bytes: Uint8Array): Mark[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const marks: Mark[] = [];
  for (let at = 0; at + markBytes <= bytes.byteLength; at += markBytes) {
    const mark = { offset: view.getFloat64(at, true), at: view.getFloat64(at + 8, true) };
    const last = marks.at(-1) ?? { offset: -1, at: 0 };
    if (!(mark.offset > last.offset && mark.at >= last.at)) break;
    marks.push(mark);
  }
  return marks;
}
