import type { Timestamp } from "../../base/time.ts";
import { formatDurationMs } from "../../base/units.ts";
import {
  type InstanceState,
  type Quiesce,
  type Situation,
  type Step,
  stay,
  stopping,
} from "./state.ts";

// The idle ladder and draining: both stop a running process without losing a request. The
// gateways are asked to send nothing more and tell what is still in flight; only when nothing is
// does the process freeze or end. A request that arrives meanwhile makes its gateway ask for a
// wake, which undoes it.
//
//   running ──→ frozen ──→ asleep      after freezeMs and idleMs without a request; a rung whose
//      ↑__________│__________│         time is not before the next one's is left out
//            wake
//
// A frozen instance needs no second asking before it ends: every gateway has been told already,
// and whoever wants it wakes it first.

type Running = Extract<Situation, { state: "running" }>;
type Frozen = Extract<Situation, { state: "frozen" }>;

/** How long gateways get to learn of the new routes before a drain asks them. */
const drainSettleMs = 500;
const askAgainMs = 250;
/** A sleep that was asked for by a person does not wait longer for requests in flight. */
const sleepWaitMsMax = 10_000;

/** When `tick` must come; null: at no time. */
export function nextTickAt(state: InstanceState): Timestamp | null {
  const { situation } = state;
  switch (situation.state) {
    case "backing-off":
      return situation.until;
    case "stopping":
      return situation.killed ? null : situation.since + state.graceMs;
    case "running":
      return runningTickAt(state, situation);
    case "frozen":
      return mayIdle(state) ? situation.idleFrom + state.wanted.idleMs : null;
    default:
      return null;
  }
}

function runningTickAt(state: InstanceState, running: Running): Timestamp | null {
  if (running.quiesce !== null) {
    const askAt = running.quiesce.askAt ?? Number.POSITIVE_INFINITY;
    const deadline = quiesceDeadline(state, running.quiesce);
    const at = Math.min(askAt, deadline);
    return Number.isFinite(at) ? at : null;
  }
  return mayIdle(state) ? rungAt(state, running) : null;
}

function mayIdle(state: InstanceState): boolean {
  const { takesRequests, task, wanted, visitors } = state;
  return takesRequests && !task && !wanted.keepAwake && visitors === 0;
}

function idleFrom(state: InstanceState, running: Running): Timestamp {
  return Math.max(running.idleFrom, state.lastRequestAt);
}

/** When the first rung that applies is reached. */
function rungAt(state: InstanceState, running: Running): Timestamp {
  const { freezeMs, idleMs } = state.wanted;
  return idleFrom(state, running) + Math.min(freezeMs ?? idleMs, idleMs);
}

function quiesceDeadline(state: InstanceState, quiesce: Quiesce): Timestamp {
  switch (quiesce.why) {
    case "idle":
      return Number.POSITIVE_INFINITY;
    case "sleep":
      return quiesce.since + sleepWaitMsMax;
    case "drain":
      return state.wanted.drain?.deadline ?? quiesce.since;
  }
}

export function onTick(state: InstanceState, now: Timestamp): Step {
  const { situation } = state;
  if (situation.state === "stopping") {
    if (situation.killed || now < situation.since + state.graceMs) return stay(state);
    return stay(
      { ...state, situation: { ...situation, killed: true } },
      { kind: "log", text: `did not end within ${formatDurationMs(state.graceMs)}: killed` },
      { kind: "kill" },
    );
  }
  if (situation.state === "frozen") {
    const due = mayIdle(state) && now >= situation.idleFrom + state.wanted.idleMs;
    return due ? stopFor(state, "idle", now) : stay(state);
  }
  if (situation.state !== "running") return stay(state);
  const { quiesce } = situation;
  if (quiesce === null) {
    if (!mayIdle(state) || now < rungAt(state, situation)) return stay(state);
    return ask(state, situation, { why: "idle", since: now, askAt: null });
  }
  if (now >= quiesceDeadline(state, quiesce)) return stopFor(state, quiesce.why, now);
  if (quiesce.askAt === null || now < quiesce.askAt) return stay(state);
  return ask(state, situation, { ...quiesce, askAt: null });
}

function ask(state: InstanceState, running: Running, quiesce: Quiesce): Step {
  return stay({ ...state, situation: { ...running, quiesce } }, { kind: "quiesce" });
}

