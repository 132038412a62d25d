import type { Result } from "../../base/result.ts";
import type { Timestamp } from "../../base/time.ts";
import type { InstanceId } from "../../model/names.ts";
import type {
  AppRoute,
  Certificate,
  FoundRoute,
  RouteAnswer,
  RouteChange,
  RouteTable,
} from "../../model/route.ts";
import type { AppCosts, GatewayFinished, GatewayLoad, NodeCpu } from "../../model/wire.ts";
import type { GatewayContext } from "../context.ts";
import type { Counts } from "../costs/learning.ts";
import type { LoadTable } from "../load/table.ts";
import { Traffic } from "../metrics/traffic.ts";
import { type AppHost, AppState, type WakeAnswer, type Wakes } from "./app.ts";
import { type Found, type KnownRoutes, RouteFinder } from "./finder.ts";
import type { InstanceState } from "./instance.ts";

/** What a host name leads to: the state of an app is made at its first request. */
interface Entry {
  readonly key: string;
  route: AppRoute;
  state: AppState | null;
  /** It had a request since `forgetUnused` last came by. */
  used: boolean;
}

/** Apps that are known before those without a request are forgotten. */
const appsMax = 4096;

/**
 * The route table as this gateway holds it: apps that are awake or were asked for here. Others
 * are looked up by their host at their first request; one that is known is found at once.
 */
export class Router implements AppHost, Counts, KnownRoutes {
  readonly context: GatewayContext;
  readonly table: LoadTable;
  readonly traffic = new Traffic();
  epoch: string | null = null;
  revision = 0;
  certificates: readonly Certificate[] = [];
  onCertificates: (certificates: readonly Certificate[]) => void = () => {};
  /** Far more is in flight or waits than was last published. */
  onSurge: () => void = () => {};
  onCostsVoid: (app: string) => void = () => {};

  readonly costs: Map<string, AppCosts> = new Map();

  private readonly entries = new Map<string, Entry>();
  private readonly hosts = new Map<string, Entry>();
  /** Of apps that had a request here. */
  private readonly instances = new Map<InstanceId, InstanceState>();
  private readonly quiesced = new Set<InstanceId>();
  private readonly changed = new Set<InstanceState>();
  private readonly holding = new Set<AppState>();
  private readonly wakes: Wakes;
  private readonly finder: RouteFinder;

  constructor(
    context: GatewayContext,
    table: LoadTable,
    wakes: Wakes,
    ask: (host: string) => Promise<Result<RouteAnswer, string>>,
  ) {
    this.context = context;
    this.table = table;
    this.wakes = wakes;
    this.finder = new RouteFinder(context, this, ask);
  }

  /** Null: not known here, `lookUp` finds out. */
  find(host: string): AppState | null {
    const entry = this.hosts.get(host);
    if (entry === undefined) return null;
    entry.used = true;
    return this.stateOf(entry);
  }

  private stateOf(entry: Entry): AppState {
    entry.state ??= this.openApp(entry);
    return entry.state;
  }

  private openApp(entry: Entry): AppState {
    const state = new AppState(this, entry.key, entry.route);
    const costs = this.costs.get(entry.key);
    if (costs !== undefined) state.applyCosts(costs);
    this.traffic.know(state);
    return state;
  }

  applyCosts(costs: AppCosts): void {
    const entry = this.entries.get(costs.app);
    if (entry === undefined || costs.release !== entry.route.release) return;
    this.costs.set(costs.app, costs);
    entry.state?.applyCosts(costs);
  }

  /** What came with routes; what was heard of the learner is newer. */
  private hearCosts(costs: readonly AppCosts[]): void {
    for (const each of costs) if (!this.costs.has(each.app)) this.applyCosts(each);
  }

  releaseOf(app: string): number | null {
    return this.entries.get(app)?.route.release ?? null;
  }

  cut({ epoch, instances }: NodeCpu): GatewayFinished["instances"] {
    const parts: GatewayFinished["instances"][number][] = [];
    for (const { instance: id, sample, coresMax } of instances) {
      const found = this.instances.get(id);
      if (found === undefined) continue;
      const { app, release, inFlight } = found;
      parts.push({ instance: id, app, release, inFlight, ...found.cut(epoch, sample, coresMax) });
    }
    return parts;
  }

  lookUp(host: string): Promise<Found> {
    return this.finder.find(host);
  }

  /** Takes an app that was looked up. */
  learn({ key, route, costs }: FoundRoute): AppState {
    this.applyApp(key, route);
    if (costs !== null) this.hearCosts([costs]);
    const entry = this.entries.get(key) as Entry;
    entry.used = true;
    return this.stateOf(entry);
  }

  /** Apps whose requests are under way: a new table must have them. */
  get busy(): readonly string[] {
    return [...this.entries.values()].filter(({ state }) => state?.isBusy === true).map(keyOf);
  }

  applySnapshot(table: RouteTable): void {
    this.epoch = table.epoch;
    this.revision = table.revision;
    for (const key of [...this.entries.keys()]) {
      if (table.apps[key] === undefined) this.applyApp(key, null);
    }
    for (const [key, route] of Object.entries(table.apps)) this.applyApp(key, route);
    this.hearCosts(table.costs);
    this.setCertificates(table.certificates);
  }

