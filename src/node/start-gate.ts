import type { Clock } from "../base/time.ts";

// Starts under way at once are bounded, or a boot with hundreds of apps would start them all
// so slowly that their health checks fail. A start that a request waits for does not queue.

/** A start holds its place for so long at most: slow apps do not hold up the others. */
const heldMsMax = 2000;

export class StartGate {
  readonly #clock: Clock;
  readonly #queue: { readonly owner: object; readonly enter: () => void }[] = [];
  #free: number;

  constructor(clock: Clock, places: number) {
    this.#clock = clock;
    this.#free = places;
  }

  /** Resolves when the start may begin. Call what it gives when the start is over. */
  async enter(owner: object, isUrgent: boolean): Promise<() => void> {
    if (isUrgent) return () => {};
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((enter) => this.#queue.push({ owner, enter }));
    let isOver = false;
    const leave = (): void => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      this.#give();
    };
    const timer = this.#clock.after(heldMsMax, leave);
    return leave;
  }

  /** A request waits for this one now. */
  hurry(owner: object): void {
    const at = this.#queue.findIndex((waiting) => waiting.owner === owner);
    const [waiting] = at === -1 ? [] : this.#queue.splice(at, 1);
    if (waiting === undefined) return;
    // It goes without a place: one less for the next that leaves.
    this.#free -= 1;
    waiting.enter();
  }

  #give(): void {
    this.#free += 1;
    if (this.#free <= 0) return;
    const next = this.#queue.shift();
    if (next === undefined) return;
    this.#free -= 1;
    next.enter();
  }
}
