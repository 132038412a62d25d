import type { Timestamp } from "../../base/time.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { InstanceId } from "../../model/names.ts";
import type { AppRoute } from "../../model/route.ts";
import type { AppCosts } from "../../model/wire.ts";
import { affinityKeyOf, hashText, type KeyedRequest, ownerOf } from "../balance/affinity.ts";
import { choose } from "../balance/choose.ts";
import { type RouteClass, RouteClasses } from "../balance/classes.ts";
import { type Division, divide } from "../balance/division.ts";
import { confidenceMin } from "../balance/learner.ts";
import { placeDear, workForCheap } from "../balance/place.ts";
import type { GatewayContext } from "../context.ts";
import type { LoadTable } from "../load/table.ts";
import { TrafficCounts } from "../metrics/counts.ts";
import type { Told, Traffic } from "../metrics/traffic.ts";
import { InstanceState } from "./instance.ts";

/** A request that needs an instance. */
export interface Waiter {
  /** What its affinity key hashes to; null: any instance will do. */
  readonly key: number | null;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** Sent twice it does the same as once, and all of it is here. */
  readonly isRepeatable: boolean;
  /** Its class; set when it is placed. */
  routeClass: RouteClass | null;
  /** What it counts in the load table while it is in flight. */
  costUs: number;
  isDear: boolean;
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

/** How what rests is made to run. */
export interface Wakes {
  /** Lets one that is frozen go on at once. False: that cannot be done here. */
  thaw(instance: InstanceId): boolean;
  /** Asks its node to wake it, which knows then that it is awake. */
  wake(instance: InstanceState): Promise<WakeAnswer>;
}

/** What an app needs from the rest of the gateway. */
export interface AppHost {
  readonly context: GatewayContext;
  readonly table: LoadTable;
  readonly traffic: Traffic;
  wake(instance: InstanceState): Promise<WakeAnswer>;
  thaw(instance: InstanceState): boolean;
  isQuiesced(instance: InstanceId): boolean;
  awoke(instance: InstanceId): void;
  /** An instance of an app in use is in the table now, or no longer. */
  opened(instance: InstanceState): void;
  closed(instance: InstanceState): void;
  /** Its numbers changed since they were last published. */
  touched(instance: InstanceState): void;
  /** Requests wait for one of its instances. */
  holds(app: AppState): void;
}

/** What a request is reckoned to cost before anything is known; only ratios matter. */
const costUsAtFirst = 1000;
const costUsMax = 1e9;
const wakeRetryMs = 250;
const wakeRefusedMs = 1000;
const tellAfterMs = 5;

/**
 * One app's requests and instances. A request is placed on a running instance, or held while
 * one is made to run:
 *
 *   place ─→ dispatched
 *     └─→ held ─→ (woken, table changed, a slot came free) ─→ dispatched
 *           └─→ refused: nothing can run it (503), or its time is over (504)
 *
 * A request with a key is placed on the one instance that its key belongs to, and held for that
 * one alone. Instances own keys as long as their nodes will run them: asleep, or on their way
 * back, they keep them; one whose wake was refused gives them up until it is asked again.
 */
export class AppState implements Told {
  readonly key: string;
  readonly counts = new TrafficCounts();
  route: AppRoute;
  /** As last published. */
  heldPublished = 0;
  private readonly host: AppHost;
  private readonly instances = new Map<InstanceId, InstanceState>();
  private readonly waiting = new Set<Waiter>();
  private readonly candidates: InstanceState[] = [];
  /** Could be woken to help the others. */
  private resting: InstanceState | null = null;
  private classes = new RouteClasses();
  /** What was learned of the release that serves. */
  private costs: AppCosts | null = null;
  private meanUs = costUsAtFirst;
  private division: Division | null = null;
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

  /** It has requests in flight or held, or an instance of its that is awake. */
  get isBusy(): boolean {
    if (this.counts.inFlight > 0 || this.waiting.size > 0) return true;
    return [...this.instances.values()].some((instance) => instance.isBusy);
  }

  get heldCount(): number {
    return this.waiting.size;
  }

