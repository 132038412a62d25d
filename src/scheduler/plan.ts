import type { Timestamp } from "../base/time.ts";
import type { App } from "../model/app.ts";
import type { Assignment } from "../model/instance.ts";
import type { InstanceId } from "../model/names.ts";
import type { Deployment } from "../model/release.ts";
import type { Demand } from "./demand.ts";
import type { Observed } from "./observed.ts";
import type { Snapshot } from "./snapshot.ts";

/** The record must still be as the plan saw it. */
export interface Guard {
  readonly key: string;
  readonly modRevision: number;
}

/** The records that planning writes; each is stored as JSON. */
export type PlannedRecord = App | Assignment | Deployment;

export type PlannedWrite =
  | { readonly kind: "put"; readonly key: string; readonly value: PlannedRecord }
  | { readonly kind: "delete"; readonly key: string }
  | { readonly kind: "deletePrefix"; readonly prefix: string };

/** All that happens to one app now: one transaction. */
export interface Step {
  readonly app: string;
  /** What it does and why, in sentences. */
  readonly reasons: readonly string[];
  readonly guards: readonly Guard[];
  readonly writes: readonly PlannedWrite[];
  /** Assignments that it makes: they take room before the snapshot shows them. */
  readonly placed: readonly Assignment[];
}

/** What cannot go on yet, and what it waits for. */
export interface Blocked {
  readonly app: string;
  readonly reason: string;
}

export interface Plan {
  readonly steps: readonly Step[];
  readonly blocked: readonly Blocked[];
  /** When an app must be looked at again though nothing happens; for every app planned. */
  readonly lookAgainAt: ReadonlyMap<string, Timestamp | null>;
}

export interface PlanInput {
  readonly snapshot: Snapshot;
  /** The apps to plan: those that changed, or all. */
  readonly apps: Iterable<string>;
  readonly observed: Observed;
  readonly demandOf: (app: string) => Demand;
  /** Placed by steps on their way into the ledger. */
  readonly pending: Iterable<Assignment>;
  readonly now: Timestamp;
  /** Apps answer on `<app>.<domain>`. */
  readonly domain: string;
  /** Releases kept of each app to roll back to, besides those that are needed. */
  readonly releasesKept: number;
  readonly nextInstance: () => InstanceId;
}
