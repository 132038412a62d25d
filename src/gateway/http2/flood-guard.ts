/** In so many milliseconds things are counted. */
const periodMs = 10_000;

export interface FloodLimits {
  /** Streams reset by either side, or refused (CVE-2023-44487, CVE-2025-8671). */
  readonly resetsMax: number;
  readonly settingsMax: number;
  /** PING frames, and frames that nobody knows, beyond one for each DATA frame sent. */
  readonly pingsMax: number;
  /** Frames that carry nothing and end nothing (CVE-2019-9518). */
  readonly emptyMax: number;
}

/** Per stream ever opened and DATA frame sent, as Envoy has them. */
const prioritiesPerStream = 100;
const windowUpdatesPerStream = 2;
const windowUpdatesPerData = 20;
const windowUpdatesAtLeast = 100;

/**
 * Counts what costs a client nothing and the gateway work. Resets, settings, pings and empty
 * frames have a limit in ten seconds; priorities and window updates one that grows with what the
 * client uses the connection for. A method that says false has seen too many.
 */
export class FloodGuard {
  streams = 0;
  private readonly limits: FloodLimits;
  private periodStart = 0;
  private resets = 0;
  private settings = 0;
  private pings = 0;
  private dataFramesBefore = 0;
  private empty = 0;
  private priorities = 0;
  private windowUpdates = 0;

  constructor(limits: FloodLimits) {
    this.limits = limits;
  }

  /**
   * Begins a new period when the last is over.
   *
   * @param now milliseconds of any steady clock.
   * @param dataFrames sent so far.
   */
  tick(now: number, dataFrames: number): void {
    if (now - this.periodStart <= periodMs) return;
    this.periodStart = now;
    this.dataFramesBefore = dataFrames;
    this.resets = 0;
    this.settings = 0;
    this.pings = 0;
    this.empty = 0;
  }

  reset(): boolean {
    this.resets += 1;
    return this.resets <= this.limits.resetsMax;
  }

  setting(): boolean {
    this.settings += 1;
    return this.settings <= this.limits.settingsMax;
  }

  /** @param dataFrames sent so far: clients measure a connection by a PING after DATA. */
  ping(dataFrames: number): boolean {
    this.pings += 1;
    return this.pings <= this.limits.pingsMax + dataFrames - this.dataFramesBefore;
  }

  emptyFrame(): boolean {
    this.empty += 1;
    return this.empty <= this.limits.emptyMax;
  }

  priority(): boolean {
    this.priorities += 1;
    return this.priorities <= prioritiesPerStream * (1 + this.streams);
  }

  /** @param dataFrames sent so far. */
  windowUpdate(dataFrames: number): boolean {
    this.windowUpdates += 1;
    const used = windowUpdatesPerStream * this.streams + windowUpdatesPerData * dataFrames;
    return this.windowUpdates <= windowUpdatesAtLeast + used;
  }
}