  /** Takes a changed route; null: the app is gone. */
  update(route: AppRoute | null): void {
    if (route !== null) {
      // Another release is another program.
      if (route.release !== this.route.release) this.forgetCosts();
      this.route = route;
    }
    const listed = new Set<InstanceId>();
    for (const entry of route?.instances ?? []) {
      if (route?.draining.includes(entry.instance) === true) continue;
      listed.add(entry.instance);
      const known = this.instances.get(entry.instance);
      if (known !== undefined) known.update(entry);
      else {
        const { context, table } = this.host;
        const app = { key: this.key, release: this.route.release };
        const made = new InstanceState(context, table, app, entry);
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
    this.divide();
    if (this.waiting.size > 0) this.pump();
  }

  /** Takes over what is known of its requests' costs. */
  applyCosts(costs: AppCosts): void {
    this.costs = costs;
    this.meanUs = costs.meanUs > 0 ? costs.meanUs : costUsAtFirst;
    for (const { name, costUs, confidence } of costs.classes) {
      const routeClass = this.classes.adopt(name);
      if (routeClass.name !== name) continue;
      routeClass.costUs = confidence >= confidenceMin ? costUs : null;
    }
    this.divide();
  }

  private forgetCosts(): void {
    this.costs = null;
    this.meanUs = costUsAtFirst;
    this.classes = new RouteClasses();
  }

  private divide(): void {
    this.division = null;
    if (this.costs?.sure !== true) return;
    const classes = this.costs.classes.map(({ costUs, confidence, requests }) => ({
      costUs: confidence >= confidenceMin ? costUs : this.meanUs,
      requests,
    }));
    this.division = divide(classes, this.instances.size);
  }

  private costOf(waiter: Waiter): number {
    waiter.routeClass ??= this.classes.of(waiter.method, waiter.target);
    const costUs = waiter.routeClass.present.costUs ?? this.meanUs;
    return Math.min(costUsMax, Math.max(1, Math.round(costUs)));
  }

  private isDear({ costUs }: Waiter): boolean {
    return this.division !== null && costUs >= this.division.dearFromUs;
  }

  /** What the request's key hashes to; null: it has none, or needs none. */
  keyOf(request: KeyedRequest): number | null {
    const { affinity } = this.route;
    const key = affinity === undefined ? null : affinityKeyOf(affinity, request);
    return key === null ? null : hashText(key);
  }

  /** A request of its came in, or was done with and counted. */
  entered(difference: 1 | -1): void {
    this.counts.inFlight += difference;
    this.host.traffic.touch(this);
  }

  place(waiter: Waiter): void {
    waiter.costUs = this.costOf(waiter);
    waiter.isDear = this.isDear(waiter);
    const target = this.pick(waiter, this.ownerFor(waiter));
    if (target !== null) this.dispatch(waiter, target);
    else this.hold(waiter);
  }

  private dispatch(waiter: Waiter, target: InstanceState): void {
    const { resting } = this;
    waiter.dispatch(target);
    // One instance's share is not enough: one that sleeps is woken beside it.
    if (resting === null || resting.waking) return;
    if (target.inFlightOfAll > this.route.requestsPerInstance) void this.wake(resting);
  }

  /** The waiter's client went away, or its time is over. */
  forget(waiter: Waiter): void {
    this.waiting.delete(waiter);
  }

  began(instance: InstanceState, waiter: Waiter, now: Timestamp): void {
    instance.began(now, waiter.costUs, waiter.isDear);
    this.host.touched(instance);
  }

  ended(instance: InstanceState, waiter: Waiter, now: Timestamp): void {
    instance.ended(now, waiter.costUs, waiter.isDear);
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

  /** The only instance that may take it; null: any may. */
  private ownerFor(waiter: Waiter): InstanceState | null {
    if (waiter.key === null || this.route.affinity === undefined) return null;
    const { candidates } = this;
    const now = this.host.context.clock.now();
    candidates.length = 0;
    // One that comes up for the first time gets its keys once it runs: until then others serve.
    for (const instance of this.instances.values()) {
      if (instance.isRefused(now) || (instance.starting && !instance.restarting)) continue;
      candidates.push(instance);
    }
    return ownerOf(waiter.key, candidates);
  }

  private canTake(instance: InstanceState, now: Timestamp): boolean {
    if (instance.rests || instance.endpoint === null || instance.avoided(now)) return false;
    if (instance.inFlight >= this.host.context.limits.instanceRequestsMax) return false;
    return !this.host.isQuiesced(instance.id);
  }

  private takes(instance: InstanceState, waiter: Waiter, now: Timestamp): boolean {
    if (this.canTake(instance, now)) return true;
    return waiter.isRepeatable && instance.takesAhead(this.host.isQuiesced(instance.id));
  }

  /** It could be woken to take a share. */
  private mayRest(instance: InstanceState): boolean {
    if (!instance.rests && !this.host.isQuiesced(instance.id)) return false;
    return !instance.waking && instance.wakeRefused === null;
  }

  private pick(waiter: Waiter, owner: InstanceState | null): InstanceState | null {
    const { context } = this.host;
    const { candidates } = this;
    const now = context.clock.now();
    this.resting = null;
    if (owner !== null) return this.takes(owner, waiter, now) ? owner : null;
    candidates.length = 0;
    for (const instance of this.instances.values()) {
      if (this.takes(instance, waiter, now)) candidates.push(instance);
      else if (this.mayRest(instance)) this.resting = instance;
    }
    if (candidates.length <= 1) return candidates[0] ?? null;
    return candidates[this.choose(waiter, candidates, now)] ?? null;
  }

  private choose(waiter: Waiter, candidates: readonly InstanceState[], now: Timestamp): number {
    const { division } = this;
    const costUs = this.costs?.sure === true ? waiter.costUs : null;
    for (const candidate of candidates) candidate.weigh(now, costUs, this.meanUs);
    if (division === null) return choose(candidates, this.random);
    if (waiter.isDear) return placeDear(candidates, division, this.random);
    for (const candidate of candidates) {
      candidate.work = workForCheap(candidate.work, candidate.dear, division);
    }
    return choose(candidates, this.random);
  }

  private hold(waiter: Waiter): void {
    const { limits, clock } = this.host.context;
    if (this.waiting.size >= limits.heldMax) {
      waiter.refuse(503, "Too many requests wait for this app to become ready.", 1);
      return;
    }
    waiter.holdUntil ??= clock.now() + limits.holdMs;
    this.waiting.add(waiter);
    this.host.holds(this);
    waiter.held();
    const owner = this.ownerFor(waiter);
    if (owner === null) this.stirAny();
    else this.stirOwner(owner);
  }

  /** Gives held requests, oldest first, to instances that can take them. */
  private pump(): void {
    let full = false;
    for (const waiter of this.waiting) {
      const owner = this.ownerFor(waiter);
      const target = owner === null && full ? null : this.pick(waiter, owner);
      if (target === null) {
        full ||= owner === null;
        if (this.route.affinity === undefined) break;
        continue;
      }
      this.waiting.delete(waiter);
      this.dispatch(waiter, target);
    }
    if (this.waiting.size > 0) this.stir();
  }

  /** Sees to it that something is under way for those who wait. */
  private stir(): void {
    for (const instance of this.instances.values()) {
      // A request lies in its socket.
      if (instance.rests && instance.inFlight > 0 && !instance.waking) void this.wake(instance);
    }
    if (this.route.affinity === undefined) {
      if (this.waiting.size > 0) this.stirAny();
      return;
    }
    const owners = new Set<InstanceState | null>();
    for (const waiter of this.waiting) owners.add(this.ownerFor(waiter));
    for (const owner of owners) {
      if (owner === null) this.stirAny();
      else this.stirOwner(owner);
    }
  }

  private stirOwner(owner: InstanceState): void {
    owner.tellNow?.();
    if (owner.waking || !(this.needsWake(owner) || owner.restarting)) return;
    const waitMs = owner.failing ? owner.failingUntil - this.host.context.clock.now() : 0;
    if (waitMs > 0) this.stirAfter(waitMs);
    else void this.wake(owner);
  }

  private stirAny(): void {
    const now = this.host.context.clock.now();
    let hope = false;
    let refusal: string | null = null;
    let retryAt = Number.POSITIVE_INFINITY;
    for (const instance of this.instances.values()) {
      instance.tellNow?.();
      if (instance.waking) return;
      if (!this.needsWake(instance)) hope = true;
      else if (instance.isRefused(now)) {
        refusal = instance.wakeRefused?.reason ?? null;
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
    // Asked to be quiet: it may be frozen by now, which the table tells later.
    const isQuiesced = this.host.isQuiesced(instance.id);
    if (instance.connectAhead(isQuiesced, () => this.sendAhead())) await this.thaw(instance);
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
        // Its keys are others' now.
        this.pump();
        return;
      }
      default:
        this.trouble = answer.reason;
        this.stirAfter(wakeRetryMs);
    }
  }

  /**
   * A frozen one goes on once its request lies in its socket, and may take the core that this runs
   * on. Then its node has time: what it does with the news would keep the app from answering.
   */
  private async thaw(instance: InstanceState): Promise<void> {
    const { sockets, clock } = this.host.context;
    await new Promise<void>((done) => sockets.defer(done));
    if (!this.host.thaw(instance)) return;
    if (instance.inFlight === 0 || this.waiting.size > 0) return;
    await new Promise<void>((done) => {
      const timer = clock.after(tellAfterMs, done);
      instance.tellNow = () => {
        timer.cancel();
        done();
      };
    });
    instance.tellNow = null;
  }

  /** The oldest that may be sent again, should its instance end instead of waking. */
  private sendAhead(): void {
    for (const waiter of this.waiting) {
      if (!waiter.isRepeatable) continue;
      const target = this.pick(waiter, this.ownerFor(waiter));
      if (target === null) continue;
      this.waiting.delete(waiter);
      this.dispatch(waiter, target);
      return;
    }
  }

  private refuseAll(status: number, cause: string): void {
    for (const waiter of [...this.waiting]) {
      this.waiting.delete(waiter);
      waiter.refuse(status, cause, 5);
    }
  }
}
