import { unreachable } from "../../base/assert.ts";
import type { Timestamp } from "../../base/time.ts";
import { formatDurationMs } from "../../base/units.ts";
import { describeCause } from "../../model/exit-cause.ts";
import type { Endpoint, ExitCause } from "../../model/instance.ts";
import type { WakeReply } from "../../model/wire.ts";
import { attemptsMax, restartDelayMs, stableAfterMs } from "./backoff.ts";
import {
  onDrain,
  onQuiesced,
  onRequested,
  onSleep,
  onTick,
  onVisit,
  resumeQuiesce,
  thaw,
  wakeQuiesce,
} from "./idle.ts";
import {
  gone,
  type InstanceState,
  type Situation,
  type Step,
  stay,
  stopping,
  type Wanted,
} from "./state.ts";

// The life of one instance on its node. Everything that happens to it is an input, everything
// to be done an effect; the driver (`instance.ts`) feeds one queue and carries out effects, so
// no two events ever race.
//
//              start            launching             ready
//   (assigned) ────→ preparing ──────────→ starting ─────────→ running ⇄ (quiescing)
//                        │                 ↑   │                  │           │ nothing in flight
//                        │ startFailed     │   │ exited,          │ exited    ↓
//                        ↓           tick  │   ↓ unhealthy        ↓       stopping(sleep)
//                     failed ←──── backing-off ←──────────────────┘           │ exited
//                        (3 attempts, never healthy)                          ↓
//                                          ↑                wake           asleep
//                                          └──────────────────────────────────┘
//   running (quiescing) → frozen → running (wake, a visit) or stopping(sleep): see idle.ts.
//   asked to sleep: preparing, starting → stopping(sleep); backing-off → asleep.
//   removed or drained: preparing, backing-off, asleep, failed, done → gone;
//                       starting, running, frozen → stopping(end) → gone.
//   A task (the `release` process) goes from running to done or failed, and never restarts.
//
// Two facts carry the design. Stopping is a state of its own, so a wake that arrives while the
// process ends waits for that end and then starts again, and never meets a dying process. And
// quiescing is undone by any wake: a gateway that was told to send nothing asks first.

export type Input =
  | { readonly kind: "start" }
  | { readonly kind: "assigned"; readonly wanted: Wanted }
  | { readonly kind: "removed" }
  | { readonly kind: "preparing"; readonly step: "files" | "build" }
  | { readonly kind: "launching" }
  | { readonly kind: "launched"; readonly pid: number | null }
  | { readonly kind: "ready"; readonly endpoint: Endpoint | null; readonly pid: number }
  | {
      readonly kind: "startFailed";
      readonly stage: "build" | "start";
      readonly reason: string;
      readonly logTail: readonly string[];
      /** In [0, 1). */
      readonly jitter: number;
    }
  | { readonly kind: "unhealthy"; readonly reason: string }
  | {
      readonly kind: "exited";
      readonly cause: ExitCause;
      readonly logTail: readonly string[];
      readonly jitter: number;
    }
  | { readonly kind: "wake" }
  | { readonly kind: "sleep" }
  | { readonly kind: "requested"; readonly at: Timestamp }
  /** A person's program begins (1) or ends (-1) inside it. */
  | { readonly kind: "visit"; readonly difference: 1 | -1 }
  | {
      readonly kind: "quiesced";
      readonly inFlight: number;
      readonly lastRequestAt: Timestamp | null;
      /** Every gateway has answered. */
      readonly complete: boolean;
    }
  | { readonly kind: "tick" };

/** A wake does not wait for a restart that is further away than this. */
const wakePatienceMs = 5000;

export function initialState(
  wanted: Wanted,
  kind: { readonly task: boolean; readonly takesRequests: boolean; readonly graceMs: number },
): InstanceState {
  return {
    ...kind,
    wanted,
    situation: { state: "preparing", step: "files" },
    wasHealthy: false,
    restarts: 0,
    failures: 0,
    lastExit: null,
    lastRequestAt: 0,
    wakeWanted: false,
    visitors: 0,
  };
}

