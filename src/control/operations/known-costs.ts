import type { Subscription, Wire } from "../../fabric/wire.ts";
import { type AppCosts, type CostsMessage, subjects } from "../../model/wire.ts";

/** With more, those of apps that are no more go. */
const keptMaxAtFirst = 1000;

/** What the gateways published last of each app that serves, kept for those who ask. */
export class KnownCosts {
  readonly #wire: Wire;
  readonly #byApp = new Map<string, AppCosts>();
  readonly #releaseOf: (app: string) => number | null;
  #keptMax = keptMaxAtFirst;
  #subscription: Subscription | null = null;

  /** @param releaseOf the release of an app that serves; null: none. */
  constructor(wire: Wire, releaseOf: (app: string) => number | null) {
    this.#wire = wire;
    this.#releaseOf = releaseOf;
  }

  start(): void {
    this.#subscription = this.#wire.subscribe(subjects.costs, ({ payload }) => {
      const costs = payload as unknown as CostsMessage;
      if (costs.app === null) return;
      this.#byApp.set(costs.app, costs);
      if (this.#byApp.size <= this.#keptMax) return;
      for (const app of this.#byApp.keys()) if (this.of(app) === null) this.#byApp.delete(app);
      this.#keptMax = Math.max(keptMaxAtFirst, 2 * this.#byApp.size);
    });
    this.#wire.publish(subjects.costsWanted, null);
  }

  close(): void {
    this.#subscription?.cancel();
  }

  of(app: string): AppCosts | null {
    const known = this.#byApp.get(app);
    // Another release is another program: what was learned of the one before is of no use.
    return known !== undefined && known.release === this.#releaseOf(app) ? known : null;
  }
}
