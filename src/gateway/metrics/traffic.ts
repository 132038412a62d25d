import type { AppTraffic } from "../../model/wire.ts";
import type { TrafficCounts } from "./counts.ts";

/** An app as far as its traffic is told. */
export interface Told {
  readonly key: string;
  readonly counts: TrafficCounts;
  readonly heldCount: number;
}

/** Which apps' counts have changed since they were told. */
export class Traffic {
  /** Requests that no app was found for, since the session began. */
  unrouted = 0;
  private unroutedTold = 0;
  private readonly known = new Set<Told>();
  private readonly changed = new Set<Told>();

  /** An app has had its first request. */
  know(app: Told): void {
    this.known.add(app);
  }

  touch(app: Told): void {
    this.changed.add(app);
  }

  takeChanged(): readonly AppTraffic[] {
    const apps: AppTraffic[] = [];
    for (const app of this.changed) {
      const { key, counts, heldCount } = app;
      const told = { inFlight: counts.inFlight, held: heldCount, counts: counts.take() };
      apps.push({ app: key, ...told, ...(this.known.has(app) ? {} : { last: true }) });
    }
    this.changed.clear();
    this.unroutedTold = this.unrouted;
    return apps;
  }

  beginSession(): void {
    this.unrouted -= this.unroutedTold;
    this.unroutedTold = 0;
    for (const app of this.known) {
      const { counts, heldCount } = app;
      if (counts.beginSession() || counts.inFlight > 0 || heldCount > 0) this.changed.add(app);
    }
  }

  /** The app is gone: its last requests are told, then it is forgotten. */
  forget(app: Told): void {
    this.known.delete(app);
    this.changed.add(app);
  }
}