export function step(state: InstanceState, input: Input, now: Timestamp): Step {
  switch (input.kind) {
    case "start":
      return onStart(state);
    case "assigned":
      return onAssigned(state, input.wanted, now);
    case "removed":
      return end(state, now);
    case "preparing":
    case "launching":
    case "launched":
      return onProgress(state, input, now);
    case "ready":
      return onReady(state, input, now);
    case "startFailed":
      return onStartFailed(state, input, now);
    case "unhealthy":
      return onUnhealthy(state, input.reason, now);
    case "exited":
      return onExited(state, input, now);
    case "wake":
      return onWake(state, now);
    case "sleep":
      return onSleep(state, now);
    case "requested":
      return onRequested(state, input.at, now);
    case "visit":
      return onVisit(state, input.difference, now);
    case "quiesced":
      return onQuiesced(state, input, now);
    case "tick":
      return state.situation.state === "backing-off" && now >= state.situation.until
        ? restart(state, now)
        : onTick(state, now);
    default:
      return unreachable(input);
  }
}

/**
 * The state that an earlier lode left, taken up again. After `ended` an `exited` follows;
 * `never`: lode died before it had launched a process.
 */
export function resume(
  state: InstanceState,
  process: "alive" | "ended" | "never",
  now: Timestamp,
): Step {
  const { situation } = state;
  const next = { ...state, wakeWanted: false, visitors: 0 };
  switch (situation.state) {
    case "preparing":
      return stay(next, { kind: "start" });
    case "starting":
      if (process === "alive") return stay(next, { kind: "await" });
      // Lode died while it launched: nothing failed, so it costs no attempt.
      return process === "never" ? stay(next, { kind: "start" }) : stay(next);
    case "running": {
      const quiesce = resumeQuiesce(situation.quiesce, now);
      // That lode may have died between the decision to thaw it and the deed.
      return stay({ ...next, situation: { ...situation, quiesce } }, { kind: "thaw" });
    }
    case "frozen":
      return process === "alive" ? stay(next, { kind: "freeze" }) : stay(next);
    case "stopping":
      return process === "alive" ? stay(next, { kind: "terminate" }) : stay(next);
    default:
      return stay(next);
  }
}

function onStart(state: InstanceState): Step {
  if (state.situation.state !== "preparing") return stay(state);
  if (state.wanted.drain !== null) return gone(state);
  return stay(state, { kind: "start" });
}

function onAssigned(before: InstanceState, wanted: Wanted, now: Timestamp): Step {
  const state = { ...before, wanted };
  const { situation } = state;
  if (wanted.drain !== null) {
    if (before.wanted.drain !== null) return stay(state);
    return onDrain(state, now) ?? end(state, now);
  }
  if (situation.state === "asleep" && wanted.keepAwake && !before.wanted.keepAwake) {
    return relaunch(state, now);
  }
  if (situation.state === "frozen" && wanted.keepAwake) return thaw(state, situation, now);
  return stay(state);
}

/** Towards `gone`, from anywhere. */
function end(state: InstanceState, now: Timestamp): Step {
  const { situation } = state;
  switch (situation.state) {
    case "starting":
    case "running":
    case "frozen":
      return stopping(state, "end", now);
    case "stopping":
      return stay({ ...state, situation: { ...situation, next: "end" } });
    case "gone":
      return stay(state);
    default:
      return gone(state);
  }
}

type Progress = Extract<Input, { kind: "preparing" | "launching" | "launched" }>;

function onProgress(state: InstanceState, input: Progress, now: Timestamp): Step {
  const { situation } = state;
  if (situation.state === "stopping") {
    // The launch was under way when the end came: there is a process to end only now.
    return input.kind === "launched" ? stay(state, { kind: "terminate" }) : stay(state);
  }
  if (situation.state !== "preparing" && situation.state !== "starting") return stay(state);
  if (input.kind === "preparing") {
    return stay({ ...state, situation: { state: "preparing", step: input.step } });
  }
  if (input.kind === "launched") {
    const since = situation.state === "starting" ? situation.since : now;
    return stay({ ...state, situation: { state: "starting", since, pid: input.pid } });
  }
  return stay({ ...state, situation: { state: "starting", since: now, pid: null } });
}

