import type { Timestamp } from "../../base/time.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { InstanceId, NodeName } from "../../model/names.ts";
import type { RouteInstance } from "../../model/route.ts";
import type { FinishedClass } from "../../model/wire.ts";
import { hashText, type Member } from "../balance/affinity.ts";
import { Backlog } from "../balance/backlog.ts";
import type { RouteClass } from "../balance/classes.ts";
import { afterFailure, noPenalty, type Penalty, penaltyAt } from "../balance/penalty.ts";
import type { DividedCandidate } from "../balance/place.ts";
import type { GatewayContext } from "../context.ts";
import type { ColumnLoad, LoadTable } from "../load/table.ts";
import { UpstreamPool } from "../proxy/pool.ts";

/** A WebSocket or other tunnel, which outlives the turn of a release. */
export interface Drainable {
  /** Its instance drains: say goodbye, then end. */
  drain(): void;
}

/** Requests of one class that ended since the last cut. */
interface Ended {
  count: number;
  reportedCount: number;
  reportedUs: number;
}

/** The first retry after a failed connection is at once, later ones wait this long, doubling. */
const failureBackoffMs = 50;
const failureBackoffMsMax = 2000;
/** After so long it is tried again with ordinary requests, its penalty still upon it. */
const failureForgottenMs = 1000;

/**
 * One back end as this gateway sees it: what the route table says, overlaid by what it found out
 * itself since (woken by its own request, asked to be quiet, refused a connection).
 */
export class InstanceState implements DividedCandidate, Member {
  readonly id: InstanceId;
  readonly seed: number;
  /** `project/app` */
  readonly app: string;
  readonly release: number | null;
  readonly pool: UpstreamPool;
  readonly tunnels = new Set<Drainable>();
  node: NodeName;
  column: number;
  /** From this gateway alone. */
  inFlight = 0;
  requestsSince = 0;
  /** As last published. */
  inFlightPublished = 0;
  lastRequestAt: Timestamp | null = null;
  /** A wake request is under way. */
  waking = false;
  /** It goes on already, and its node is not told yet: tells it, as somebody waits for its word. */
  tellNow: (() => void) | null = null;
  /** Not woken again before: the agent said no, with this reason. */
  wakeRefused: { readonly until: Timestamp; readonly reason: string } | null = null;
  /** Connections are refused; not tried again before. */
  failingUntil: Timestamp = 0;
  failing = false;
  draining = false;

  // Set just before a choice.
  work = 0;
  penalty = 0;
  cost = 1;
  dear = 0;
  used = 0;
  speed: number;

  /** The sample of its CPU at which its counts were cut last. */
  private cutAt: { readonly epoch: string; readonly sample: number } | null = null;
  private readonly endedOf = new Map<RouteClass, Ended>();
  private backlog = new Backlog();
  private readonly load: ColumnLoad = { count: 0, beganUs: 0, endedUs: 0, dear: 0 };
  private routeCores: number;
  /** What the kernel allows at present, as far as its node tells. */
  private coresMax: number | null = null;

  private route: RouteInstance["state"];
  private woken: Endpoint | null = null;
  private failures: Penalty = noPenalty;
  private failuresInRow = 0;
  private readonly table: LoadTable;

  /** @param app and the release of it that this is an instance of */
  constructor(
    context: GatewayContext,
    table: LoadTable,
    app: { readonly key: string; readonly release: number | null },
    route: RouteInstance,
  ) {
    this.id = route.instance;
    this.seed = hashText(route.instance);
    this.app = app.key;
    this.release = app.release;
    this.pool = new UpstreamPool(context);
    this.table = table;
    this.node = route.node;
    this.column = route.column;
    this.routeCores = route.cores;
    this.speed = speedOf(route.cores, null);
    this.route = route.state;
  }

  update(route: RouteInstance): void {
    this.node = route.node;
    this.routeCores = route.cores;
    this.speed = speedOf(route.cores, this.coresMax);
    // Of an app that slept it may be another one now; what is in flight is counted where it began.
    if (this.inFlight === 0 && this.column !== route.column) {
      this.column = route.column;
      this.backlog = new Backlog();
    }
    const before = this.endpoint;
    this.route = route.state;
    this.woken = null;
    const after = this.endpoint;
    if (!sameEndpoint(before, after)) {
      this.pool.closeIdle();
      this.connected();
    }
    this.wakeRefused = null;
  }

  /** It is awake, as far as known, or on its way. */
  get isBusy(): boolean {
    return this.inFlight > 0 || this.waking || this.route.kind !== "asleep" || this.woken !== null;
  }

  /** Where it can be reached, as far as known. */
  get endpoint(): Endpoint | null {
    return this.woken ?? (this.route.kind === "running" ? this.route.endpoint : null);
  }

  /** Frozen or asleep: of use once it is woken. */
  get rests(): boolean {
    return this.route.kind === "asleep" && this.woken === null;
  }

  /** Of use only once the table says more. */
  get starting(): boolean {
    return this.route.kind === "starting" && this.woken === null;
  }

  /** It served before and is coming up again: a wake is answered when it runs. */
  get restarting(): boolean {
    return this.starting && this.route.kind === "starting" && this.route.again === true;
  }

  /** Its node would not start it, as far as is known now. */
  isRefused(now: Timestamp): boolean {
    return this.wakeRefused !== null && this.wakeRefused.until > now;
  }

  /** As one that keys belong to: the cores its route promises; a passing ceiling moves no key. */
  get weight(): number {
    return this.routeCores;
  }

