import type { Timestamp } from "../../base/time.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { InstanceId } from "../../model/names.ts";
import type { AppRoute } from "../../model/route.ts";
import type { AppCosts } from "../../model/wire.ts";
import { choose } from "../balance/choose.ts";
import { type RouteClass, RouteClasses } from "../balance/classes.ts";
import { confidenceMin } from "../balance/learner.ts";
import type { GatewayContext } from "../context.ts";
import type { LoadTable } from "../load/table.ts";
import { InstanceState } from "./instance.ts";

/** A request that needs an instance. */
export interface Waiter {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** Its class; set when it is placed. */
  routeClass: RouteClass | null;
  /** What it counts in the load table while it is in flight. */
  costUs: number;
  /** When it gives up waiting; set once, at its first hold. */
  holdUntil: Timestamp | null;
  dispatch(instance: InstanceState): void;
  /** @param retryAfterSeconds null: no hint. */
  refuse(status: number, cause: string, retryAfterSeconds: number | null): void;
  /** It is held now. */
  held(): void;
}

export type WakeAnswer =
  | { readonly kind: "awake"; readonly endpoint: Endpoint }
  | { readonly kind: "refused"; readonly reason: string }
  /** Nobody who could wake it was reached. */
  | { readonly kind: "unreachable"; readonly reason: string };

/** What an app needs from the rest of the gateway. */
export interface AppHost {
  readonly context: GatewayContext;
  readonly table: LoadTable;
  wake(instance: InstanceState): Promise<WakeAnswer>;
  isQuiesced(instance: InstanceId): boolean;
  awoke(instance: InstanceId): void;
  /** An instance of an app in use is in the table now, or no longer. */
  opened(instance: InstanceState): void;
  closed(instance: InstanceState): void;
  /** Its numbers changed since they were last published. */
  touched(instance: InstanceState): void;
}

/** What a request is reckoned to cost before anything is known; only ratios matter. */
const costUsAtFirst = 1000;
const costUsMax = 1e9;
const wakeRetryMs = 250;
const wakeRefusedMs = 1000;

/**
 * One app's requests and instances. A request is placed on a running instance, or held while
 * one is made to run:
 *
 *   place ─→ dispatched
 *     └─→ held ─→ (woken, table changed, a slot came free) ─→ dispatched
 *           └─→ refused: nothing can run it (503), or its time is over (504)
 */
export class AppState {
  readonly key: string;
  route: AppRoute;
  private readonly host: AppHost;
  private readonly instances = new Map<InstanceId, InstanceState>();
  private readonly waiting = new Set<Waiter>();
  private readonly candidates: InstanceState[] = [];
  private readonly classes = new RouteClasses();
  private meanUs = costUsAtFirst;
  private placesByCost = false;
  private readonly random: () => number;
  private retryScheduled = false;
  /** Why the last wake came to nothing, for those whose time runs out. */
  private trouble: string | null = null;

  constructor(host: AppHost, key: string, route: AppRoute) {
    this.host = host;
    this.key = key;
    this.route = route;
    this.random = () => host.context.random.next();
    this.update(route);
  }

  get heldCount(): number {
    return this.waiting.size;
  }

  /** Takes a changed route; null: the app is gone. */
  update(route: AppRoute | null): void {
    if (route !== null) this.route = route;
    const listed = new Set<InstanceId>();
    for (const entry of route?.instances ?? []) {
      if (route?.draining.includes(entry.instance) === true) continue;
      listed.add(entry.instance);
      const known = this.instances.get(entry.instance);
      if (known !== undefined) known.update(entry);
      else {
        const { context, table } = this.host;
        const made = new InstanceState(context, table, this.key, entry);
        this.instances.set(entry.instance, made);
        this.host.opened(made);
      }
    }
    for (const [id, instance] of this.instances) {
      if (listed.has(id)) continue;
      instance.drain();
      this.instances.delete(id);
      this.host.closed(instance);
    }
    if (route === null) {
      this.refuseAll(503, "The app was removed while the request waited.");
      return;
    }
    if (this.waiting.size > 0) this.pump();
  }

  /** Takes over what is known of its requests' costs. */
  applyCosts(costs: AppCosts): void {
    this.placesByCost = costs.sure;
    this.meanUs = costs.meanUs > 0 ? costs.meanUs : costUsAtFirst;
    for (const { name, costUs, confidence } of costs.classes) {
      const routeClass = this.classes.adopt(name);
      if (routeClass.name !== name) continue;
      routeClass.costUs = confidence >= confidenceMin ? costUs : null;
    }
  }

  private costOf(waiter: Waiter): number {
    waiter.routeClass ??= this.classes.of(waiter.method, waiter.target);
    const costUs = waiter.routeClass.present.costUs ?? this.meanUs;
    return Math.min(costUsMax, Math.max(1, Math.round(costUs)));
  }

