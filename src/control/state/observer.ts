import type { Clock, Timer, Timestamp } from "../../base/time.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import type { InstanceStatus } from "../../model/instance.ts";
import { appKey } from "../../model/keys.ts";
import type { InstanceId, NodeName } from "../../model/names.ts";
import {
  type NodeChange,
  type NodeReport,
  type ReportRequest,
  type StatusesReply,
  type StatusesRequest,
  subjects,
} from "../../model/wire.ts";
import type { Observed, ObservedInstance } from "../../scheduler/observed.ts";

const reportTimeoutMs = 5_000;
/** An agent that is being started is asked often, so that nobody waits for control. */
const retryMs = 100;
const retriesAtOnce = 100;
const retryLaterMs = 2_000;
/** Agents give a sign of life every 5 s. */
const silenceMs = 20_000;
const changesKeptMax = 1_000;
/** Attempts to get an answer that is not older than the changes heard meanwhile. */
const learnAttemptsMax = 5;

interface NodeView {
  epoch: string | null;
  sequence: number;
  heardSince: Timestamp | null;
  lastHeardAt: Timestamp;
  statuses: Map<InstanceId, InstanceStatus>;
  asking: boolean;
  /** Changes that came while a report was on its way. */
  kept: NodeChange[];
  retry: Timer | null;
}

const nothing: ReadonlyMap<InstanceId, ObservedInstance> = new Map();

/**
 * What the nodes say, kept as it comes. Each node's view:
 *
 *   unheard → asking ⇄ followed (each change one more than the last)
 *                 └ a gap, another epoch, or the wire came back: ask for a report again
 */
export class Observer implements Observed {
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #onChange: (apps: Iterable<string>) => void;
  readonly #onHeard: (node: NodeName) => void;
  readonly #nodes = new Map<NodeName, NodeView>();
  readonly #byApp = new Map<string, Map<InstanceId, ObservedInstance>>();
  readonly #subscriptions: Subscription[] = [];
  readonly #silenceWaiters: (() => void)[] = [];
  #members: ReadonlySet<NodeName> = new Set();
  #closed = false;

  /** `onHeard`: a node reported; what waited for it can be decided. */
  constructor(
    wire: Wire,
    clock: Clock,
    onChange: (apps: Iterable<string>) => void,
    onHeard: (node: NodeName) => void,
  ) {
    this.#wire = wire;
    this.#clock = clock;
    this.#onChange = onChange;
    this.#onHeard = onHeard;
  }

