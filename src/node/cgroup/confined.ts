import type { Clock, Timestamp } from "../../base/time.ts";
import type { Confinement } from "../decide/suppression.ts";

/** Where a cgroup has been told to run, and for how long it was not everywhere. */
export class Confined {
  readonly #clock: Clock;
  #place: Confinement | null = null;
  #since: Timestamp = 0;
  #sumMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get place(): Confinement | null {
    return this.#place;
  }

  /** Since it is known here. */
  get us(): number {
    const lastMs = this.#place === null ? 0 : this.#clock.now() - this.#since;
    return (this.#sumMs + Math.max(0, lastMs)) * 1000;
  }

  move(to: Confinement | null): void {
    const now = this.#clock.now();
    this.#sumMs = this.us / 1000;
    this.#since = now;
    this.#place = to;
  }
}
