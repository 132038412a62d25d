import type { Timestamp } from "../base/time.ts";

/** What is asked of one app: its requests in flight or waiting, at all gateways together. */
export interface Demand {
  /** The most at any moment of the last `demandWindowMs`. */
  readonly peak: number;
  /** False: nobody has looked for so long yet, it may have been more. */
  readonly isWhole: boolean;
  /** When the above may become less though nothing happens; null: never. */
  readonly changesAt: Timestamp | null;
}

/** An instance goes when the app could have done without it for so long. */
export const demandWindowMs = 60_000;

/** One goes only when the rest would be no fuller than this, so that none comes back at once. */
const fullShareMax = 0.75;

/** The greatest of a number that holds until it is observed anew, over a sliding window. */
export class DemandWindow {
  #current = 0;
  /** Earlier values and when they ended: each above all later ones, oldest first. */
  readonly #ended: { readonly value: number; readonly at: Timestamp }[] = [];

  observe(now: Timestamp, value: number): void {
    if (value === this.#current) return;
    this.#ended.push({ value: this.#current, at: now });
    this.#current = value;
    for (let last = this.#ended.at(-1); last !== undefined; last = this.#ended.at(-1)) {
      const before = this.#ended.at(-2);
      if (last.value <= value) this.#ended.pop();
      else if (before !== undefined && before.value <= last.value) {
        this.#ended.splice(-2, 1);
      } else return;
    }
  }

  peak(now: Timestamp): number {
    while ((this.#ended[0]?.at ?? now) + demandWindowMs < now) this.#ended.shift();
    return this.#ended[0]?.value ?? this.#current;
  }

  /** When the peak falls if nothing is observed until then; null: it does not. */
  fallsAt(): Timestamp | null {
    const first = this.#ended[0];
    return first === undefined ? null : first.at + demandWindowMs + 1;
  }
}

/**
 * Instances for a demand: so many that none has more than `perInstance`, at once; fewer only
 * when the demand's peak fits comfortably into fewer.
 */
export function countFor(
  demand: Pick<Demand, "peak" | "isWhole">,
  scale: { readonly base: number; readonly max: number; readonly perInstance: number },
  present: number,
): number {
  const needed = Math.ceil(demand.peak / scale.perInstance);
  const comfortable = Math.ceil(demand.peak / (scale.perInstance * fullShareMax));
  const kept = demand.isWhole ? Math.min(present, comfortable) : present;
  return Math.min(Math.max(scale.base, needed, kept), Math.max(scale.base, scale.max));
}
