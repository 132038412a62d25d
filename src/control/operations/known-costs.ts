import type { Subscription, Wire } from "../../fabric/wire.ts";
import { type AppCosts, type CostsMessage, subjects } from "../../model/wire.ts";

/** What the gateways published last of each app, kept for those who ask. */
export class KnownCosts {
  readonly #wire: Wire;
  readonly #byApp = new Map<string, AppCosts>();
  readonly #exists: (app: string) => boolean;
  #subscription: Subscription | null = null;

  /** @param exists whether there is an app of this key: of others nothing is kept. */
  constructor(wire: Wire, exists: (app: string) => boolean) {
    this.#wire = wire;
    this.#exists = exists;
  }

  start(): void {
    this.#subscription = this.#wire.subscribe(subjects.costs, ({ payload }) => {
      const costs = payload as unknown as CostsMessage;
      if (costs.app === null) return;
      const isNew = !this.#byApp.has(costs.app);
      this.#byApp.set(costs.app, costs);
      // What is removed is dropped when something comes; there is never more than was in use.
      if (isNew)
        for (const app of this.#byApp.keys()) if (!this.#exists(app)) this.#byApp.delete(app);
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
