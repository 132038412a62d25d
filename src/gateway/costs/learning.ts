import type { Json } from "../../base/json.ts";
import type { Clock, Timestamp } from "../../base/time.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import {
  type AppCosts,
  type CostsMessage,
  type GatewayFinished,
  type NodeCpu,
  subjects,
} from "../../model/wire.ts";
import { AppLearner } from "../balance/app-costs.ts";
import { type AppWindow, CostWindows } from "../balance/windows.ts";

/** Nobody was heard to learn for so long: the gateway in row 0 begins, later rows later. */
const vacantMs = 3000;
const vacantMsPerRow = 1000;

/** What the learning needs of its gateway. */
export interface Counts {
  /** Ends the present counts of the sample's instances and gives them. */
  cut(cpu: NodeCpu): GatewayFinished["instances"];
  applyCosts(costs: AppCosts): void;
  /** Of the app, as routed here; null: there is none. */
  releaseOf(app: string): number | null;
  /** The app is gone, or of another release: what was learned of it is void. */
  onCostsVoid: (app: string) => void;
  /** What was applied last, of every app known here. */
  readonly costs: ReadonlyMap<string, AppCosts>;
}

/**
 * A gateway's part in learning what requests cost. All count; one learns for all, so that all
 * reckon with the same numbers:
 *
 *   following ─(no learner heard for a while, longer for later rows)→ learning
 *       ↑                                                               │
 *       └───────────────(heard one of an earlier row)───────────────────┘
 *
 * Who begins to learn goes on from what was published last. Without a learner, or without an
 * agent that reads CPU, the last costs stay in use, until another release serves.
 */
export class CostLearning {
  private readonly wire: Wire;
  private readonly clock: Clock;
  private readonly id: string;
  private readonly row: number;
  private readonly counts: Counts;
  private readonly subscriptions: Subscription[];
  private learner: Learner | null = null;
  /** When a learner was heard, or had no reason to speak. */
  private heardAt: Timestamp;
  private sampledAt: Timestamp = 0;

  constructor(wire: Wire, clock: Clock, id: string, row: number, counts: Counts) {
    this.wire = wire;
    this.clock = clock;
    this.id = id;
    this.row = row;
    this.counts = counts;
    this.heardAt = clock.now();
    counts.onCostsVoid = (app) => {
      this.learner?.apps.delete(app);
      this.learner?.changed.delete(app);
    };
    this.subscriptions = [
      wire.subscribe(subjects.nodeCpu("*"), ({ payload }) => {
        this.sampled(payload as unknown as NodeCpu);
      }),
      wire.subscribe(subjects.costs, ({ payload }) => {
        this.heard(payload as unknown as CostsMessage);
      }),
      wire.subscribe(subjects.costsWanted, () => this.tellAll()),
      wire.onConnection((connected) => {
        if (!connected) return;
        // Who came back may have missed what others said, and they what it said.
        wire.publish(subjects.costsWanted, null);
        this.tellAll();
      }),
    ];
  }

  close(): void {
    this.learner?.subscription.cancel();
    for (const subscription of this.subscriptions) subscription.cancel();
  }

  private sampled(cpu: NodeCpu): void {
    const now = this.clock.now();
    // A learner only speaks of samples; the silence before the first is no sign.
    if (now - this.sampledAt > vacantMs) this.heardAt = Math.max(this.heardAt, now);
    this.sampledAt = now;
    const vacant = now - this.heardAt > vacantMs + this.row * vacantMsPerRow;
    if (this.learner === null && vacant) this.beginToLearn();
    for (const window of this.learner?.windows.sampled(cpu) ?? []) this.observe(window);
    this.tell();
    const { node, epoch, sequence } = cpu;
    const instances = this.counts.cut(cpu);
    const finished: GatewayFinished = { gateway: this.id, node, epoch, sequence, instances };
    this.wire.publish(subjects.gatewayFinished(this.id), finished as unknown as Json);
  }

  private beginToLearn(): void {
    const windows = new CostWindows();
    const subscription = this.wire.subscribe(subjects.gatewayFinished("*"), ({ payload }) => {
      windows.counted(payload as unknown as GatewayFinished);
    });
    this.learner = { windows, subscription, apps: new Map(), changed: new Set() };
  }

  private observe(window: AppWindow): void {
    const { learner } = this;
    if (learner === null) return;
    // The last of a release that was served until just now.
    if (window.release !== this.counts.releaseOf(window.app)) return;
    let app = learner.apps.get(window.app);
    if (app === undefined) {
      app = new AppLearner();
      const known = this.counts.costs.get(window.app);
      if (known !== undefined) app.restore(known);
      learner.apps.set(window.app, app);
      // The app that was learned of least lately goes.
      if (learner.apps.size > appsMax) {
        learner.apps.delete(learner.apps.keys().next().value as string);
      }
    }
    app.observe(window);
    learner.changed.add(window.app);
  }

  /** Publishes what changed; without a change, that somebody learns. */
  private tell(): void {
    if (this.learner === null) return;
    const { changed, apps } = this.learner;
    if (changed.size === 0) {
      const alive: CostsMessage = { app: null, row: this.row };
      this.wire.publish(subjects.costs, alive);
    }
    for (const key of changed) {
      const learned = apps.get(key)?.estimate();
      if (learned === undefined) continue;
      const release = this.counts.releaseOf(key);
      const by = { app: key, release, gateway: this.id, row: this.row, at: this.clock.now() };
      const costs: AppCosts = { ...by, ...learned };
      this.counts.applyCosts(costs);
      this.wire.publish(subjects.costs, costs as unknown as Json);
    }
    changed.clear();
  }

  private tellAll(): void {
    if (this.learner === null) return;
    for (const key of this.learner.apps.keys()) this.learner.changed.add(key);
    this.tell();
  }

  private heard(costs: CostsMessage): void {
    if (costs.row === this.row) return;
    this.heardAt = this.clock.now();
    if (this.learner !== null && costs.row < this.row) {
      this.learner.subscription.cancel();
      this.learner = null;
    }
    if (this.learner === null && costs.app !== null) this.counts.applyCosts(costs);
  }
}

const appsMax = 10_000;

interface Learner {
  readonly windows: CostWindows;
  readonly subscription: Subscription;
  readonly apps: Map<string, AppLearner>;
  readonly changed: Set<string>;
}