/** The gateways have answered. */
export function onQuiesced(
  state: InstanceState,
  answer: {
    readonly inFlight: number;
    readonly lastRequestAt: Timestamp | null;
    readonly complete: boolean;
  },
  now: Timestamp,
): Step {
  const lastRequestAt = Math.max(state.lastRequestAt, answer.lastRequestAt ?? 0);
  const next = { ...state, lastRequestAt };
  const { situation } = next;
  // An answer to a question that a wake has made stale counts for nothing.
  if (situation.state !== "running" || situation.quiesce?.askAt !== null) return stay(next);
  const { quiesce } = situation;
  const quiet = answer.complete && answer.inFlight === 0;
  if (quiesce.why !== "idle") {
    if (quiet) return stopFor(next, quiesce.why, now);
    const waiting = { ...quiesce, askAt: now + askAgainMs };
    return stay({ ...next, situation: { ...situation, quiesce: waiting } });
  }
  if (quiet && mayIdle(next) && now >= rungAt(next, situation)) {
    const { freezeMs, idleMs } = next.wanted;
    const freezes = freezeMs !== null && freezeMs < idleMs;
    return freezes ? freeze(next, situation, freezeMs, now) : stopFor(next, "idle", now);
  }
  // Not idle after all. With requests in flight (a WebSocket, say) idleness begins anew.
  const since = quiet ? situation.idleFrom : now;
  return stay({ ...next, situation: { ...situation, quiesce: null, idleFrom: since } });
}

function freeze(state: InstanceState, running: Running, afterMs: number, now: Timestamp): Step {
  const { pid, startedAt, endpoint } = running;
  const frozen: Situation = {
    ...{ state: "frozen", since: now, pid, startedAt, endpoint },
    idleFrom: idleFrom(state, running),
  };
  return stay(
    { ...state, situation: frozen },
    { kind: "freeze" },
    { kind: "log", text: `frozen after ${formatDurationMs(afterMs)} without a request` },
  );
}

/** Goes on where it was frozen; idleness begins anew. */
export function thaw(state: InstanceState, frozen: Frozen, now: Timestamp): Step {
  const { pid, startedAt, endpoint } = frozen;
  const situation: Situation = {
    ...{ state: "running", pid, startedAt, endpoint },
    ...{ quiesce: null, idleFrom: now },
  };
  return stay({ ...state, situation }, { kind: "thaw" });
}

/**
 * A gateway had a request for it. None sends one to a frozen instance without waking it; one
 * that does all the same, after lost messages, is found by the load that it tells of.
 */
export function onRequested(state: InstanceState, at: Timestamp, now: Timestamp): Step {
  const { situation } = state;
  const next = { ...state, lastRequestAt: Math.max(state.lastRequestAt, at) };
  return situation.state === "frozen" && at > situation.since
    ? thaw(next, situation, now)
    : stay(next);
}

/** A person's program begins or ends inside it: with one there it is awake. */
export function onVisit(state: InstanceState, difference: 1 | -1, now: Timestamp): Step {
  const next = { ...state, visitors: Math.max(0, state.visitors + difference) };
  const { situation } = next;
  if (situation.state === "frozen" && next.visitors > 0) return thaw(next, situation, now);
  if (situation.state !== "running") return stay(next);
  return stay({ ...next, situation: { ...situation, idleFrom: now } });
}

function stopFor(state: InstanceState, why: Quiesce["why"], now: Timestamp): Step {
  const { state: stopped, effects } = stopping(state, why === "drain" ? "end" : "sleep", now);
  const text = {
    idle: `goes to sleep after ${formatDurationMs(state.wanted.idleMs)} without a request`,
    sleep: "goes to sleep, as asked",
    drain: "drained: a newer release serves",
  }[why];
  return stay(stopped, { kind: "log", text }, ...effects);
}

/** A request came for an instance that quiesces: what becomes of the quiescing. */
export function wakeQuiesce(quiesce: Quiesce | null, now: Timestamp): Quiesce | null {
  return quiesce?.why === "drain" ? { ...quiesce, askAt: now + askAgainMs } : null;
}

/** Answers that an earlier lode waited for never come: ask anew. */
export function resumeQuiesce(quiesce: Quiesce | null, now: Timestamp): Quiesce | null {
  return quiesce === null || quiesce.why === "idle" ? null : { ...quiesce, askAt: now };
}

/** Sleep now, asked for by a person. */
export function onSleep(state: InstanceState, now: Timestamp): Step {
  const { situation } = state;
  if (!state.takesRequests || state.task) return stay(state);
  // A request waits for the start: it is answered first.
  if (state.wakeWanted) return stay(state);
  if (situation.state === "backing-off") {
    return stay({ ...state, situation: { state: "asleep", since: now } });
  }
  if (["preparing", "starting", "frozen"].includes(situation.state)) {
    return stopFor(state, "sleep", now);
  }
  if (situation.state !== "running" || situation.quiesce?.why === "drain") return stay(state);
  return ask(state, situation, { why: "sleep", since: now, askAt: null });
}

/** A running instance that takes requests drains; null: nothing to drain, it just ends. */
export function onDrain(state: InstanceState, now: Timestamp): Step | null {
  const { situation } = state;
  if (situation.state !== "running" || situation.endpoint === null) return null;
  const quiesce: Quiesce = { why: "drain", since: now, askAt: now + drainSettleMs };
  return stay({ ...state, situation: { ...situation, quiesce } });
}
