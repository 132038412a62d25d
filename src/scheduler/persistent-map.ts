const bucketCount = 256;

type Bucket<Value> = ReadonlyMap<string, Value>;

/** FNV-1a, folded onto the buckets. */
function bucketOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < key.length; index += 1) {
    hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193);
  }
  return (hash ^ (hash >>> 15)) & (bucketCount - 1);
}

/**
 * An immutable map whose versions share what did not change: an edit copies the list of
 * buckets and the buckets it touches, about a 256th of the entries each.
 */
export class PersistentMap<Value> {
  readonly size: number;
  readonly #buckets: readonly (Bucket<Value> | undefined)[];

  private constructor(buckets: readonly (Bucket<Value> | undefined)[], size: number) {
    this.#buckets = buckets;
    this.size = size;
  }

  static empty<Value>(): PersistentMap<Value> {
    return new PersistentMap<Value>(new Array(bucketCount).fill(undefined), 0);
  }

  get(key: string): Value | undefined {
    return this.#buckets[bucketOf(key)]?.get(key);
  }

  *entries(): IterableIterator<readonly [string, Value]> {
    for (const bucket of this.#buckets) if (bucket !== undefined) yield* bucket;
  }

  edit(): PersistentMapEdit<Value> {
    return new PersistentMapEdit(this.#buckets, this.size, (buckets, size) =>
      size === this.size && buckets === this.#buckets ? this : new PersistentMap(buckets, size),
    );
  }
}

/** Changes towards the next version; only the caller sees them until `done`. */
export class PersistentMapEdit<Value> {
  readonly #before: readonly (Bucket<Value> | undefined)[];
  readonly #owned = new Map<number, Map<string, Value>>();
  readonly #finish: (
    buckets: readonly (Bucket<Value> | undefined)[],
    size: number,
  ) => PersistentMap<Value>;
  #size: number;

  constructor(
    before: readonly (Bucket<Value> | undefined)[],
    size: number,
    finish: (buckets: readonly (Bucket<Value> | undefined)[], size: number) => PersistentMap<Value>,
  ) {
    this.#before = before;
    this.#size = size;
    this.#finish = finish;
  }

  get(key: string): Value | undefined {
    const index = bucketOf(key);
    return (this.#owned.get(index) ?? this.#before[index])?.get(key);
  }

  set(key: string, value: Value): void {
    const bucket = this.#own(key);
    if (!bucket.has(key)) this.#size += 1;
    bucket.set(key, value);
  }

  delete(key: string): void {
    if (this.get(key) !== undefined && this.#own(key).delete(key)) this.#size -= 1;
  }

  done(): PersistentMap<Value> {
    if (this.#owned.size === 0) return this.#finish(this.#before, this.#size);
    const buckets = [...this.#before];
    for (const [index, bucket] of this.#owned) {
      buckets[index] = bucket.size === 0 ? undefined : bucket;
    }
    this.#owned.clear();
    return this.#finish(buckets, this.#size);
  }

  #own(key: string): Map<string, Value> {
    const index = bucketOf(key);
    const owned = this.#owned.get(index);
    if (owned !== undefined) return owned;
    const copy = new Map(this.#before[index]);
    this.#owned.set(index, copy);
    return copy;
  }
}
