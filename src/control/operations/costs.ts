import { ok } from "../../base/result.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import { appKey } from "../../model/keys.ts";
import { type AppCosts, type CostsMessage, subjects } from "../../model/wire.ts";
import type { AppRef, CostsView, Outcome } from "../operations.ts";
import { type Context, findApp } from "./context.ts";

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

export async function costs(context: Context, ref: AppRef): Outcome<CostsView> {
  const found = findApp(context, ref);
  if (!found.ok) return found;
  const known = context.knownCosts.of(appKey(ref.project, ref.app));
  if (known === null) return ok({ classes: [], idleUs: 0, sure: false, learnedAt: null });
  const { idleUs, sure, at } = known;
  const work = ({ costUs, requests }: CostsView["classes"][number]) => costUs * requests;
  const classes = [...known.classes].sort((one, other) => work(other) - work(one));
  return ok({ classes, idleUs, sure, learnedAt: at });
}