  start(): void {
    const subscription = this.#wire.subscribe(subjects.nodeStatus("*"), ({ payload }) =>
      this.#changed(payload as unknown as NodeChange),
    );
    let wasLost = false;
    const connection = this.#wire.onConnection((connected) => {
      if (connected && wasLost) for (const name of this.#nodes.keys()) void this.#ask(name, 0);
      wasLost = !connected;
    });
    this.#subscriptions.push(subscription, connection);
  }

  close(): void {
    this.#closed = true;
    for (const subscription of this.#subscriptions) subscription.cancel();
    for (const view of this.#nodes.values()) view.retry?.cancel();
    this.#checkSilence();
  }

  /** The machines of the pool: each is asked until it reports. */
  setMembers(members: ReadonlySet<NodeName>): void {
    this.#members = members;
    for (const name of members) {
      if (this.#view(name).heardSince === null) void this.#ask(name, 0);
    }
    for (const name of [...this.#nodes.keys()]) if (!members.has(name)) this.#forget(name);
    this.#checkSilence();
  }

  instancesOf(app: string): ReadonlyMap<InstanceId, ObservedInstance> {
    return this.#byApp.get(app) ?? nothing;
  }

  /** Those with instances that are known here. */
  get apps(): Iterable<string> {
    return this.#byApp.keys();
  }

  /** Instances that are known. */
  get count(): number {
    let sum = 0;
    for (const { statuses } of this.#nodes.values()) sum += statuses.size;
    return sum;
  }

  /** What is known of every node. */
  *instances(): Iterable<ObservedInstance> {
    for (const instances of this.#byApp.values()) yield* instances.values();
  }

  /** What every node runs, by app. */
  *statuses(): Iterable<readonly [app: string, status: InstanceStatus]> {
    for (const [app, instances] of this.#byApp) {
      for (const { status } of instances.values()) yield [app, status];
    }
  }

  /**
   * Asks the node for instances that are not known here: it tells by itself only of those that
   * are awake. A node that does not answer leaves them unknown.
   */
  async learn(node: NodeName, instances: readonly InstanceId[]): Promise<void> {
    for (let attempt = 0; attempt < learnAttemptsMax; attempt += 1) {
      const view = this.#nodes.get(node);
      if (view === undefined || view.heardSince === null || view.asking || this.#closed) return;
      const unknown = instances.filter((instance) => !view.statuses.has(instance));
      if (unknown.length === 0) return;
      const reply = await this.#askFor(node, unknown);
      if (reply === null || this.#nodes.get(node) !== view) return;
      const { epoch, sequence, statuses } = reply;
      const isOlder = epoch !== view.epoch || sequence < view.sequence;
      if (isOlder && attempt + 1 < learnAttemptsMax) continue;
      const touched = new Set<string>();
      for (const status of statuses) {
        if (!view.statuses.has(status.instance)) this.#put(view, node, status, touched);
      }
      return;
    }
  }

  /** Asks the node, and keeps nothing. */
  async statusesOf(
    node: NodeName,
    instances: readonly InstanceId[],
  ): Promise<readonly InstanceStatus[]> {
    if (this.heardSince(node) === null) return [];
    return (await this.#askFor(node, instances))?.statuses ?? [];
  }

  async #askFor(node: NodeName, instances: readonly InstanceId[]): Promise<StatusesReply | null> {
    const request: StatusesRequest = { instances };
    const reply = await this.#wire.request(
      subjects.nodeStatuses(node),
      { ...request },
      { timeoutMs: reportTimeoutMs },
    );
    return reply.ok ? (reply.value as unknown as StatusesReply) : null;
  }

  knows(node: NodeName, instance: InstanceId): boolean {
    return this.#nodes.get(node)?.statuses.has(instance) ?? false;
  }

  /** Nobody looks at the app; of its instances nothing is kept. */
  forget(app: string): void {
    for (const { node, status } of this.#byApp.get(app)?.values() ?? []) {
      this.#nodes.get(node)?.statuses.delete(status.instance);
    }
    this.#byApp.delete(app);
  }

  heardSince(node: NodeName): Timestamp | null {
    return this.#nodes.get(node)?.heardSince ?? null;
  }

  /** Whether the node was heard lately. */
  isAlive(node: NodeName): boolean {
    const view = this.#nodes.get(node);
    if (view === undefined || view.heardSince === null) return false;
    return this.#clock.now() - view.lastHeardAt < silenceMs;
  }

  /** Resolves when every node of the pool has reported, or after `timeoutMs`. */
  heardAll(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(timeoutMs, resolve);
      this.#silenceWaiters.push(() => {
        timer.cancel();
        resolve();
      });
      this.#checkSilence();
    });
  }

  #checkSilence(): void {
    const isSilent = [...this.#members].some((name) => this.heardSince(name) === null);
    if (isSilent && !this.#closed) return;
    for (const resolve of this.#silenceWaiters.splice(0)) resolve();
  }

  #view(name: NodeName): NodeView {
    const known = this.#nodes.get(name);
    if (known !== undefined) return known;
    const view: NodeView = {
      epoch: null,
      sequence: 0,
      heardSince: null,
      lastHeardAt: 0,
      statuses: new Map(),
      asking: false,
      kept: [],
      retry: null,
    };
    this.#nodes.set(name, view);
    return view;
  }

  #forget(name: NodeName): void {
    const view = this.#nodes.get(name);
    view?.retry?.cancel();
    this.#nodes.delete(name);
    const touched = new Set<string>();
    for (const status of view?.statuses.values() ?? []) this.#drop(status, touched);
    this.#onChange(touched);
  }

  #changed(change: NodeChange): void {
    if (!this.#members.has(change.node)) return;
    const view = this.#view(change.node);
    view.lastHeardAt = this.#clock.now();
    if (view.asking) {
      view.kept.push(change);
      if (view.kept.length > changesKeptMax) view.kept.shift();
      return;
    }
    if (change.epoch === view.epoch && change.sequence <= view.sequence) return;
    if (change.epoch !== view.epoch || change.sequence !== view.sequence + 1) {
      void this.#ask(change.node, 0);
      return;
    }
    this.#apply(view, change);
  }

  #apply(view: NodeView, change: NodeChange): void {
    const touched = new Set<string>();
    view.sequence = change.sequence;
    for (const status of change.changed) this.#put(view, change.node, status, touched);
    for (const instance of change.removed) {
      const status = view.statuses.get(instance);
      if (status === undefined) continue;
      view.statuses.delete(instance);
      this.#drop(status, touched);
    }
    this.#onChange(touched);
  }

  async #ask(name: NodeName, attempt: number): Promise<void> {
    const view = this.#view(name);
    if (view.asking || this.#closed) return;
    view.asking = true;
    view.retry?.cancel();
    // A node forgets what sleeps, and would not name it.
    const also = [...view.statuses.values()]
      .filter(({ phase }) => phase.state === "asleep")
      .map(({ instance }) => instance);
    const request: ReportRequest = { also };
    const reply = await this.#wire.request(
      subjects.nodeReport(name),
      { ...request },
      { timeoutMs: reportTimeoutMs },
    );
    view.asking = false;
    if (this.#closed || this.#nodes.get(name) !== view) return;
    if (reply.ok) {
      this.#take(view, reply.value as unknown as NodeReport);
      return;
    }
    view.kept = [];
    const delayMs = attempt < retriesAtOnce ? retryMs : retryLaterMs;
    view.retry = this.#clock.after(delayMs, () => void this.#ask(name, attempt + 1));
  }

  #take(view: NodeView, report: NodeReport): void {
    const touched = new Set<string>();
    const before = view.statuses;
    view.statuses = new Map();
    view.epoch = report.epoch;
    view.sequence = report.sequence;
    for (const status of report.instances) {
      const old = before.get(status.instance);
      if (old !== undefined) view.statuses.set(status.instance, old);
      this.#put(view, report.node, status, touched);
    }
    for (const status of before.values()) {
      if (!view.statuses.has(status.instance)) this.#drop(status, touched);
    }
    view.lastHeardAt = this.#clock.now();
    view.heardSince ??= view.lastHeardAt;
    const kept = view.kept.filter(
      (change) => change.epoch === view.epoch && change.sequence > view.sequence,
    );
    view.kept = [];
    this.#onChange(touched);
    this.#onHeard(report.node);
    this.#checkSilence();
    for (const change of kept) this.#changed(change);
  }

  /** Records a status; its app is touched unless only its usage changed. */
  #put(view: NodeView, node: NodeName, status: InstanceStatus, touched: Set<string>): void {
    const before = view.statuses.get(status.instance);
    view.statuses.set(status.instance, status);
    const key = appKey(status.project, status.app);
    const ofApp = this.#byApp.get(key) ?? new Map<InstanceId, ObservedInstance>();
    ofApp.set(status.instance, { node, status });
    this.#byApp.set(key, ofApp);
    if (before === undefined || essence(before) !== essence(status)) touched.add(key);
  }

  #drop(status: InstanceStatus, touched: Set<string>): void {
    const key = appKey(status.project, status.app);
    const ofApp = this.#byApp.get(key);
    ofApp?.delete(status.instance);
    if (ofApp?.size === 0) this.#byApp.delete(key);
    touched.add(key);
  }
}

function essence(status: InstanceStatus): string {
  return JSON.stringify({ ...status, usage: null });
}
