import type { Subscription, Wire } from "../../fabric/wire.ts";
import { type AppCosts, type CostsMessage, subjects } from "../../model/wire.ts";

/** With more, those of apps that are no more go. */
const keptMaxAtFirst = 1000;

/** What the gateways published last of each app, kept for those who ask. */
export class KnownCosts {
  readonly #wire: Wire;
  readonly #byApp = new Map<string, AppCosts>();
  readonly #exists: (app: string) => boolean;
  #keptMax = keptMaxAtFirst;
  #subscription: Subscription | null = null;

  /** @param exists whether there is an app of this key. */
  constructor(wire: Wire, exists: (app: string) => boolean) {
    this.#wire = wire;
    this.#exists = exists;
  }

  start(): void {
    this.#subscription = this.#wire.subscribe(subjects.costs, ({ payload }) => {
      const costs = payload as unknown as CostsMessage;
      if (costs.app === null) return;
      this.#byApp.set(costs.app, costs);
      if (this.#byApp.size <= this.#keptMax) return;
      for (const app of this.#byApp.keys()) if (!this.#exists(app)) this.#byApp.delete(app);
      this.#keptMax = Math.max(keptMaxAtFirst, 2 * this.#byApp.size);
    });
    this.#wire.publish(subjects.costsWanted, null);
  }

  close(): void {
    this.#subscription?.cancel();
  }

  of(app: string): AppCosts | null {
    return this.#byApp.get(app) ?? null;
  }
}
