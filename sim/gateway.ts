import type { Json } from "../src/base/json.ts";
import type { Subscription, Wire } from "../src/fabric/wire.ts";
import type {
  AppRoute,
  RouteAnswer,
  RouteChange,
  RouteQuery,
  RouteTable,
} from "../src/model/route.ts";
import { subjects } from "../src/model/wire.ts";

/** The routes as a gateway has them: a snapshot, then changes; another epoch or a gap: again. */
export class FakeGateway {
  table: RouteTable | null = null;
  readonly #wire: Wire;
  readonly #subscription: Subscription;
  #asking = false;

  constructor(wire: Wire) {
    this.#wire = wire;
    this.#subscription = wire.subscribe(subjects.routesChanged, ({ payload }) =>
      this.#changed(payload as unknown as RouteChange),
    );
    void this.#ask();
  }

  close(): void {
    this.#subscription.cancel();
  }

  routeOf(app: string): AppRoute | null {
    return this.table?.apps[app] ?? null;
  }

  #changed(change: RouteChange): void {
    const { table } = this;
    if (table === null || change.epoch !== table.epoch || change.from > table.revision) {
      void this.#ask();
      return;
    }
    if (change.to <= table.revision) return;
    const apps: Record<string, AppRoute> = { ...table.apps };
    for (const [key, route] of Object.entries(change.apps)) {
      if (route === null) delete apps[key];
      else apps[key] = route;
    }
    const certificates = change.certificates ?? table.certificates;
    const costs = [...table.costs, ...change.costs];
    this.table = { epoch: change.epoch, revision: change.to, apps, certificates, costs };
  }

  /** What a gateway does for the first request to a host that it does not know. */
  async find(host: string): Promise<RouteAnswer["found"]> {
    const query: RouteQuery = { host };
    const reply = await this.#wire.request(subjects.routesFind, { ...query }, { timeoutMs: 1_000 });
    return reply.ok ? (reply.value as unknown as RouteAnswer).found : null;
  }

  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    let reply = await this.#request();
    while (!reply.ok) reply = await this.#request();
    this.#asking = false;
    this.table = reply.value as unknown as RouteTable;
  }

  #request(): ReturnType<Wire["request"]> {
    const payload: Json = { keep: [] };
    return this.#wire.request(subjects.routesSnapshot, payload, { timeoutMs: 1_000 });
  }
}