  /** Connects to one that is frozen, or is about to be, while it is woken. False: it is not. */
  connectAhead(isQuiesced: boolean, onReady: () => void): boolean {
    const endpoint = this.rests ? this.socketAsleep : this.endpoint;
    if (endpoint?.kind !== "unix" || !(this.rests || isQuiesced)) return false;
    this.pool.connectAhead(endpoint, onReady);
    return true;
  }

  /** It is being woken, and a request could lie in its socket until then. */
  takesAhead(isQuiesced: boolean): boolean {
    return this.waking && (this.rests || isQuiesced) && this.pool.hasIdle;
  }

  private get socketAsleep(): Endpoint | null {
    return this.route.kind === "asleep" ? (this.route.socket ?? null) : null;
  }

  wokenAt(endpoint: Endpoint): void {
    if (!sameEndpoint(this.endpoint ?? this.socketAsleep, endpoint)) this.pool.closeIdle();
    this.woken = endpoint;
    this.failing = false;
    this.wakeRefused = null;
  }

  /** Ordinary requests keep away from it for now. */
  avoided(now: Timestamp): boolean {
    return this.failing && now < this.failingUntil + failureForgottenMs;
  }

  /** Requests in flight from all gateways. */
  get inFlightOfAll(): number {
    this.table.read(this.column, this.load);
    return Math.max(this.inFlight, this.load.count);
  }

  /**
   * Makes ready for a choice.
   *
   * @param costUs of the request to be placed; null: costs are not known, requests are counted.
   * @param meanUs what a request's worth of penalty is, when costs are known.
   */
  weigh(now: Timestamp, costUs: number | null, meanUs: number): void {
    const penalty = penaltyAt(this.failures, now);
    if (costUs === null) {
      this.work = this.inFlightOfAll;
      this.cost = 1;
      this.penalty = penalty;
      return;
    }
    const { load } = this;
    this.table.read(this.column, load);
    this.work = this.backlog.look(now, load.count, load.beganUs, load.endedUs, this.speed);
    this.cost = costUs;
    this.dear = load.dear;
    this.used = this.backlog.used;
    this.penalty = penalty * meanUs;
  }

  began(now: Timestamp, costUs: number, isDear: boolean): void {
    this.inFlight += 1;
    this.requestsSince += 1;
    this.lastRequestAt = now;
    this.table.begin(this.column, costUs, isDear);
  }

  ended(now: Timestamp, costUs: number, isDear: boolean): void {
    this.inFlight -= 1;
    this.lastRequestAt = now;
    this.table.end(this.column, costUs, isDear);
  }

  /** A request was sent and is over. @param reportedUs what it says it cost, if it does */
  count(routeClass: RouteClass, reportedUs: number | null): void {
    let ended = this.endedOf.get(routeClass);
    if (ended === undefined) {
      ended = { count: 0, reportedCount: 0, reportedUs: 0 };
      this.endedOf.set(routeClass, ended);
    }
    ended.count += 1;
    if (reportedUs === null) return;
    ended.reportedCount += 1;
    ended.reportedUs += reportedUs;
  }

  /** The requests that ended since the last cut, and the sample at which that was. */
  cut(
    epoch: string,
    sample: number,
    coresMax: number | null,
  ): { readonly from: number | null; readonly classes: readonly FinishedClass[] } {
    this.coresMax = coresMax;
    this.speed = speedOf(this.routeCores, coresMax);
    const from = this.cutAt?.epoch === epoch ? this.cutAt.sample : null;
    this.cutAt = { epoch, sample };
    const sums = new Map<string, Ended>();
    for (const [routeClass, ended] of this.endedOf) {
      const { name } = routeClass.present;
      const sum = sums.get(name) ?? { count: 0, reportedCount: 0, reportedUs: 0 };
      sum.count += ended.count;
      sum.reportedCount += ended.reportedCount;
      sum.reportedUs += ended.reportedUs;
      if (ended.count > 0) sums.set(name, sum);
      ended.count = 0;
      ended.reportedCount = 0;
      ended.reportedUs = 0;
      if (routeClass.into !== null) this.endedOf.delete(routeClass);
    }
    return { from, classes: [...sums].map(([name, sum]) => ({ name, ...sum })) };
  }

  connectFailed(now: Timestamp): void {
    this.failures = afterFailure(this.failures, now);
    const backoffMs = failureBackoffMs * 2 ** Math.min(10, this.failuresInRow - 1);
    this.failing = true;
    this.failingUntil =
      this.failuresInRow === 0 ? now : now + Math.min(failureBackoffMsMax, backoffMs);
    this.failuresInRow += 1;
    this.pool.closeIdle();
  }

  /** It broke a connection on which it had a request. */
  requestFailed(now: Timestamp): void {
    this.failures = afterFailure(this.failures, now);
  }

  connected(): void {
    this.failing = false;
    this.failuresInRow = 0;
  }

  /** No new requests; those in flight go on, tunnels are told. */
  drain(): void {
    if (this.draining) return;
    this.draining = true;
    this.pool.close();
    for (const tunnel of [...this.tunnels]) tunnel.drain();
  }
}

/** Sᵢ: what its route promises, or less where the kernel holds it to less. */
function speedOf(routeCores: number, coresMax: number | null): number {
  return Math.max(0.01, Math.min(routeCores, coresMax ?? Number.POSITIVE_INFINITY));
}

function sameEndpoint(a: Endpoint | null, b: Endpoint | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.kind === "unix") return b.kind === "unix" && a.path === b.path;
  return b.kind === "tcp" && a.host === b.host && a.port === b.port;
}
