import type { Timestamp } from "../../base/time.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { InstanceId, NodeName } from "../../model/names.ts";
import type { RouteInstance } from "../../model/route.ts";
import { hashText, type Member } from "../balance/affinity.ts";
import type { Candidate } from "../balance/choose.ts";
import { afterFailure, noPenalty, type Penalty, penaltyAt } from "../balance/penalty.ts";
import type { GatewayContext } from "../context.ts";
import type { LoadTable } from "../load/table.ts";
import { UpstreamPool } from "../proxy/pool.ts";

/** A WebSocket or other tunnel, which outlives the turn of a release. */
export interface Drainable {
  /** Its instance drains: say goodbye, then end. */
  drain(): void;
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
export class InstanceState implements Candidate, Member {
  readonly id: InstanceId;
  readonly seed: number;
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
  /** Not woken again before: the agent said no, with this reason. */
  wakeRefused: { readonly until: Timestamp; readonly reason: string } | null = null;
  /** Connections are refused; not tried again before. */
  failingUntil: Timestamp = 0;
  failing = false;
  draining = false;

  // Set just before a choice.
  work = 0;
  penalty = 0;
  readonly cost = 1;
  speed: number;

  private route: RouteInstance["state"];
  private woken: Endpoint | null = null;
  private failures: Penalty = noPenalty;
  private failuresInRow = 0;
  private readonly table: LoadTable;

  constructor(context: GatewayContext, table: LoadTable, route: RouteInstance) {
    this.id = route.instance;
    this.seed = hashText(route.instance);
    this.pool = new UpstreamPool(context);
    this.table = table;
    this.node = route.node;
    this.column = route.column;
    this.speed = Math.max(0.01, route.cores);
    this.route = route.state;
  }

  update(route: RouteInstance): void {
    this.node = route.node;
    // Of an app that slept it may be another one now; what is in flight is counted where it began.
    if (this.inFlight === 0) this.column = route.column;
    this.speed = Math.max(0.01, route.cores);
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

  /** As one that keys belong to: the cores it can get. */
  get weight(): number {
    return this.speed;
  }

  wokenAt(endpoint: Endpoint): void {
    if (!sameEndpoint(this.endpoint, endpoint)) this.pool.closeIdle();
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
    return Math.max(this.inFlight, this.table.total(this.column));
  }

  /** Makes ready for a choice. */
  weigh(now: Timestamp): void {
    this.work = this.inFlightOfAll;
    this.penalty = penaltyAt(this.failures, now);
  }

  began(now: Timestamp): void {
    this.inFlight += 1;
    this.requestsSince += 1;
    this.lastRequestAt = now;
    this.table.add(this.column, 1);
  }

  ended(now: Timestamp): void {
    this.inFlight -= 1;
    this.lastRequestAt = now;
    this.table.add(this.column, -1);
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

function sameEndpoint(a: Endpoint | null, b: Endpoint | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.kind === "unix") return b.kind === "unix" && a.path === b.path;
  return b.kind === "tcp" && a.host === b.host && a.port === b.port;
}
