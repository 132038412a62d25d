import { assert } from "./assert.ts";

/** First in, first out, with room for `capacity` items: a full queue gives up its oldest. */
export class BoundedQueue<Item> {
  readonly #capacity: number;
  #items: (Item | undefined)[] = [];
  #head = 0;

  constructor(capacity: number) {
    assert(capacity > 0, `a queue for ${capacity} items`);
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** Returns the oldest item if it had to go, else undefined. */
  push(item: Item): Item | undefined {
    const dropped = this.length === this.#capacity ? this.shift() : undefined;
    this.#items.push(item);
    return dropped;
  }

  shift(): Item | undefined {
    if (this.#head === this.#items.length) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
  }
}
