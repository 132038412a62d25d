import type { Timestamp } from "../../base/time.ts";

/** A share of a request's cost that stays until it is finished: costs are means, not promises. */
const leftMin = 1 / 16;
/** Time with work in flight after which half of an earlier speed is forgotten. */
const speedHalfLifeMs = 5000;
/** What came longer ago than this is mostly forgotten in `used`. */
const usedMs = 60_000;

/**
 * Wᵢ, the work in flight of one instance: Σ costs of its requests in flight, less the CPU already
 * spent on them. Nobody tells how much that is request by request, but it follows from when work
 * came: while there is work, the instance gets on with it at its speed (the backlog of a fluid
 * queue; Lindley's recursion). Every gateway computes it from the same shared numbers, so all
 * come to the same. Three facts correct it: nothing in flight means no work, there is never more
 * than Σ costs, and a request that is not finished has something left.
 *
 * The speed is that at which work was finished while there was some, at most the cores it may
 * use: an app that waits for a database spends its CPU slowly.
 */
export class Backlog {
  private remainingUs = 0;
  private at: Timestamp = 0;
  private wasBusy = false;
  private arrivedUs = 0;
  private finishedUs = 0;
  /** Busy time since something was finished: it tells of a speed only then. */
  private unfinishedMs = 0;
  private busyMs = 0;
  private doneUs = 0;
  private usedUs = 0;

  /** CPU-µs of the requests that came lately: a sum in which each fades. */
  get used(): number {
    return this.usedUs;
  }

  /**
   * The work in flight now, in CPU-µs.
   *
   * @param count requests in flight.
   * @param arrivedUs sum of the costs of all that ever began, as a 32-bit number that wraps.
   * @param finishedUs the same of all that ended.
   */
  look(
    now: Timestamp,
    count: number,
    arrivedUs: number,
    finishedUs: number,
    cores: number,
  ): number {
    const elapsedMs = Math.max(0, now - this.at);
    const arrived = (arrivedUs - this.arrivedUs) | 0;
    if (this.wasBusy) {
      this.learnSpeed(elapsedMs, (finishedUs - this.finishedUs) | 0);
      this.remainingUs -= elapsedMs * 1000 * Math.min(cores, this.speed);
    }
    // A gateway that died took its sums with it: then nothing came.
    this.usedUs = (this.usedUs + Math.max(0, arrived)) / (1 + elapsedMs / usedMs);
    this.finishedUs = finishedUs;
    this.at = now;
    this.arrivedUs = arrivedUs;
    this.wasBusy = count > 0;
    const allUs = (arrivedUs - finishedUs) | 0;
    if (count <= 0 || allUs <= 0) this.remainingUs = 0;
    else {
      const left = Math.max(0, this.remainingUs) + arrived;
      this.remainingUs = Math.min(allUs, Math.max(left, allUs * leftMin));
    }
    return this.remainingUs;
  }

  /** CPU-µs a µs, so cores. */
  private get speed(): number {
    return this.busyMs < 100 ? Number.POSITIVE_INFINITY : this.doneUs / (this.busyMs * 1000);
  }

  private learnSpeed(elapsedMs: number, finishedUs: number): void {
    this.unfinishedMs += elapsedMs;
    if (finishedUs <= 0) return;
    const kept = 2 ** (-this.unfinishedMs / speedHalfLifeMs);
    this.busyMs = this.busyMs * kept + this.unfinishedMs;
    this.doneUs = this.doneUs * kept + finishedUs;
    this.unfinishedMs = 0;
  }
}
