import type { Json } from "../../base/json.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import type {
  RouteAnswer,
  RouteChange,
  RouteQuery,
  RoutesRequest,
  RouteTable,
} from "../../model/route.ts";
import {
  type GatewayLoad,
  type QuiesceReply,
  type QuiesceRequest,
  subjects,
  type WakeReply,
  type WakeRequest,
} from "../../model/wire.ts";
import type { GatewayContext } from "../context.ts";
import type { WakeAnswer } from "./app.ts";
import type { InstanceState } from "./instance.ts";
import type { Router } from "./router.ts";

const lookupTimeoutMs = 5000;
const snapshotTimeoutMs = 5000;
const snapshotRetryMs = 500;
const loadPeriodMs = 1000;
const surgeMs = 5;

/** Asks the instance's node to wake it. */
export async function requestWake(
  wire: Wire,
  instance: InstanceState,
  timeoutMs: number,
): Promise<WakeAnswer> {
  const request: WakeRequest = { instance: instance.id };
  const subject = subjects.nodeWake(instance.node);
  const answer = await wire.request(subject, { ...request }, { timeoutMs });
  if (!answer.ok) {
    const reason = `the node ${instance.node} cannot be asked to wake it (${answer.error.message})`;
    return { kind: "unreachable", reason };
  }
  const reply = answer.value as unknown as WakeReply;
  return reply.ok
    ? { kind: "awake", endpoint: reply.endpoint }
    : { kind: "refused", reason: reply.reason };
}

/** Asks whose a host is. The error says why nobody answered. */
export async function requestRoute(wire: Wire, host: string): Promise<Result<RouteAnswer, string>> {
  const query: RouteQuery = { host };
  const timeoutMs = lookupTimeoutMs;
  const answer = await wire.request(subjects.routesFind, { ...query }, { timeoutMs });
  return answer.ok ? ok(answer.value as unknown as RouteAnswer) : err(answer.error.message);
}

/**
 * Keeps the router's table equal to the publisher's:
 *
 *   absent ─→ asking ─→ following ─→ (gap, other epoch, reconnected) ─→ asking …
 *
 * Whatever is lost, the last table goes on serving.
 */
export class RouteSync {
  private readonly wire: Wire;
  private readonly context: GatewayContext;
  private readonly router: Router;
  private readonly subscriptions: Subscription[] = [];
  private readonly timers: { cancel(): void }[] = [];
  private asking = false;
  private stale = true;
  private closed = false;
  private surging = false;
  private resolveReady: () => void = () => {};
  /** Settles with the first table. */
  readonly ready: Promise<void>;

  constructor(wire: Wire, context: GatewayContext, router: Router) {
    this.wire = wire;
    this.context = context;
    this.router = router;
    this.ready = new Promise((resolve) => {
      this.resolveReady = resolve;
    });
  }

  start(): void {
    const { wire, context } = this;
    this.subscriptions.push(
      wire.subscribe(subjects.routesChanged, ({ payload }) => {
        this.follow(payload as unknown as RouteChange);
      }),
      wire.respond(subjects.gatewayQuiesce(context.id), async (payload) => {
        const { instance } = payload as unknown as QuiesceRequest;
        const reply: QuiesceReply = this.router.quiesce(instance);
        return { ...reply };
      }),
      wire.onConnection((connected) => {
        if (connected) this.resync();
      }),
    );
    this.timers.push(context.clock.every(loadPeriodMs, () => this.publishLoad()));
    this.router.onSurge = () => this.publishSoon();
  }

  close(): void {
    this.closed = true;
    for (const subscription of this.subscriptions) subscription.cancel();
    for (const timer of this.timers) timer.cancel();
  }

  private follow(change: RouteChange): void {
    if (!this.router.applyChange(change)) this.resync();
  }

  private resync(): void {
    this.stale = true;
    if (!this.asking) void this.ask();
  }

  private async ask(): Promise<void> {
    this.asking = true;
    while (this.stale && !this.closed) {
      this.stale = false;
      const timeoutMs = snapshotTimeoutMs;
      const request: RoutesRequest = { keep: this.router.busy };
      const answer = await this.wire.request(
        subjects.routesSnapshot,
        { ...request },
        { timeoutMs },
      );
      if (this.closed) return;
      if (answer.ok) {
        this.take(answer.value);
        continue;
      }
      this.stale = true;
      await new Promise<void>((resolve) => {
        this.context.clock.after(snapshotRetryMs, resolve);
      });
    }
    this.asking = false;
  }

  private take(payload: Json): void {
    const table = payload as unknown as RouteTable;
    const isOlder = table.epoch === this.router.epoch && table.revision < this.router.revision;
    if (isOlder) this.stale = true;
    else this.router.applySnapshot(table);
    this.resolveReady();
  }

  /** What comes at once is told together. */
  private publishSoon(): void {
    if (this.surging) return;
    this.surging = true;
    this.context.clock.after(surgeMs, () => {
      this.surging = false;
      if (!this.closed) this.publishLoad();
    });
  }

  private publishLoad(): void {
    const { instances, held } = this.router.takeLoads();
    if (instances.length === 0 && held.length === 0) return;
    const { id, clock } = this.context;
    const load: GatewayLoad = { gateway: id, at: clock.now(), instances, held };
    this.wire.publish(subjects.gatewayLoad(id), load as unknown as Json);
  }
}
