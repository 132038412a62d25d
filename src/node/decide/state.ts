import type { Timestamp } from "../../base/time.ts";
import type { Endpoint, ExitCause } from "../../model/instance.ts";
import type { WakeReply } from "../../model/wire.ts";

/** What the assignment asks for, as far as the machine goes by it. */
export interface Wanted {
  readonly keepAwake: boolean;
  /** Null: never. */
  readonly freezeMs: number | null;
  readonly idleMs: number;
  readonly drain: { readonly since: Timestamp; readonly deadline: Timestamp } | null;
}

/** Gateways were asked to send nothing more; `why` says what follows when nothing is left. */
export interface Quiesce {
  readonly why: "idle" | "sleep" | "drain";
  readonly since: Timestamp;
  /** When to ask the gateways (again); null while their answers are awaited. */
  readonly askAt: Timestamp | null;
}

export type Situation =
  | { readonly state: "preparing"; readonly step: "files" | "build" }
  | { readonly state: "starting"; readonly since: Timestamp; readonly pid: number | null }
  | {
      readonly state: "running";
      readonly pid: number;
      readonly startedAt: Timestamp;
      readonly endpoint: Endpoint | null;
      readonly quiesce: Quiesce | null;
      /** Idleness is counted from here or from the last request, whichever is later. */
      readonly idleFrom: Timestamp;
    }
  | {
      readonly state: "frozen";
      readonly since: Timestamp;
      readonly pid: number;
      readonly startedAt: Timestamp;
      readonly endpoint: Endpoint | null;
      /** Its time on the ladder goes on from here. */
      readonly idleFrom: Timestamp;
    }
  | { readonly state: "asleep"; readonly since: Timestamp }
  | { readonly state: "backing-off"; readonly until: Timestamp; readonly cause: ExitCause }
  | {
      readonly state: "stopping";
      readonly since: Timestamp;
      readonly next: "sleep" | "end" | "retry";
      /** The grace is over and it was killed. */
      readonly killed: boolean;
    }
  | { readonly state: "done"; readonly code: number }
  | {
      readonly state: "failed";
      readonly stage: "build" | "release" | "start";
      readonly reason: string;
      readonly logTail: readonly string[];
    }
  | { readonly state: "gone" };

/** Plain data: it is written to disk as it is, for the next lode to adopt. */
export interface InstanceState {
  /** Runs once (the `release` process). */
  readonly task: boolean;
  readonly takesRequests: boolean;
  /** From SIGTERM to SIGKILL. */
  readonly graceMs: number;
  readonly wanted: Wanted;
  readonly situation: Situation;
  readonly wasHealthy: boolean;
  /** Starts after a failure, over the instance's life. */
  readonly restarts: number;
  /** Failures in a row, for the back-off. */
  readonly failures: number;
  readonly lastExit: { readonly cause: ExitCause; readonly at: Timestamp } | null;
  readonly lastRequestAt: Timestamp;
  /** A request waits for this instance to run. */
  readonly wakeWanted: boolean;
  /** People's programs inside it (`lode exec`): while there is one it stays awake. */
  readonly visitors: number;
}

export type Effect =
  /** Lay out, build what is missing, launch, wait until ready. */
  | { readonly kind: "start" }
  /** Wait until the process that an earlier lode launched is ready. */
  | { readonly kind: "await" }
  /** SIGTERM to the program. */
  | { readonly kind: "terminate" }
  /** SIGKILL to all of it. */
  | { readonly kind: "kill" }
  /** No CPU for any of it, and what memory can be had back goes. */
  | { readonly kind: "freeze" }
  | { readonly kind: "thaw" }
  /** Ask every gateway to send nothing more. */
  | { readonly kind: "quiesce" }
  /** A `lode` line in the app's log. */
  | { readonly kind: "log"; readonly text: string }
  /** Answers every wake that waits. */
  | { readonly kind: "answerWake"; readonly reply: WakeReply }
  /** Everything of the instance on this node goes. */
  | { readonly kind: "discard" };

export interface Step {
  readonly state: InstanceState;
  readonly effects: readonly Effect[];
}

export function stay(state: InstanceState, ...effects: readonly Effect[]): Step {
  return { state, effects };
}

export function gone(state: InstanceState): Step {
  const reply: WakeReply = { ok: false, reason: "the instance has ended" };
  return stay(
    { ...state, situation: { state: "gone" }, wakeWanted: false },
    ...(state.wakeWanted ? [{ kind: "answerWake" as const, reply }] : []),
    { kind: "discard" },
  );
}

export function stopping(
  state: InstanceState,
  next: "sleep" | "end" | "retry",
  now: Timestamp,
): Step {
  const situation: Situation = { state: "stopping", since: now, next, killed: false };
  return stay({ ...state, situation }, { kind: "terminate" });
}
