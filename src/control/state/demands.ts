import type { Clock, Timer, Timestamp } from "../../base/time.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import type { InstanceId } from "../../model/names.ts";
import { type GatewayLoad, subjects } from "../../model/wire.ts";
import { type Demand, DemandWindow, demandWindowMs } from "../../scheduler/demand.ts";

/** A gateway repeats what is in flight every second: one that does not any more has ended. */
const silenceMs = 5_000;

interface AppDemand {
  /** By gateway, and instance or `held`. */
  readonly reports: Map<string, { readonly requests: number; readonly at: Timestamp }>;
  readonly window: DemandWindow;
}

/** What the gateways say is asked of each app, as soon as they say it. */
export class Demands {
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #ownerOf: (instance: InstanceId) => string | null;
  readonly #onRise: (apps: Iterable<string>) => void;
  readonly #apps = new Map<string, AppDemand>();
  readonly #since: Timestamp;
  #subscription: Subscription | null = null;
  #sweep: Timer | null = null;

  /** `onRise`: the demand on these apps is greater than it was in the whole window. */
  constructor(
    wire: Wire,
    clock: Clock,
    ownerOf: (instance: InstanceId) => string | null,
    onRise: (apps: Iterable<string>) => void,
  ) {
    this.#wire = wire;
    this.#clock = clock;
    this.#ownerOf = ownerOf;
    this.#onRise = onRise;
    this.#since = clock.now();
  }

  start(): void {
    this.#subscription = this.#wire.subscribe(subjects.gatewayLoads, ({ payload }) =>
      this.#loaded(payload as unknown as GatewayLoad),
    );
    this.#sweep = this.#clock.every(demandWindowMs, () => this.#forgetIdle());
  }

  close(): void {
    this.#subscription?.cancel();
    this.#sweep?.cancel();
  }

  demandOf(app: string): Demand {
    const now = this.#clock.now();
    const wholeAt = this.#since + demandWindowMs;
    const isWhole = now >= wholeAt;
    const known = this.#apps.get(app);
    if (known === undefined) return { peak: 0, isWhole, changesAt: isWhole ? null : wholeAt };
    this.#sum(known, now);
    const peak = known.window.peak(now);
    const times = [known.window.fallsAt(), isWhole ? null : wholeAt];
    // Nobody tells when a gateway falls silent.
    if (known.reports.size > 0) times.push(now + silenceMs);
    const changes = times.filter((at) => at !== null);
    return { peak, isWhole, changesAt: changes.length === 0 ? null : Math.min(...changes) };
  }

  #loaded({ gateway, instances, held }: GatewayLoad): void {
    const now = this.#clock.now();
    const touched = new Set<string>();
    for (const { instance, inFlight } of instances) {
      const app = this.#ownerOf(instance);
      if (app === null) continue;
      this.#report(app, `${gateway} ${instance}`, inFlight, now);
      touched.add(app);
    }
    // Gateways outlive lode: one of an earlier version does not say what it holds.
    for (const { app, requests } of held ?? []) {
      this.#report(app, `${gateway} held`, requests, now);
      touched.add(app);
    }
    const risen = [...touched].filter((app) => {
      const known = this.#apps.get(app);
      if (known === undefined) return false;
      const before = known.window.peak(now);
      this.#sum(known, now);
      return known.window.peak(now) > before;
    });
    if (risen.length > 0) this.#onRise(risen);
  }

  #report(app: string, from: string, requests: number, at: Timestamp): void {
    const known = this.#apps.get(app);
    if (requests === 0) {
      known?.reports.delete(from);
      return;
    }
    if (known !== undefined) known.reports.set(from, { requests, at });
    else {
      const reports = new Map([[from, { requests, at }]]);
      this.#apps.set(app, { reports, window: new DemandWindow() });
    }
  }

  #sum({ reports, window }: AppDemand, now: Timestamp): void {
    let sum = 0;
    for (const [from, { requests, at }] of reports) {
      if (now - at < silenceMs) sum += requests;
      else reports.delete(from);
    }
    window.observe(now, sum);
  }

  #forgetIdle(): void {
    const now = this.#clock.now();
    for (const [app, known] of this.#apps) {
      this.#sum(known, now);
      if (known.window.peak(now) === 0) this.#apps.delete(app);
    }
  }
}
