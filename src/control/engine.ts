import type { Clock, Random, Timer, Timestamp } from "../base/time.ts";
import type { Condition, Ledger, Write } from "../fabric/ledger.ts";
import type { Wire } from "../fabric/wire.ts";
import type { Assignment } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import { defaultProject, type InstanceId } from "../model/names.ts";
import type { Plan, PlannedWrite, Step } from "../scheduler/plan.ts";
import { plan } from "../scheduler/planner.ts";
import type { Snapshot } from "../scheduler/snapshot.ts";
import { DeploymentJournals } from "./deployments/journals.ts";
import { RoutePublisher } from "./routes/publisher.ts";
import type { SecretBox } from "./secrets.ts";
import { Demands } from "./state/demands.ts";
import { HardState, type SnapshotChange } from "./state/hard-state.ts";
import { Leadership } from "./state/leadership.ts";
import { Observer } from "./state/observer.ts";

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
  readonly replica: string;
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
 * again from what is there then.
 */
export class Engine {
  readonly state: HardState;
  readonly observer: Observer;
  readonly #demands: Demands;
  readonly journals: DeploymentJournals;
  readonly #options: EngineOptions;
  readonly #leadership: Leadership;
  readonly #marked = new Set<string>();
  /** Apps with a step on its way: planned again when it has arrived. */
  readonly #executing = new Set<string>();
  readonly #pending = new Map<string, readonly Assignment[]>();
  readonly #alarms = new Map<string, Timestamp>();
  #routes: RoutePublisher | null = null;
  #alarm: { readonly at: Timestamp; readonly timer: Timer } | null = null;
  #turning = false;
  #closed = false;

  constructor(options: EngineOptions) {
    const { ledger, wire, clock, replica } = options;
    this.#options = options;
    this.state = new HardState(ledger, clock, (change) => this.#hardStateChanged(change));
    this.observer = new Observer(
      wire,
      clock,
      (apps) => this.mark(apps),
      () => this.markAll(),
    );
    const ownerOf = (instance: InstanceId) => this.state.snapshot.owners.get(instance) ?? null;
    this.#demands = new Demands(wire, clock, ownerOf, (apps) => this.mark(apps));
    this.journals = new DeploymentJournals(wire, clock);
    this.#leadership = new Leadership(ledger, clock, replica, this.state, () =>
      this.#leadershipChanged(),
    );
  }

  async start(): ReturnType<HardState["start"]> {
    this.observer.start();
    this.#demands.start();
    const started = await this.state.start();
    if (started.ok) await this.#leadership.review();
    return started;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#alarm?.timer.cancel();
    this.#routes?.close();
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

  markAll(): void {
    this.mark([...this.state.snapshot.apps.entries()].map(([key]) => key));
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
    if (change.nodesChanged) this.markAll();
    else this.mark(change.apps);
  }

  #leadershipChanged(): void {
    this.#routes?.close();
    this.#routes = null;
    if (this.#leadership.fence === null || this.#closed) return;
    const { wire, clock, random, domain, secretBox } = this.#options;
    const epoch = random.token(12);
    const routes = new RoutePublisher(wire, clock, epoch, domain, (text) => secretBox.open(text));
    this.#routes = routes;
    routes.setCertificates(this.state.snapshot);
    void this.#ensureDefaultProject();
    void this.observer.heardAll(reportWaitMs).then(() => {
      routes.update(
        this.state.snapshot,
        this.observer,
        [...this.state.snapshot.apps.entries()].map(([key]) => key),
      );
      routes.open();
    });
    this.markAll();
  }

  #run(): void {
    const apps: string[] = [];
    for (const key of this.#marked) {
      if (apps.length === appsPerTurn) break;
      apps.push(key);
      this.#marked.delete(key);
    }
    if (!this.#closed) this.#turn(apps);
    this.#turning = false;
    if (this.#marked.size === 0 || this.#closed) return;
    this.#turning = true;
    this.#options.clock.after(0, () => this.#run());
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
    const { clock, random, domain } = this.#options;
    return plan({
      snapshot,
      apps,
      observed: this.observer,
      demandOf: (app) => this.#demands.demandOf(app),
      pending: [...this.#pending.values()].flat(),
      now: clock.now(),
      domain,
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
    }
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