function onReady(
  state: InstanceState,
  input: Extract<Input, { kind: "ready" }>,
  now: Timestamp,
): Step {
  if (state.situation.state !== "starting") return stay(state);
  const startedAt = state.situation.since;
  const situation: Situation = {
    state: "running",
    pid: input.pid,
    startedAt,
    endpoint: input.endpoint,
    quiesce: null,
    idleFrom: now,
  };
  const next = { ...state, situation, wasHealthy: true, wakeWanted: false };
  const text = state.task
    ? "started"
    : `running, ready after ${formatDurationMs(now - startedAt)} (pid ${input.pid})`;
  const reply: WakeReply =
    input.endpoint === null
      ? { ok: false, reason: "this process takes no requests" }
      : { ok: true, endpoint: input.endpoint };
  return stay(next, ...(state.wakeWanted ? [{ kind: "answerWake" as const, reply }] : []), {
    kind: "log",
    text,
  });
}

function onStartFailed(
  state: InstanceState,
  input: Extract<Input, { kind: "startFailed" }>,
  now: Timestamp,
): Step {
  const { situation } = state;
  if (situation.state === "stopping") return afterStop(state, situation.next, input, now);
  if (situation.state !== "preparing" && situation.state !== "starting") return stay(state);
  if (input.stage === "build" && !state.wasHealthy) {
    return failed(state, "build", input.reason, input.logTail);
  }
  return failure(state, { kind: "launch", reason: input.reason }, input, now);
}

function onUnhealthy(state: InstanceState, reason: string, now: Timestamp): Step {
  if (state.situation.state !== "starting") return stay(state);
  const lastExit = { cause: { kind: "unhealthy" as const, reason }, at: now };
  return stopping({ ...state, lastExit }, "retry", now);
}

type Ended = { readonly logTail: readonly string[]; readonly jitter: number };

function onExited(
  state: InstanceState,
  input: Extract<Input, { kind: "exited" }>,
  now: Timestamp,
): Step {
  const { situation } = state;
  switch (situation.state) {
    case "stopping":
      return afterStop(state, situation.next, input, now);
    case "starting":
    case "running":
      if (state.task) return taskEnded(state, input, now);
      return failure(state, input.cause, input, now);
    case "frozen":
      return endedFrozen(state, input.cause, now);
    default:
      return stay(state);
  }
}

/** Nobody needs it now: the next request starts it, as it would one that sleeps. */
function endedFrozen(state: InstanceState, cause: ExitCause, now: Timestamp): Step {
  const situation: Situation = { state: "asleep", since: now };
  return stay(
    { ...state, situation, lastExit: { cause, at: now } },
    { kind: "log", text: `ended while frozen: ${describeCause(cause)}` },
  );
}

function taskEnded(
  state: InstanceState,
  input: Extract<Input, { kind: "exited" }>,
  now: Timestamp,
): Step {
  const lastExit = { cause: input.cause, at: now };
  if (input.cause.kind === "exit" && input.cause.code === 0) {
    const situation: Situation = { state: "done", code: 0 };
    return stay({ ...state, situation, lastExit }, { kind: "log", text: "ended with exit code 0" });
  }
  const reason = `the release process ended with ${describeCause(input.cause)}`;
  return failed({ ...state, lastExit }, "release", reason, input.logTail);
}

function afterStop(
  state: InstanceState,
  next: "sleep" | "end" | "retry",
  ended: Ended,
  now: Timestamp,
): Step {
  switch (next) {
    case "end":
      return gone(state);
    case "retry":
      return failure(state, state.lastExit?.cause ?? { kind: "unknown" }, ended, now);
    case "sleep":
      if (state.wakeWanted) return relaunch(state, now);
      return stay({ ...state, situation: { state: "asleep", since: now } });
    default:
      return unreachable(next);
  }
}

