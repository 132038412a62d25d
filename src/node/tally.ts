import type { Timestamp } from "../base/time.ts";
import { bucketOf, coldStartBoundsMs } from "../model/traffic.ts";
import type { InstanceTotals } from "../model/wire.ts";

export type Totals = Omit<InstanceTotals, "instance" | "project" | "app" | "process">;

const nothing = { cpuTimeUs: 0, throttledUs: 0, confinedUs: 0, oomKills: 0 };

/** What is read of a cgroup as ever growing numbers. */
interface Reading {
  readonly cpuTimeUs: number;
  readonly throttledUs: number;
  readonly confinedUs: number;
  readonly oomKills: number;
}

/** Adds up over an instance's processes what each cgroup, which goes with its process, counts. */
export class Tally {
  #sum: Reading = nothing;
  #last: Reading | null = null;
  #restarts = 0;
  #wakes = 0;
  #wakeBeganAt: Timestamp | null = null;
  #coldStarts: number[] = [];
  #coldStartMs = 0;

  /** A new process, with a cgroup that counts from 0. */
  begin(): void {
    this.#last = nothing;
  }

  /** A process that ran before: what it used was told by who ran it. */
  adopt(): void {
    this.#last = null;
  }

  read(reading: Reading): void {
    const last = this.#last ?? reading;
    const grown = (of: keyof Reading) => this.#sum[of] + Math.max(0, reading[of] - last[of]);
    this.#sum = {
      cpuTimeUs: grown("cpuTimeUs"),
      throttledUs: grown("throttledUs"),
      confinedUs: grown("confinedUs"),
      oomKills: grown("oomKills"),
    };
    this.#last = reading;
  }

  restarted(times: number): void {
    this.#restarts += Math.max(0, times);
  }

  /** A request asked for it while it slept. */
  wakeBegins(now: Timestamp): void {
    this.#wakes += 1;
    this.#wakeBeganAt ??= now;
  }

  runs(now: Timestamp): void {
    if (this.#wakeBeganAt === null) return;
    const tookMs = now - this.#wakeBeganAt;
    const index = bucketOf(tookMs, coldStartBoundsMs);
    if (this.#coldStarts.length === 0) {
      this.#coldStarts = new Array<number>(coldStartBoundsMs.length + 1).fill(0);
    }
    this.#coldStarts[index] = (this.#coldStarts[index] ?? 0) + 1;
    this.#coldStartMs += tookMs;
    this.#wakeBeganAt = null;
  }

  /** Null: there is nothing to tell. */
  get totals(): Totals | null {
    const { cpuTimeUs, oomKills } = this.#sum;
    if (cpuTimeUs + oomKills + this.#restarts + this.#wakes === 0) return null;
    return {
      ...this.#sum,
      restarts: this.#restarts,
      wakes: this.#wakes,
      coldStarts: [...this.#coldStarts],
      coldStartMs: this.#coldStartMs,
    };
  }
}
