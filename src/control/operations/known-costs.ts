import type { Subscription, Wire } from "../../fabric/wire.ts";
import { type AppCosts, type CostsMessage, subjects } from "../../model/wire.ts";

/** As many as a gateway learns of at one time. */
const appsMax = 10_000;

/**
 * What the gateways published last of each app, also of those that sleep, for whoever asks, and
 * for gateways that have forgotten an app. With too many, those that were learned of least
 * lately go.
 */
export class KnownCosts {
  readonly #wire: Wire;
  readonly #byApp = new Map<string, AppCosts>();
  #subscription: Subscription | null = null;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  start(): void {
    this.#subscription = this.#wire.subscribe(subjects.costs, ({ payload }) => {
      const costs = payload as unknown as CostsMessage;
      if (costs.app === null) return;
      this.#byApp.delete(costs.app);
      this.#byApp.set(costs.app, costs);
      if (this.#byApp.size <= appsMax) return;
      this.#byApp.delete(this.#byApp.keys().next().value as string);
    });
    this.#wire.publish(subjects.costsWanted, null);
  }

  close(): void {
    this.#subscription?.cancel();
  }

  /** Another release is another program: what was learned of the one before is of no use. */
  of(app: string, release: number | null): AppCosts | null {
    const known = this.#byApp.get(app);
    return known !== undefined && known.release === release ? known : null;
  }
}