/** It ended by itself or never came up: back off, or give up. */
function failure(state: InstanceState, cause: ExitCause, ended: Ended, now: Timestamp): Step {
  const { situation } = state;
  const wasStable = situation.state === "running" && now - situation.startedAt >= stableAfterMs;
  const failures = wasStable ? 1 : state.failures + 1;
  const next = { ...state, failures, lastExit: { cause, at: now } };
  if (state.wanted.drain !== null) return gone(next);
  if (!state.wasHealthy && failures >= attemptsMax) {
    const reason = `${describeCause(cause)}, ${failures} times in a row`;
    return failed(next, "start", reason, ended.logTail);
  }
  const delayMs = restartDelayMs(failures, ended.jitter);
  const until = now + delayMs;
  const text = `ended: ${describeCause(cause)}; starts again in ${formatDurationMs(delayMs)}`;
  const backingOff: Situation = { state: "backing-off", until, cause };
  const giveUp = state.wakeWanted && delayMs > wakePatienceMs;
  const reply = { ok: false as const, reason: describeBackOff(cause, delayMs) };
  return stay(
    { ...next, situation: backingOff, wakeWanted: state.wakeWanted && !giveUp },
    { kind: "log", text },
    ...(giveUp ? [{ kind: "answerWake" as const, reply }] : []),
  );
}

function describeBackOff(cause: ExitCause, waitMs: number): string {
  const wait = formatDurationMs(waitMs);
  return `the app keeps failing (${describeCause(cause)}); next start in ${wait}`;
}

function failed(
  state: InstanceState,
  stage: "build" | "release" | "start",
  reason: string,
  logTail: readonly string[],
): Step {
  const situation: Situation = { state: "failed", stage, reason, logTail };
  return stay(
    { ...state, situation, wakeWanted: false },
    { kind: "log", text: `failed: ${reason}` },
    ...(state.wakeWanted
      ? [{ kind: "answerWake" as const, reply: { ok: false as const, reason } }]
      : []),
  );
}

function restart(state: InstanceState, now: Timestamp): Step {
  return relaunch({ ...state, restarts: state.restarts + 1 }, now);
}

function relaunch(state: InstanceState, now: Timestamp): Step {
  const situation: Situation = { state: "starting", since: now, pid: null };
  return stay({ ...state, situation }, { kind: "start" });
}

function onWake(state: InstanceState, now: Timestamp): Step {
  const { situation } = state;
  const woken = { ...state, wakeWanted: true, lastRequestAt: now };
  const refuse = (reason: string) =>
    stay(state, { kind: "answerWake", reply: { ok: false, reason } });
  switch (situation.state) {
    case "running": {
      if (situation.endpoint === null) return refuse("this process takes no requests");
      const reply: WakeReply = { ok: true, endpoint: situation.endpoint };
      const quiesce = wakeQuiesce(situation.quiesce, now);
      const running = { ...situation, quiesce, idleFrom: now };
      return stay(
        { ...state, situation: running, lastRequestAt: now },
        { kind: "answerWake", reply },
      );
    }
    case "frozen": {
      if (situation.endpoint === null) return refuse("this process takes no requests");
      const reply: WakeReply = { ok: true, endpoint: situation.endpoint };
      const thawed = thaw({ ...state, lastRequestAt: now }, situation, now);
      return stay(thawed.state, ...thawed.effects, { kind: "answerWake", reply });
    }
    case "asleep":
      return relaunch(woken, now);
    case "preparing":
    case "starting":
      return stay(woken);
    case "stopping":
      return situation.next === "end" ? refuse("the instance is ending") : stay(woken);
    case "backing-off": {
      const waitMs = situation.until - now;
      if (waitMs > wakePatienceMs) return refuse(describeBackOff(situation.cause, waitMs));
      return stay(woken);
    }
    case "failed":
      return refuse(situation.reason);
    case "done":
    case "gone":
      return refuse("the instance has ended");
    default:
      return unreachable(situation);
  }
}
