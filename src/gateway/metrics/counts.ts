import { bucketOf, latencyBoundsMs, requestIndex, trafficLayout } from "../../model/traffic.ts";

/** One app's traffic since the session on the wire began: see `trafficLayout`. */
export class TrafficCounts {
  inFlight = 0;
  private readonly counts = new Float64Array(trafficLayout.length);
  /** What was last told. */
  private readonly told = new Float64Array(trafficLayout.length);

  add(
    protocol: string,
    status: number,
    durationMs: number,
    bytesIn: number,
    bytesOut: number,
  ): void {
    const { counts } = this;
    const index = requestIndex(protocol, status);
    counts[index] = (counts[index] as number) + 1;
    counts[trafficLayout.bytesIn] = (counts[trafficLayout.bytesIn] as number) + bytesIn;
    counts[trafficLayout.bytesOut] = (counts[trafficLayout.bytesOut] as number) + bytesOut;
    // A tunnel lasts as long as its users like.
    if (status === 101) return;
    const bucket = trafficLayout.latency + bucketOf(durationMs, latencyBoundsMs);
    counts[bucket] = (counts[bucket] as number) + 1;
    counts[trafficLayout.latencyMs] = (counts[trafficLayout.latencyMs] as number) + durationMs;
  }

  /** To be told. */
  take(): readonly number[] {
    this.told.set(this.counts);
    return [...this.counts];
  }

  /** A new session: what the earlier one was told is not told again. True: something is left. */
  beginSession(): boolean {
    let isLeft = false;
    for (let index = 0; index < this.counts.length; index += 1) {
      const left = (this.counts[index] as number) - (this.told[index] as number);
      this.counts[index] = left;
      isLeft ||= left > 0;
    }
    this.told.fill(0);
    return isLeft;
  }
}