  place(waiter: Waiter): void {
    waiter.costUs = this.costOf(waiter);
    const target = this.pick(waiter);
    if (target !== null) waiter.dispatch(target);
    else this.hold(waiter);
  }

  /** The waiter's client went away, or its time is over. */
  forget(waiter: Waiter): void {
    this.waiting.delete(waiter);
  }

  began(instance: InstanceState, waiter: Waiter): void {
    instance.began(this.host.context.clock.now(), waiter.costUs);
    this.host.touched(instance);
  }

  ended(instance: InstanceState, waiter: Waiter): void {
    instance.ended(this.host.context.clock.now(), waiter.costUs);
    this.host.touched(instance);
    if (this.waiting.size > 0) this.pump();
  }

  /** A held request's time is over. */
  expire(waiter: Waiter): void {
    this.waiting.delete(waiter);
    const cause = this.trouble ?? this.route.problem;
    if (cause === null) {
      waiter.refuse(504, "The app did not become ready in time. Try again in a moment.", 5);
    } else waiter.refuse(503, `The app could not be started: ${cause}.`, 5);
  }

  private pick(waiter: Waiter): InstanceState | null {
    const { context } = this.host;
    const { candidates } = this;
    const now = context.clock.now();
    candidates.length = 0;
    for (const instance of this.instances.values()) {
      if (instance.endpoint === null || instance.avoided(now)) continue;
      if (instance.inFlight >= context.limits.instanceRequestsMax) continue;
      if (this.host.isQuiesced(instance.id)) continue;
      candidates.push(instance);
    }
    if (candidates.length <= 1) return candidates[0] ?? null;
    const costUs = this.placesByCost ? waiter.costUs : null;
    for (const candidate of candidates) candidate.weigh(now, costUs, this.meanUs);
    return candidates[choose(candidates, this.random)] ?? null;
  }

  private hold(waiter: Waiter): void {
    const { limits, clock } = this.host.context;
    if (this.waiting.size >= limits.heldMax) {
      waiter.refuse(503, "Too many requests wait for this app to become ready.", 1);
      return;
    }
    waiter.holdUntil ??= clock.now() + limits.holdMs;
    this.waiting.add(waiter);
    waiter.held();
    this.stir();
  }

  /** Gives held requests, oldest first, to instances that can take them. */
  private pump(): void {
    for (const waiter of this.waiting) {
      const target = this.pick(waiter);
      if (target === null) break;
      this.waiting.delete(waiter);
      waiter.dispatch(target);
    }
    if (this.waiting.size > 0) this.stir();
  }

  /** Sees to it that something is under way for those who wait. */
  private stir(): void {
    if (this.waiting.size === 0) return;
    const now = this.host.context.clock.now();
    let hope = false;
    let refusal: string | null = null;
    let retryAt = Number.POSITIVE_INFINITY;
    for (const instance of this.instances.values()) {
      if (instance.waking) return;
      if (!this.needsWake(instance)) hope = true;
      else if (instance.wakeRefused !== null && instance.wakeRefused.until > now) {
        refusal = instance.wakeRefused.reason;
      } else if (instance.failing && instance.failingUntil > now) {
        retryAt = Math.min(retryAt, instance.failingUntil);
      } else {
        void this.wake(instance);
        return;
      }
    }
    if (retryAt < Number.POSITIVE_INFINITY) this.stirAfter(retryAt - now);
    else if (!hope) this.refuseAll(503, this.sayWhyNot(refusal));
  }

  private sayWhyNot(refusal: string | null): string {
    if (refusal !== null) return `The app could not be started: ${refusal}.`;
    if (this.route.problem !== null) return this.route.problem;
    if (this.route.release === null) return "The app has no release that ever became healthy.";
    return "The app has no running instance.";
  }

  private needsWake(instance: InstanceState): boolean {
    if (this.host.isQuiesced(instance.id) || instance.failing) return true;
    return instance.endpoint === null && !instance.starting;
  }

  private stirAfter(delayMs: number): void {
    if (this.retryScheduled) return;
    this.retryScheduled = true;
    this.host.context.clock.after(delayMs, () => {
      this.retryScheduled = false;
      this.stir();
    });
  }

  private async wake(instance: InstanceState): Promise<void> {
    instance.waking = true;
    const answer = await this.host.wake(instance);
    instance.waking = false;
    switch (answer.kind) {
      case "awake":
        this.trouble = null;
        this.host.awoke(instance.id);
        instance.wokenAt(answer.endpoint);
        this.pump();
        return;
      case "refused": {
        const until = this.host.context.clock.now() + wakeRefusedMs;
        instance.wakeRefused = { until, reason: answer.reason.replace(/\.+$/, "") };
        this.stir();
        return;
      }
      default:
        this.trouble = answer.reason;
        this.stirAfter(wakeRetryMs);
    }
  }

  private refuseAll(status: number, cause: string): void {
    for (const waiter of [...this.waiting]) {
      this.waiting.delete(waiter);
      waiter.refuse(status, cause, 5);
    }
  }
}
