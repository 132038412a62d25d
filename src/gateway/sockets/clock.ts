import type { Clock, Timer, Timestamp } from "../../base/time.ts";

interface Awaited {
  dueAt: Timestamp;
}

/**
 * A loop's clock. It knows when its next timer is due, so that the loop need not wake to look,
 * and can stand still while events that came together are told: each asks for the time often.
 */
export class LoopClock implements Clock {
  private readonly clock: Clock;
  private readonly awaited = new Set<Awaited>();
  private nearest = Number.POSITIVE_INFINITY;
  private stale = false;
  private stoppedAt: Timestamp | null = null;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** When the next timer is due; infinity: there is none. */
  get dueAt(): Timestamp {
    if (this.stale) {
      this.stale = false;
      this.nearest = Number.POSITIVE_INFINITY;
      for (const { dueAt } of this.awaited) this.nearest = Math.min(this.nearest, dueAt);
    }
    return this.nearest;
  }

  now(): Timestamp {
    return this.stoppedAt ?? this.clock.now();
  }

  /** It is now until `goOn`. */
  stop(): void {
    this.stoppedAt = this.clock.now();
  }

  goOn(): void {
    this.stoppedAt = null;
  }

  after(delayMs: number, callback: () => void): Timer {
    const awaited = this.note(delayMs);
    const timer = this.clock.after(delayMs, () => {
      this.forget(awaited);
      callback();
    });
    return this.cancelling(awaited, timer);
  }

  every(periodMs: number, callback: () => void): Timer {
    const awaited = this.note(periodMs);
    const timer = this.clock.every(periodMs, () => {
      awaited.dueAt = this.now() + periodMs;
      this.stale = true;
      callback();
    });
    return this.cancelling(awaited, timer);
  }

  private note(delayMs: number): Awaited {
    const awaited = { dueAt: this.now() + delayMs };
    this.awaited.add(awaited);
    this.stale = true;
    return awaited;
  }

  private forget(awaited: Awaited): void {
    this.stale = this.awaited.delete(awaited) || this.stale;
  }

  private cancelling(awaited: Awaited, timer: Timer): Timer {
    return {
      cancel: () => {
        this.forget(awaited);
        timer.cancel();
      },
    };
  }
}
