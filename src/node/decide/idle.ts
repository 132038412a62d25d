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

// Sleep and drain: both end a running process without losing a request. The gateways are asked
// to send nothing more and tell what is still in flight; only when nothing is does the process
// end. A request that arrives meanwhile makes its gateway ask for a wake, which undoes it.

type Running = Extract<Situation, { state: "running" }>;

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
  return mayIdle(state) ? idleAt(state, running) : null;
}

function mayIdle(state: InstanceState): boolean {
  return state.takesRequests && !state.task && !state.wanted.keepAwake;
}

function idleAt(state: InstanceState, running: Running): Timestamp {
  return Math.max(running.idleFrom, state.lastRequestAt) + state.wanted.idleMs;
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
  if (situation.state !== "running") return stay(state);
  const { quiesce } = situation;
  if (quiesce === null) {
    if (!mayIdle(state) || now < idleAt(state, situation)) return stay(state);
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
  if (quiet && now >= idleAt(next, situation)) return stopFor(next, "idle", now);
  // Not idle after all. With requests in flight (a WebSocket, say) idleness begins anew.
  const idleFrom = quiet ? situation.idleFrom : now;
  return stay({ ...next, situation: { ...situation, quiesce: null, idleFrom } });
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
  if (situation.state === "backing-off") {
    // A request waits for the restart: it is answered first.
    if (state.wakeWanted) return stay(state);
    return stay({ ...state, situation: { state: "asleep", since: now } });
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
