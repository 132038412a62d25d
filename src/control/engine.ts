import type { Result } from "../base/result.ts";
import type { Clock, Random, Timer, Timestamp } from "../base/time.ts";
import type { Condition, Ledger, LedgerError, Write } from "../fabric/ledger.ts";
import type { Wire } from "../fabric/wire.ts";
import type { Assignment } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import { defaultProject, type InstanceId } from "../model/names.ts";
import type { Plan, PlannedWrite, Step } from "../scheduler/plan.ts";
import { plan } from "../scheduler/planner.ts";
import { appOfHost, type HostClaim, type Snapshot } from "../scheduler/snapshot.ts";
import { DeploymentJournals } from "./deployments/journals.ts";
import { RoutePublisher, type RouteSource } from "./routes/publisher.ts";
import type { SecretBox } from "./secrets.ts";
import { Demands } from "./state/demands.ts";
import { HardState, type SnapshotChange } from "./state/hard-state.ts";
import { Leadership } from "./state/leadership.ts";
import { Observer } from "./state/observer.ts";
import { Warmth } from "./state/warmth.ts";

/** Routes wait for the reports of the pool's nodes, but not for ever: one may be dead. */
const reportWaitMs = 15_000;
const ledgerRetryMs = 1_000;
/** Apps looked at in one turn, so that a full round leaves time for others. */
const appsPerTurn = 500;

export interface EngineOptions {
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly clock: Clock;
  readonly random: Random;
  readonly secretBox: SecretBox;
  readonly domain: string;
  readonly releasesKept: number;
  readonly replica: string;
  readonly costsOf: RouteSource["costsOf"];
  /** Releases were recorded or retired. */
  readonly onReleases: () => void;
  readonly onProblem: (message: string) => void;
}

/**
 * The loop of control. Changes of hard state and of what the nodes say mark apps; one turn then
 * takes the marked ones: routes, journals, and on the leader plan and execute.
 *
 *   idle → turn (routes → journals → plan) → idle, or the next turn
 *                                      └→ execute → its app is marked again
 *
 * The executor makes no choices and nobody waits for it: what could not be written is planned
 * again from what is there then. An app that is not in the snapshot is read into it first, while
 * the turns of others go on; one that sleeps and is not looked at leaves it again.
 */
export class Engine {
  readonly state: HardState;
  readonly observer: Observer;
  readonly #demands: Demands;
  readonly #warmth: Warmth;
  readonly journals: DeploymentJournals;
  readonly #options: EngineOptions;
  readonly #leadership: Leadership;
  readonly #marked = new Set<string>();
  /** Apps with a step on its way: planned again when it has arrived. */
  readonly #executing = new Set<string>();
  readonly #pending = new Map<string, readonly Assignment[]>();
  readonly #alarms = new Map<string, Timestamp>();
  /** Apps that wait for something, by their last plan. */
  readonly #blocked = new Set<string>();
  #routes: RoutePublisher | null = null;
  #alarm: { readonly at: Timestamp; readonly timer: Timer } | null = null;
  #turning = false;
  #closed = false;

