import type { Timestamp } from "../base/time.ts";
import { bucketOf, coldStartBoundsMs } from "../model/traffic.ts";
import type { InstanceTotals } from "../model/wire.ts";

export type Totals = Omit<InstanceTotals, "instance" | "project" | "app" | "process">;

/** What is read of a cgroup as ever growing numbers. */
interface Reading {
  readonly cpuTimeUs: number;
  readonly throttledUs: number;
  readonly oomKills: number;
}

/** Adds up over an instance's processes what each cgroup, which goes with its process, counts. */
export class Tally {
  #sum: Reading = { cpuTimeUs: 0, throttledUs: 0, oomKills: 0 };
  #last: Reading | null = null;
  #restarts = 0;
  #wakes = 0;
  #wakeBeganAt: Timestamp | null = null;
  #coldStarts: number[] = [];
  #coldStartMs = 0;

  /** A new process, with a cgroup that counts from 0. */
  begin(): void {
    this.#last = { cpuTimeUs: 0, throttledUs: 0, oomKills: 0 };
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
    const { cpuTimeUs, throttledUs, oomKills } = this.#sum;
    if (cpuTimeUs + oomKills + this.#restarts + this.#wakes === 0) return null;
    return {
      ...{ cpuTimeUs, throttledUs, oomKills },
      restarts: this.#restarts,
      wakes: this.#wakes,
      coldStarts: [...this.#coldStarts],
      coldStartMs: this.#coldStartMs,
    };
  }
}
