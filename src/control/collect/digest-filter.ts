import { assert } from "../../base/assert.ts";

const bitsPerDigest = 16;
const bitsMin = 2 ** 13;
const bitsMax = 2 ** 31;
const probes = 4;
const wordDigits = 8;
const words = 8;

/**
 * Which digests were added, in 2 bytes each: a Bloom filter. It never forgets one; of others it
 * takes about one in 400 for added, another one with each `turn`. A digest is random bits already,
 * so that its own words are the hashes. The share is (1 - e^(-k/b))^k with k probes and b bits a
 * digest (Bloom, "Space/Time Trade-offs in Hash Coding with Allowable Errors", 1970).
 */
export class DigestFilter {
  readonly #bits: Uint8Array;
  readonly #turn: number;

  /** @param count of digests that will be added, about. */
  constructor(count: number, turn: number) {
    let size = bitsMin;
    while (size < count * bitsPerDigest && size < bitsMax) size *= 2;
    this.#bits = new Uint8Array(size / 8);
    this.#turn = turn;
  }

  add(digest: string): void {
    for (let probe = 0; probe < probes; probe += 1) {
      const bit = this.#bitOf(digest, probe);
      this.#bits[bit >>> 3] = (this.#bits[bit >>> 3] as number) | (1 << (bit & 7));
    }
  }

  mayHave(digest: string): boolean {
    for (let probe = 0; probe < probes; probe += 1) {
      const bit = this.#bitOf(digest, probe);
      if (((this.#bits[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
    }
    return true;
  }

  #bitOf(digest: string, probe: number): number {
    const at = ((this.#turn + probe) % words) * wordDigits;
    const word = Number.parseInt(digest.slice(at, at + wordDigits), 16);
    assert(!Number.isNaN(word), "a digest has 64 hexadecimal digits");
    return word % (this.#bits.length * 8);
  }
}