  constructor(options: EngineOptions) {
    const { ledger, wire, clock, replica } = options;
    this.#options = options;
    this.state = new HardState(ledger, clock, options.domain, (change) =>
      this.#hardStateChanged(change),
    );
    this.observer = new Observer(
      wire,
      clock,
      (apps) => this.mark(apps),
      (node) => {
        this.#warmth.heard(node);
        this.markAll();
      },
    );
    this.#warmth = new Warmth(this.state, this.observer, clock, {
      isBusy: (app) => this.#isBusy(app),
      evicted: (apps) => this.#routes?.forget(apps),
    });
    const ownerOf = (instance: InstanceId) => this.state.ownerOf(instance);
    this.#demands = new Demands(wire, clock, ownerOf, (apps) => this.mark(apps));
    this.journals = new DeploymentJournals(wire, clock);
    this.#leadership = new Leadership(ledger, clock, replica, this.state, () =>
      this.#leadershipChanged(),
    );
  }

  /** Whether this replica plans. */
  get isLeading(): boolean {
    return this.#leadership.fence !== null;
  }

  async start(): ReturnType<HardState["start"]> {
    this.observer.start();
    this.#demands.start();
    this.#warmth.start();
    return this.state.start();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#alarm?.timer.cancel();
    this.#routes?.close();
    this.#warmth.close();
    this.observer.close();
    this.#demands.close();
    this.journals.close();
    await this.#leadership.close();
    this.state.close();
  }

  mark(apps: Iterable<string>): void {
    for (const key of apps) this.#marked.add(key);
    if (this.#marked.size === 0 || this.#turning || this.#closed) return;
    this.#turning = true;
    queueMicrotask(() => this.#run());
  }

  /** All that anybody looks at; the others are as they should be. */
  markAll(): void {
    this.mark(this.#loaded());
  }

  /** Those of the apps that exist are in the snapshot, with what their nodes say of them. */
  async ensure(apps: readonly string[]): Promise<Result<void, LedgerError>> {
    const missing = apps.filter((key) => !this.#warmth.isWarm(key));
    const warmed = await this.#warmth.warm(apps);
    if (warmed.ok) this.mark(missing);
    return warmed;
  }

  /** What `look` finds out about apps that need not stay in the snapshot. */
  async glance<Value>(
    apps: readonly string[],
    look: () => Value,
  ): Promise<Result<Value, LedgerError>> {
    return this.#warmth.glance(apps, look);
  }

  #loaded(): readonly string[] {
    return [...this.state.snapshot.apps.entries()].map(([key]) => key);
  }

  /**
   * The first steps of an app as it would be after the given change, for the one transaction
   * that makes the change: so a deploy is on its way with a single write. Null: this replica
   * does not plan, or there is nothing to do yet.
   */
  firstSteps(after: Snapshot, app: string): FirstSteps | null {
    const fence = this.#leadership.fence;
    if (fence === null) return null;
    const [step] = this.#plan(after, [app]).steps;
    if (step === undefined) return null;
    return {
      conditions: [fence],
      writes: step.writes.map(toWrite),
      taking: (work) => this.#taking(step, work),
    };
  }

  #hardStateChanged(change: SnapshotChange): void {
    if (change.leaderChanged) void this.#leadership.review();
    if (change.nodesChanged) {
      const pool = [...this.state.snapshot.nodes.values()].filter(({ node }) => node !== null);
      this.observer.setMembers(new Set(pool.map(({ name }) => name)));
    }
    if (change.certificatesChanged) this.#routes?.setCertificates(this.state.snapshot);
    if (change.releasesChanged) this.#options.onReleases();
    this.mark(change.apps);
    if (change.nodesChanged) this.markAll();
  }

  #leadershipChanged(): void {
    this.#routes?.close();
    this.#routes = null;
    if (this.#leadership.fence === null || this.#closed) return;
    const { wire, clock, random, domain, secretBox, costsOf } = this.#options;
    const epoch = random.token(12);
    const routes = new RoutePublisher(
      ...([wire, clock, epoch, domain] as const),
      (text) => secretBox.open(text),
      {
        load: (apps) => this.#readyForRoutes(routes, apps),
        candidatesFor: (host) => this.#candidatesFor(host),
        costsOf,
      },
    );
    this.#routes = routes;
    routes.setCertificates(this.state.snapshot);
    void this.#ensureDefaultProject();
    void this.#openRoutes(routes);
    this.markAll();
  }

  /** Once the nodes have said what is awake, and the records of that are read. */
  async #openRoutes(routes: RoutePublisher): Promise<void> {
    await this.observer.heardAll(reportWaitMs);
    for (;;) {
      const ready = await this.ensure([...this.observer.apps]);
      if (this.#routes !== routes) return;
      if (ready.ok) break;
      this.#options.onProblem(ready.error.message);
      await new Promise<void>((resolve) => this.#options.clock.after(ledgerRetryMs, resolve));
    }
    routes.update(this.state.snapshot, this.observer, this.#loaded());
    routes.open();
  }

  async #readyForRoutes(routes: RoutePublisher, apps: readonly string[]): Promise<void> {
    const ready = await this.ensure(apps);
    if (!ready.ok) throw new Error(ready.error.message);
    routes.update(this.state.snapshot, this.observer, apps);
  }

  /** The apps that a request to this host can be for: who claimed it, or has it by its name. */
  async #candidatesFor(host: string): Promise<readonly string[]> {
    const { ledger, domain } = this.#options;
    const entry = await ledger.get(keys.host(host));
    if (!entry.ok) throw new Error(entry.error.message);
    const claim = entry.value === null ? null : (JSON.parse(entry.value.value) as HostClaim);
    const named = appOfHost(host, domain);
    return [...(claim === null ? [] : [`${claim.project}/${claim.app}`]), ...(named ?? [])];
  }

  /** Something of it is under way or waited for, so that it must stay in the snapshot. */
  #isBusy(app: string): boolean {
    const isAwaited = this.#alarms.has(app) || this.#blocked.has(app);
    return isAwaited || this.#marked.has(app) || this.#executing.has(app);
  }

  #run(): void {
    const apps: string[] = [];
    for (const key of this.#marked) {
      if (apps.length === appsPerTurn) break;
      apps.push(key);
      this.#marked.delete(key);
    }
    if (!this.#closed) this.#turn(this.#warmOf(apps));
    this.#turning = false;
    if (this.#marked.size === 0 || this.#closed) return;
    this.#turning = true;
    this.#options.clock.after(0, () => this.#run());
  }

  /** The others are marked again when they are warm. */
  #warmOf(apps: readonly string[]): readonly string[] {
    const missing = apps.filter((key) => !this.#warmth.isWarm(key));
    if (missing.length > 0) void this.#warmUp(missing);
    return missing.length === 0 ? apps : apps.filter((key) => this.#warmth.isWarm(key));
  }

  async #warmUp(apps: readonly string[]): Promise<void> {
    const warmed = await this.#warmth.warm(apps);
    if (this.#closed) return;
    if (warmed.ok) {
      this.mark(apps);
      return;
    }
    this.#options.onProblem(warmed.error.message);
    this.#options.clock.after(ledgerRetryMs, () => this.mark(apps));
  }

  #turn(apps: readonly string[]): void {
    const { snapshot } = this.state;
    this.#routes?.update(snapshot, this.observer, apps);
    for (const key of apps) {
      this.journals.review(key, snapshot.apps.get(key) ?? null, this.observer);
    }
    const fence = this.#leadership.fence;
    if (fence === null) return;
    const free = apps.filter((key) => !this.#executing.has(key));
    const made = this.#plan(snapshot, free);
    this.#remember(made);
    for (const step of made.steps) void this.#execute(step, fence);
  }

  #plan(snapshot: Snapshot, apps: readonly string[]): Plan {
    const { clock, random, domain, releasesKept } = this.#options;
    return plan({
      snapshot,
      apps,
      observed: this.observer,
      demandOf: (app) => this.#demands.demandOf(app),
      pending: [...this.#pending.values()].flat(),
      now: clock.now(),
      ...{ domain, releasesKept },
      nextInstance: () => `i${random.token(11)}` as InstanceId,
    });
  }

  async #execute(step: Step, fence: Condition): Promise<void> {
    const guards = step.guards.map(
      ({ key, modRevision }): Condition => ({ kind: "unchanged", key, modRevision }),
    );
    this.#executing.add(step.app);
    const outcome = await this.#taking(step, async () => {
      const written = await this.#options.ledger.transact({
        conditions: [fence, ...guards],
        writes: step.writes.map(toWrite),
      });
      if (written.ok) await this.state.reached(written.value.revision);
      return written;
    });
    this.#executing.delete(step.app);
    if (outcome.ok) {
      this.mark([step.app]);
      return;
    }
    const { message } = outcome.error;
    this.#options.onProblem(`${step.app}: ${step.reasons.join("; ")}: ${message}`);
    this.#options.clock.after(ledgerRetryMs, () => this.mark([step.app]));
  }

  /** While `work` writes the step, the room it takes counts as taken. */
  async #taking<Value>(step: Step, work: () => Promise<Value>): Promise<Value> {
    if (step.placed.length === 0) return work();
    const name = step.placed[0]?.instance ?? step.app;
    this.#pending.set(name, step.placed);
    try {
      return await work();
    } finally {
      this.#pending.delete(name);
    }
  }

  #remember(made: Plan): void {
    for (const [key, at] of made.lookAgainAt) {
      if (at === null) this.#alarms.delete(key);
      else this.#alarms.set(key, at);
      this.#blocked.delete(key);
    }
    for (const { app } of made.blocked) this.#blocked.add(app);
    this.#setAlarm();
  }

  #setAlarm(): void {
    if (this.#alarms.size === 0) return;
    let at = Number.POSITIVE_INFINITY;
    for (const time of this.#alarms.values()) at = Math.min(at, time);
    if (this.#alarm !== null && this.#alarm.at <= at) return;
    this.#alarm?.timer.cancel();
    const timer = this.#options.clock.after(Math.max(0, at - this.#options.clock.now()), () =>
      this.#ring(),
    );
    this.#alarm = { at, timer };
  }

  #ring(): void {
    this.#alarm = null;
    const now = this.#options.clock.now();
    const due = [...this.#alarms].filter(([, at]) => at <= now).map(([key]) => key);
    for (const key of due) this.#alarms.delete(key);
    this.#setAlarm();
    this.mark(due);
  }

  async #ensureDefaultProject(): Promise<void> {
    const key = keys.project(defaultProject);
    const project = { name: defaultProject, createdAt: this.#options.clock.now() };
    await this.#options.ledger.transact({
      conditions: [{ kind: "absent", key }],
      writes: [{ kind: "put", key, value: JSON.stringify(project) }],
    });
  }
}

export interface FirstSteps {
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
  /** Runs the work that writes them; meanwhile the room they take counts as taken. */
  readonly taking: <Value>(work: () => Promise<Value>) => Promise<Value>;
}

function toWrite(write: PlannedWrite): Write {
  return write.kind === "put" ? { ...write, value: JSON.stringify(write.value) } : write;
}
