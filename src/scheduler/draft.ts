import type { Timestamp } from "../base/time.ts";
import type { App } from "../model/app.ts";
import type { Assignment } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import type { ProcessType } from "../model/names.ts";
import type { Deployment } from "../model/release.ts";
import type { Blocked, PlannedRecord, PlannedWrite, Step } from "./plan.ts";
import type { AppState, Stored } from "./snapshot.ts";

/** A ledger takes 128 writes at once; some are left to who records a release with its step. */
export const writesMax = 96;

/**
 * What one app will look like after its step. Rules read it and change it one after the other,
 * so that a later rule sees what an earlier one decided; `step` is the difference to before.
 */
export class Draft {
  readonly before: AppState;
  readonly record: Stored<App>;
  app: App;
  /** A rule wants to look again at this time though nothing happens until then. */
  lookAgainAt: Timestamp | null = null;
  readonly #assignments: Map<string, Assignment>;
  /** Of #assignments, oldest first; null: to be sorted when somebody asks. */
  #sorted: readonly Assignment[] | null = null;
  readonly #deployments = new Map<number, Deployment>();
  readonly #writes = new Map<string, PlannedWrite>();
  readonly #reasons: string[] = [];
  readonly #blocked: string[] = [];
  readonly #placed = new Map<string, Assignment>();

  constructor(before: AppState, record: Stored<App>) {
    this.before = before;
    this.record = record;
    this.app = record.value;
    this.#assignments = new Map(before.assignments.map(({ value }) => [value.instance, value]));
  }

  /** Oldest first. */
  assignments(wanted?: {
    readonly release?: number;
    readonly process?: ProcessType;
    readonly draining?: boolean;
  }): readonly Assignment[] {
    this.#sorted ??= [...this.#assignments.values()].sort(byAge);
    if (wanted === undefined) return this.#sorted;
    const { release, process, draining } = wanted;
    return this.#sorted.filter(
      (assignment) =>
        (release === undefined || assignment.release === release) &&
        (process === undefined || assignment.process === process) &&
        (draining === undefined || (assignment.drain !== null) === draining),
    );
  }

  deployments(): readonly Deployment[] {
    return this.before.deployments.map(({ value }) => this.#deployments.get(value.number) ?? value);
  }

  deployment(number: number): Deployment | null {
    return this.deployments().find((deployment) => deployment.number === number) ?? null;
  }

  /** No more fits into this step: rules stop, and go on in the next. */
  get isFull(): boolean {
    return this.#writes.size >= writesMax;
  }

  because(reason: string): void {
    this.#reasons.push(reason);
  }

  block(reason: string): void {
    this.#blocked.push(reason);
  }

  /** What was waited for is decided. */
  unblock(): void {
    this.#blocked.length = 0;
  }

  wakeAt(time: Timestamp): void {
    this.lookAgainAt = this.lookAgainAt === null ? time : Math.min(time, this.lookAgainAt);
  }

  place(assignment: Assignment): void {
    this.#placed.set(assignment.instance, assignment);
    this.put(assignment);
  }

  put(assignment: Assignment): void {
    this.#sorted = null;
    this.#assignments.set(assignment.instance, assignment);
    this.#put(keys.assignment(assignment.node, assignment.instance), assignment);
  }

  remove(assignment: Assignment): void {
    this.#sorted = null;
    this.#assignments.delete(assignment.instance);
    this.#placed.delete(assignment.instance);
    const key = keys.assignment(assignment.node, assignment.instance);
    const wasThere = this.before.assignments.some(
      ({ value }) => value.instance === assignment.instance,
    );
    if (wasThere) this.#writes.set(key, { kind: "delete", key });
    else this.#writes.delete(key);
  }

  putDeployment(deployment: Deployment): void {
    const { project, app, number } = deployment;
    this.#deployments.set(number, deployment);
    this.#put(keys.deployment(project, app, number), deployment);
  }

  putApp(app: App): void {
    this.app = app;
    this.#put(keys.app(app.project, app.name), app);
  }

  releaseHost(host: string): void {
    const key = keys.host(host);
    this.#writes.set(key, { kind: "delete", key });
  }

  /** The release's records go. */
  retire(number: number): void {
    const { project, name } = this.app;
    for (const key of [keys.release(project, name, number), keys.deployment(project, name, number)])
      this.#writes.set(key, { kind: "delete", key });
  }

  /** The app's records go. */
  forget(): void {
    const { project, name } = this.app;
    for (const prefix of [keys.releasesOf(project, name), keys.deploymentsOf(project, name)]) {
      this.#writes.set(prefix, { kind: "deletePrefix", prefix });
    }
    const key = keys.app(project, name);
    this.#writes.set(key, { kind: "delete", key });
  }

  blocked(): readonly Blocked[] {
    return this.#blocked.map((reason) => ({ app: this.before.key, reason }));
  }

  /** Null when nothing is to be done. */
  step(): Step | null {
    if (this.#writes.size === 0) return null;
    const { project, name } = this.app;
    return {
      app: this.before.key,
      reasons: this.#reasons,
      guards: [{ key: keys.app(project, name), modRevision: this.record.modRevision }],
      writes: [...this.#writes.values()],
      placed: [...this.#placed.values()],
    };
  }

  #put(key: string, value: PlannedRecord): void {
    this.#writes.set(key, { kind: "put", key, value });
  }
}

function byAge(one: Assignment, other: Assignment): number {
  if (one.createdAt !== other.createdAt) return one.createdAt - other.createdAt;
  return one.instance < other.instance ? -1 : 1;
}
