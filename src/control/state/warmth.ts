import { ok, type Result } from "../../base/result.ts";
import type { Clock, Timer, Timestamp } from "../../base/time.ts";
import type { LedgerError } from "../../fabric/ledger.ts";
import type { InstanceId, NodeName } from "../../model/names.ts";
import type { AppState } from "../../scheduler/snapshot.ts";
import type { HardState } from "./hard-state.ts";
import type { Observer } from "./observer.ts";

const reviewMs = 10_000;
/** Apps read at one time; between two lots others get their turn. */
const lotSize = 25;
/** Longer than an operation holds on to what it has looked up. */
const unusedMs = 30_000;

/**
 * Which apps are in the snapshot, with what their nodes say of them:
 *
 *   cold → reading (records, then the instances' statuses) → warm → cold
 *                 └ when it sleeps, is as it is wanted, and nobody has looked at it for a while
 */
export class Warmth {
  readonly #state: HardState;
  readonly #observer: Observer;
  readonly #clock: Clock;
  readonly #isBusy: (app: string) => boolean;
  readonly #evicted: (apps: readonly string[]) => void;
  /** Warm apps → when last looked at. */
  readonly #usedAt = new Map<string, Timestamp>();
  /** In the snapshot, but some of their instances are not known. */
  readonly #unlearned = new Set<string>();
  /** Cold before, and only glanced at so far. */
  readonly #glanced = new Set<string>();
  #timer: Timer | null = null;

  /** `isBusy`: it must stay in the snapshot. `evicted` is told of those that left it. */
  constructor(
    state: HardState,
    observer: Observer,
    clock: Clock,
    engine: {
      readonly isBusy: (app: string) => boolean;
      readonly evicted: (apps: readonly string[]) => void;
    },
  ) {
    this.#state = state;
    this.#observer = observer;
    this.#clock = clock;
    this.#isBusy = engine.isBusy;
    this.#evicted = engine.evicted;
  }

  start(): void {
    this.#timer = this.#clock.every(reviewMs, () => this.#review());
  }

  close(): void {
    this.#timer?.cancel();
  }

  /** Also an app that does not exist is warm: nothing is to be read of it. */
  isWarm(app: string): boolean {
    if (!this.#isReady(app)) return false;
    this.#touch(app);
    return true;
  }

  /** They are warm when it resolves, and stay so for a while. */
  async warm(apps: readonly string[]): Promise<Result<void, LedgerError>> {
    const prepared = await this.#prepare(apps);
    if (prepared.ok) for (const app of apps) this.#touch(app);
    return prepared;
  }

  /** What `look` sees of them; those that were cold, and nobody else wants, are so again. */
  async glance<Value>(
    apps: readonly string[],
    look: () => Value,
  ): Promise<Result<Value, LedgerError>> {
    const cold = apps.filter((app) => this.#state.isCold(app));
    for (const app of cold) this.#glanced.add(app);
    const prepared = await this.#prepare(apps);
    const value = prepared.ok ? ok(look()) : prepared;
    const unwanted = cold.filter((app) => this.#glanced.delete(app));
    for (const app of unwanted) this.#touch(app);
    this.#evict(unwanted.filter((app) => this.#mayGo(app)));
    return value;
  }

  /** A node has reported: it can be asked for what it did not name. */
  heard(node: NodeName): void {
    for (const [app, state] of this.#state.snapshot.apps.entries()) {
      const isUnknown = state.assignments.some(
        ({ value }) => value.node === node && !this.#observer.knows(node, value.instance),
      );
      if (isUnknown) this.#unlearned.add(app);
    }
  }

  #isReady(app: string): boolean {
    return !this.#state.isCold(app) && !this.#unlearned.has(app);
  }

  #touch(app: string): void {
    this.#glanced.delete(app);
    if (this.#state.snapshot.apps.get(app) !== undefined) {
      this.#usedAt.set(app, this.#clock.now());
    }
  }

  /** Again for those that left meanwhile, because others had only glanced at them. */
  async #prepare(apps: readonly string[]): Promise<Result<void, LedgerError>> {
    for (;;) {
      const missing = apps.filter((app) => !this.#isReady(app));
      if (missing.length === 0 || this.#state.isClosed) return ok(undefined);
      const lot = missing.slice(0, lotSize);
      for (const app of lot) if (this.#state.isCold(app)) this.#unlearned.add(app);
      const loaded = await this.#state.load(lot);
      if (!loaded.ok) return loaded;
      await this.#learn(lot);
      if (missing.length === lot.length) continue;
      await new Promise<void>((resolve) => this.#clock.after(0, resolve));
    }
  }

  async #learn(apps: readonly string[]): Promise<void> {
    const byNode = new Map<NodeName, InstanceId[]>();
    for (const app of apps) {
      for (const { value } of this.#state.snapshot.apps.get(app)?.assignments ?? []) {
        const { node, instance } = value;
        if (this.#observer.knows(node, instance)) continue;
        const ofNode = byNode.get(node) ?? [];
        ofNode.push(instance);
        byNode.set(node, ofNode);
      }
    }
    await Promise.all([...byNode].map(([node, ids]) => this.#observer.learn(node, ids)));
    for (const app of apps) this.#unlearned.delete(app);
  }

  #review(): void {
    const unusedSince = this.#clock.now() - unusedMs;
    const gone: string[] = [];
    for (const [app, usedAt] of this.#usedAt) {
      if (usedAt > unusedSince) continue;
      if (this.#state.snapshot.apps.get(app) === undefined) this.#usedAt.delete(app);
      else if (this.#mayGo(app)) gone.push(app);
    }
    this.#evict(gone);
  }

  #mayGo(app: string): boolean {
    const state = this.#state.snapshot.apps.get(app);
    return state !== undefined && !this.#isBusy(app) && isSettled(state, this.#observer);
  }

  #evict(apps: readonly string[]): void {
    if (apps.length === 0) return;
    this.#state.evict(apps);
    for (const app of apps) {
      this.#usedAt.delete(app);
      this.#observer.forget(app);
    }
    this.#evicted(apps);
  }
}

/** It is as it is wanted, and all of it sleeps: nothing happens to it by itself. */
function isSettled({ key, app, deployments, assignments }: AppState, observer: Observer): boolean {
  if (app === null || app.value.removing || app.value.target !== app.value.serving) return false;
  if (deployments.some(({ value }) => value.state === "starting")) return false;
  const seen = observer.instancesOf(key);
  if (seen.size !== assignments.length) return false;
  return assignments.every(({ value }) => {
    const state = seen.get(value.instance)?.status.phase.state;
    return value.drain === null && state === "asleep";
  });
}