  /** False: something between was missed, a snapshot is needed. */
  applyChange(change: RouteChange): boolean {
    if (change.epoch !== this.epoch) return false;
    // Already in the snapshot.
    if (change.to <= this.revision) return true;
    if (change.from > this.revision) return false;
    this.revision = change.to;
    for (const [key, route] of Object.entries(change.apps)) this.applyApp(key, route);
    this.hearCosts(change.costs);
    if (change.certificates !== null) this.setCertificates(change.certificates);
    return true;
  }

  private setCertificates(certificates: readonly Certificate[]): void {
    this.certificates = certificates;
    this.onCertificates(certificates);
  }

  private applyApp(key: string, route: AppRoute | null): void {
    const known = this.entries.get(key);
    if (known !== undefined) {
      for (const host of known.route.hosts) {
        if (this.hosts.get(host) === known) this.hosts.delete(host);
      }
      this.forgetQuiesced(known.route, route);
      if (route === null || route.release !== known.route.release) {
        this.costs.delete(key);
        this.onCostsVoid(key);
      }
    }
    if (route !== null) this.forgetQuiesced(route, route);
    if (route === null) {
      this.entries.delete(key);
      known?.state?.update(null);
      if (known?.state != null) this.traffic.forget(known.state);
      return;
    }
    const entry = known ?? { key, route, state: null, used: true };
    entry.route = route;
    this.entries.set(key, entry);
    for (const host of route.hosts) {
      this.hosts.set(host, entry);
      this.finder.appeared(host);
    }
    entry.state?.update(route);
    if (this.entries.size > appsMax) this.forgetUnused();
  }

  /**
   * Half of the places become free, if so many have nothing under way: first those without a
   * request since the last time, in the order in which they came.
   */
  private forgetUnused(): void {
    for (const isLenient of [true, false]) {
      for (const [key, entry] of this.entries) {
        if (this.entries.size <= appsMax / 2) return;
        if (entry.state?.isBusy === true || (isLenient && entry.used)) entry.used = false;
        else this.applyApp(key, null);
      }
    }
  }

  /** An instance that the table no longer calls running needs no mark to be left alone. */
  private forgetQuiesced(before: AppRoute, after: AppRoute | null): void {
    if (this.quiesced.size === 0) return;
    for (const { instance } of before.instances) {
      const now = after?.instances.find((other) => other.instance === instance);
      if (now?.state.kind !== "running") this.quiesced.delete(instance);
    }
  }

  /** Sends nothing more to the instance until a wake request says that it is awake. */
  quiesce(id: InstanceId): { inFlight: number; lastRequestAt: Timestamp | null } {
    this.quiesced.add(id);
    const instance = this.instances.get(id);
    if (instance === undefined) return { inFlight: 0, lastRequestAt: null };
    instance.pool.closeIdle();
    return { inFlight: instance.inFlight, lastRequestAt: instance.lastRequestAt };
  }

  isQuiesced(id: InstanceId): boolean {
    return this.quiesced.size > 0 && this.quiesced.has(id);
  }

  awoke(id: InstanceId): void {
    this.quiesced.delete(id);
  }

  wake(instance: InstanceState): Promise<WakeAnswer> {
    return this.wakes.wake(instance);
  }

  thaw(instance: InstanceState): boolean {
    return this.wakes.thaw(instance.id);
  }

  opened(instance: InstanceState): void {
    this.instances.set(instance.id, instance);
  }

  closed(instance: InstanceState): void {
    this.instances.delete(instance.id);
  }

  touched(instance: InstanceState): void {
    this.changed.add(instance);
    if (surges(instance.inFlight, instance.inFlightPublished)) this.onSurge();
  }

  holds(app: AppState): void {
    this.holding.add(app);
    if (surges(app.heldCount, app.heldPublished)) this.onSurge();
  }

  /** What changed since the last call, and what is in flight or held all the time. */
  takeLoads(): Pick<GatewayLoad, "instances" | "held"> {
    const instances: GatewayLoad["instances"][number][] = [];
    for (const instance of this.changed) {
      instances.push({
        instance: instance.id,
        requests: instance.requestsSince,
        inFlight: instance.inFlight,
        lastRequestAt: instance.lastRequestAt ?? 0,
      });
      instance.requestsSince = 0;
      instance.inFlightPublished = instance.inFlight;
      if (instance.inFlight === 0) this.changed.delete(instance);
    }
    const held: GatewayLoad["held"][number][] = [];
    for (const app of this.holding) {
      held.push({ app: app.key, requests: app.heldCount });
      app.heldPublished = app.heldCount;
      if (app.heldCount === 0) this.holding.delete(app);
    }
    return { instances, held };
  }
}

function keyOf(entry: Entry): string {
  return entry.key;
}

/** Below this nobody hurries; from there on each doubling is told at once. */
const surgeMin = 8;

function surges(now: number, published: number): boolean {
  return now >= Math.max(surgeMin, 2 * published);
}
