import type { Timestamp } from "../base/time.ts";
import type { Limits } from "./limits.ts";
import type { AppName, InstanceId, NodeName, ProcessType, ProjectName } from "./names.ts";

/** Hard state: control decided that this instance exists on this node. */
export interface Assignment {
  readonly instance: InstanceId;
  readonly node: NodeName;
  readonly project: ProjectName;
  readonly app: AppName;
  readonly release: number;
  readonly process: ProcessType;
  readonly uidOffset: number;
  /** Effective limits: the release's with the app's overrides. Changed in place, live. */
  readonly limits: Limits;
  /** May sleep when idle (the node's own decision); never slept when `keepAwake`. */
  readonly keepAwake: boolean;
  /** The idle ladder: the times without a request to each rung, as in ScaleConfig. */
  readonly freezeMs: number | null;
  readonly idleMs: number;
  /** Set when a newer release serves: takes no new requests and ends when drained. */
  readonly drain: { readonly since: Timestamp; readonly deadline: Timestamp } | null;
  readonly createdAt: Timestamp;
}

/** Why a process ended. */
export type ExitCause =
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "signal"; readonly signal: string }
  | { readonly kind: "out-of-memory"; readonly limitBytes: number | null }
  /** Lode could not start it, or it never became healthy. */
  | { readonly kind: "launch"; readonly reason: string }
  | { readonly kind: "unhealthy"; readonly reason: string }
  /** It ended while no lode was there to see how. */
  | { readonly kind: "unknown" };

/** Where the gateway reaches an instance. */
export type UnixEndpoint = { readonly kind: "unix"; readonly path: string };
export type Endpoint =
  | UnixEndpoint
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/**
 *   preparing → starting → running ⇄ frozen, asleep; frozen → asleep
 *       │          │          │
 *       └──────────┴──────────┴→ backing-off → starting …
 *                  └→ failed (never was healthy and ran out of attempts, or cannot be built)
 *   any → stopping → gone (a report no longer names it); a `release` task ends in `done`.
 *
 * The idle ladder: `frozen` keeps its process, which gets no CPU; `asleep` has none.
 */
export type InstancePhase =
  /** Files are laid out, layers built. */
  | { readonly state: "preparing"; readonly step: "files" | "build" }
  | { readonly state: "starting"; readonly pid: number | null }
  | {
      readonly state: "running";
      /** The app's first process, as the host sees it. */
      readonly pid: number;
      readonly startedAt: Timestamp;
      /** Null: takes no requests (a worker). */
      readonly endpoint: Endpoint | null;
    }
  | {
      readonly state: "frozen";
      readonly since: Timestamp;
      readonly pid: number;
      /** Where it will be again once it is thawed; connections to it wait until then. */
      readonly endpoint: Endpoint | null;
    }
  | { readonly state: "asleep"; readonly since: Timestamp }
  | { readonly state: "backing-off"; readonly until: Timestamp; readonly cause: ExitCause }
  | { readonly state: "stopping"; readonly since: Timestamp }
  | { readonly state: "done"; readonly code: number }
  | {
      readonly state: "failed";
      readonly stage: "build" | "release" | "start";
      readonly reason: string;
      readonly logTail: readonly string[];
    };

/** Soft state: what the node's agent sees. */
export interface InstanceStatus {
  readonly instance: InstanceId;
  readonly project: ProjectName;
  readonly app: AppName;
  readonly release: number;
  readonly process: ProcessType;
  readonly phase: InstancePhase;
  /** Has been healthy at least once, in this or an earlier process. */
  readonly wasHealthy: boolean;
  readonly restarts: number;
  readonly lastExit: { readonly cause: ExitCause; readonly at: Timestamp } | null;
  readonly usage: InstanceUsage | null;
}

export interface InstanceUsage {
  /** Cores in use over the last sampling period. */
  readonly cpuCores: number;
  /** CPU time since the process started, in microseconds. */
  readonly cpuTimeUs: number;
  readonly memoryBytes: number;
  readonly oomKills: number;
  /** As batch work beside apps that are asked: it runs on some of the cores only, or less. */
  readonly confined: boolean;
  /** Core-seconds and byte-seconds that it may still burst with; null: no burst is set. */
  readonly cpuCredit: CreditLeft | null;
  readonly memoryCredit: CreditLeft | null;
}

/** A bucket of burst credit: full it lasts for 60 s at the whole of `burst`. */
export interface CreditLeft {
  readonly left: number;
  readonly capacity: number;
}

/** What a node offers. */
export interface NodeCapacity {
  readonly cores: number;
  readonly memoryBytes: number;
}

/** Hard state: a machine of the pool. */
export interface PoolNode {
  readonly name: NodeName;
  readonly capacity: NodeCapacity;
  readonly joinedAt: Timestamp;
}
