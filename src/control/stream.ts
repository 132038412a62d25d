import { BoundedQueue } from "../base/queue.ts";

/**
 * What one producer hands to one reader. When the reader is too slow the oldest items go, so
 * that it delays nobody and costs bounded memory.
 */
export class Stream<Item> implements AsyncIterable<Item> {
  readonly #queue: BoundedQueue<Item>;
  readonly #onClose: () => void;
  #wake: (() => void) | null = null;
  #ended = false;
  #lost = 0;

  /** `onClose` is called once: when the producer ends it or the reader goes. */
  constructor(capacity: number, onClose: () => void = () => {}) {
    this.#queue = new BoundedQueue(capacity);
    this.#onClose = onClose;
  }

  /** Items that a slow reader missed. */
  get lost(): number {
    return this.#lost;
  }

  push(item: Item): void {
    if (this.#ended) return;
    if (this.#queue.push(item) !== undefined) this.#lost += 1;
    this.#wake?.();
  }

  /** The reader still gets what is queued. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onClose();
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void> {
    try {
      while (true) {
        const item = this.#queue.shift();
        if (item !== undefined) yield item;
        else if (this.#ended) return;
        else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = null;
        }
      }
    } finally {
      this.end();
    }
  }
}

/** Calls back when the signal aborts, at once if it has. */
export function onAbort(signal: AbortSignal, callback: () => void): void {
  if (signal.aborted) callback();
  else signal.addEventListener("abort", callback, { once: true });
}
