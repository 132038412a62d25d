import { assert } from "../../base/assert.ts";
import { BoundedQueue } from "../../base/queue.ts";

export interface OutboxBounds {
  /** Frames that wait in one stream before its oldest goes. */
  readonly streamFramesMax: number;
  /** Bytes of all streams before the oldest frame of the largest one goes. */
  readonly streamBytesMax: number;
  /** Bytes of frames that may not be lost; beyond it the connection is given up. */
  readonly urgentBytesMax: number;
}

export const defaultOutboxBounds: OutboxBounds = {
  streamFramesMax: 10_000,
  streamBytesMax: 16 * 1024 * 1024,
  urgentBytesMax: 80 * 1024 * 1024,
};

interface Stream {
  readonly queue: BoundedQueue<Uint8Array>;
  bytes: number;
}

/**
 * What waits to be written to one socket. Urgent frames (requests, answers) go first and are
 * never lost; those of streams (subscriptions) take turns, and lose their oldest [W5].
 *
 *   direct (nothing waits: frames go straight to the socket) ⇄ waiting (for `drained`)
 */
export class Outbox {
  readonly #write: (bytes: Uint8Array) => number;
  readonly #onDrop: (stream: number) => void;
  readonly #bounds: OutboxBounds;
  /** The rest of a frame of which a part was written. */
  #rest: Uint8Array | null = null;
  readonly #urgent = new BoundedQueue<Uint8Array>(Number.MAX_SAFE_INTEGER);
  #urgentBytes = 0;
  /** Those with frames that wait, in the order of their turns. */
  readonly #streams = new Map<number, Stream>();
  #streamBytes = 0;

  /** `write` returns how many bytes the socket took; `onDrop` is told of each frame lost. */
  constructor(
    write: (bytes: Uint8Array) => number,
    onDrop: (stream: number) => void,
    bounds: OutboxBounds,
  ) {
    this.#write = write;
    this.#onDrop = onDrop;
    this.#bounds = bounds;
  }

  /** False: too much waits already, the peer does not read. */
  sendUrgent(frame: Uint8Array): boolean {
    if (this.#isDirect()) {
      this.#begin(frame);
      return true;
    }
    if (this.#urgentBytes + frame.byteLength > this.#bounds.urgentBytesMax) return false;
    this.#urgent.push(frame);
    this.#urgentBytes += frame.byteLength;
    return true;
  }

  send(streamId: number, frame: Uint8Array): void {
    if (this.#isDirect()) {
      this.#begin(frame);
      return;
    }
    let stream = this.#streams.get(streamId);
    if (stream === undefined) {
      stream = { queue: new BoundedQueue(this.#bounds.streamFramesMax), bytes: 0 };
      this.#streams.set(streamId, stream);
    }
    this.#count(stream, frame.byteLength);
    const lost = stream.queue.push(frame);
    if (lost !== undefined) {
      this.#count(stream, -lost.byteLength);
      this.#onDrop(streamId);
    }
    while (this.#streamBytes > this.#bounds.streamBytesMax) this.#dropOldestOfLargest();
  }

  /** Forgets what waits in a stream. */
  forget(streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#streamBytes -= stream.bytes;
    this.#streams.delete(streamId);
  }

  /** To be called when the socket takes bytes again. */
  drained(): void {
    if (this.#rest !== null) {
      const rest = this.#rest;
      this.#rest = null;
      this.#begin(rest);
    }
    while (this.#rest === null) {
      const frame = this.#next();
      if (frame === undefined) return;
      this.#begin(frame);
    }
  }

  #isDirect(): boolean {
    return this.#rest === null && this.#urgent.length === 0 && this.#streams.size === 0;
  }

  #begin(frame: Uint8Array): void {
    const written = Math.max(0, this.#write(frame));
    if (written < frame.byteLength) this.#rest = frame.subarray(written);
  }

  #next(): Uint8Array | undefined {
    const urgent = this.#urgent.shift();
    if (urgent !== undefined) {
      this.#urgentBytes -= urgent.byteLength;
      return urgent;
    }
    const turn = this.#streams.entries().next();
    if (turn.done) return undefined;
    const [id, stream] = turn.value;
    const frame = stream.queue.shift();
    assert(frame !== undefined, "a stream without frames has a turn");
    this.#count(stream, -frame.byteLength);
    this.#streams.delete(id);
    if (stream.queue.length > 0) this.#streams.set(id, stream);
    return frame;
  }

  #dropOldestOfLargest(): void {
    let largest: [number, Stream] | null = null;
    for (const entry of this.#streams) {
      if (largest === null || entry[1].bytes > largest[1].bytes) largest = entry;
    }
    assert(largest !== null, "bytes of streams without streams");
    const [id, stream] = largest;
    const lost = stream.queue.shift();
    assert(lost !== undefined, "bytes of a stream without frames");
    this.#count(stream, -lost.byteLength);
    if (stream.queue.length === 0) this.#streams.delete(id);
    this.#onDrop(id);
  }

  #count(stream: Stream, bytes: number): void {
    stream.bytes += bytes;
    this.#streamBytes += bytes;
  }
}
