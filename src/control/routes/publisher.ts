import type { Json } from "../../base/json.ts";
import type { Clock, Timer } from "../../base/time.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import type { InstanceId } from "../../model/names.ts";
import type {
  AppRoute,
  Certificate,
  RouteAnswer,
  RouteChange,
  RouteQuery,
  RoutesRequest,
  RouteTable,
} from "../../model/route.ts";
import { type AppCosts, subjects } from "../../model/wire.ts";
import type { Observed } from "../../scheduler/observed.ts";
import type { Snapshot } from "../../scheduler/snapshot.ts";
import { Columns } from "./columns.ts";
import { routeOf } from "./route.ts";

const reminderMs = 5_000;

interface Published {
  readonly route: AppRoute;
  /** As JSON, to see whether the next one differs. */
  readonly text: string;
}

/** Where a publisher has from what it publishes. Both promises reject when they cannot. */
export interface RouteSource {
  /** Reads apps into the snapshot and calls `update`. */
  load(apps: readonly string[]): Promise<void>;
  /** Names the apps that may have a host. */
  candidatesFor(host: string): Promise<readonly string[]>;
  /** What is known of the release's requests' costs. */
  costsOf(app: string, release: number | null): AppCosts | null;
}

/**
 * The gateways' route table, changed app by app and published as it changes. A gateway that
 * asks before `open` waits for its answer: until the nodes have reported, a table would take
 * away running instances that control has merely not seen yet. It holds the apps of the snapshot;
 * a gateway that has a request for another asks by the host, and keeps what it learns: an app
 * that changes is in the snapshot, and published.
 */
export class RoutePublisher {
  readonly #wire: Wire;
  readonly #domain: string;
  readonly #columns = new Columns();
  readonly #epoch: string;
  readonly #unseal: (sealed: string) => string;
  readonly #routes = new Map<string, Published>();
  readonly #responders: readonly Subscription[];
  readonly #source: RouteSource;
  readonly #reminder: Timer;
  readonly #opened: Promise<void>;
  #markOpened: () => void = () => {};
  #isOpen = false;
  #certificates: readonly Certificate[] = [];
  #revision = 0;

  /** @param epoch new for each life of a publisher. */
  constructor(
    wire: Wire,
    clock: Clock,
    epoch: string,
    domain: string,
    unseal: (sealed: string) => string,
    source: RouteSource,
  ) {
    this.#wire = wire;
    this.#domain = domain;
    this.#source = source;
    this.#epoch = epoch;
    this.#unseal = unseal;
    this.#opened = new Promise((resolve) => {
      this.#markOpened = resolve;
    });
    this.#responders = [
      wire.respond(subjects.routesSnapshot, async (payload) => {
        await this.#opened;
        // Gateways outlive lode: one of an earlier version asks with null.
        const request = payload as unknown as RoutesRequest | null;
        await this.#source.load(request?.keep ?? []);
        return this.#table() as unknown as Json;
      }),
      wire.respond(subjects.routesFind, async (payload) => {
        await this.#opened;
        const { host } = payload as unknown as RouteQuery;
        return (await this.#find(host)) as unknown as Json;
      }),
    ];
    this.#reminder = clock.every(reminderMs, () => this.#remind());
  }

  /** What is known now is the truth: publishes it, and what changes from here on. */
  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#markOpened();
    // Gateways of an earlier epoch see another one and ask for the whole table.
    this.#publish({}, this.#certificates);
  }

  close(): void {
    for (const responder of this.#responders) responder.cancel();
    this.#reminder.cancel();
  }

  update(snapshot: Snapshot, observed: Observed, apps: Iterable<string>): void {
    const changed: Record<string, AppRoute | null> = {};
    const costs: AppCosts[] = [];
    for (const key of apps) {
      const state = snapshot.apps.get(key);
      this.#columns.keep(key, state?.assignments.map(({ value }) => value.instance) ?? []);
      const columnOf = (instance: InstanceId) => this.#columns.columnOf(key, instance);
      const after =
        state === undefined
          ? null
          : routeOf(state, snapshot.nodes, observed, columnOf, this.#domain);
      const before = this.#routes.get(key);
      const text = JSON.stringify(after);
      if ((before?.text ?? "null") === text) continue;
      if (after === null) this.#routes.delete(key);
      else this.#routes.set(key, { route: after, text });
      changed[key] = after;
      if (before === undefined && after !== null) costs.push(...this.#costsOf(key, after));
    }
    if (Object.keys(changed).length > 0) this.#publish(changed, null, costs);
  }

  /** They are not in the snapshot any more; what gateways know of them stays true. */
  forget(apps: Iterable<string>): void {
    for (const key of apps) {
      this.#routes.delete(key);
      this.#columns.keep(key, []);
    }
  }

  setCertificates(snapshot: Snapshot): void {
    const records = [...snapshot.certificates.values()].map(({ value }) => value);
    const rank = ({ hosts }: { readonly hosts: readonly string[] }): number =>
      hosts.includes(`*.${this.#domain}`) ? 0 : hosts.includes(this.#domain) ? 1 : 2;
    // The first is for clients that name no server.
    records.sort((one, other) => rank(one) - rank(other) || (one.name < other.name ? -1 : 1));
    this.#certificates = records.map(({ hosts, certificateChain, privateKey }) => ({
      hosts,
      certificateChain,
      privateKey: this.#unseal(privateKey),
    }));
    this.#publish({}, this.#certificates);
  }

  async #find(host: string): Promise<RouteAnswer> {
    const candidates = await this.#source.candidatesFor(host);
    await this.#source.load(candidates);
    const at = { epoch: this.#epoch, revision: this.#revision };
    for (const key of candidates) {
      const route = this.#routes.get(key)?.route;
      if (!route?.hosts.includes(host)) continue;
      const [costs = null] = this.#costsOf(key, route);
      return { ...at, found: { key, route, costs } };
    }
    return { ...at, found: null };
  }

  #costsOf(key: string, { release }: AppRoute): readonly AppCosts[] {
    const costs = this.#source.costsOf(key, release);
    return costs === null ? [] : [costs];
  }

  #publish(
    apps: Readonly<Record<string, AppRoute | null>>,
    certificates: readonly Certificate[] | null,
    costs: readonly AppCosts[] = [],
  ): void {
    if (!this.#isOpen) return;
    const from = this.#revision;
    this.#revision += 1;
    const change: RouteChange = {
      epoch: this.#epoch,
      from,
      to: this.#revision,
      apps,
      certificates,
      costs,
    };
    this.#wire.publish(subjects.routesChanged, change as unknown as Json);
  }

  /** Changes nothing: shows a gateway that lost the last change that it did. */
  #remind(): void {
    if (!this.#isOpen) return;
    const at = { epoch: this.#epoch, from: this.#revision, to: this.#revision };
    const change: RouteChange = { ...at, apps: {}, certificates: null, costs: [] };
    this.#wire.publish(subjects.routesChanged, change as unknown as Json);
  }

  #table(): RouteTable {
    const routes = [...this.#routes].map(([key, { route }]) => [key, route] as const);
    return {
      epoch: this.#epoch,
      revision: this.#revision,
      apps: Object.fromEntries(routes),
      certificates: this.#certificates,
      costs: routes.flatMap(([key, route]) => this.#costsOf(key, route)),
    };
  }
}
