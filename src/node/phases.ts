import type { Timestamp } from "../base/time.ts";
import { formatBytes } from "../base/units.ts";
import type {
  Assignment,
  ExitCause,
  InstancePhase,
  InstanceStatus,
  InstanceUsage,
} from "../model/instance.ts";
import type { InstanceState, Situation, Step, Wanted } from "./decide/state.ts";
import type { Urgency } from "./reports.ts";
import type { SandboxExit } from "./sandbox/sandbox.ts";

export function wantedOf({ keepAwake, freezeMs, idleMs, drain }: Assignment): Wanted {
  // Assignments of an earlier version have no freezeMs.
  return { keepAwake, freezeMs: freezeMs ?? null, idleMs, drain };
}

/** A situation as others see it. */
function phaseOf(situation: Situation): InstancePhase {
  switch (situation.state) {
    case "starting":
      return { state: "starting", pid: situation.pid };
    case "running": {
      const { pid, startedAt, endpoint } = situation;
      return { state: "running", pid, startedAt, endpoint };
    }
    case "frozen": {
      const { since, pid, endpoint } = situation;
      return { state: "frozen", since, pid, endpoint };
    }
    case "stopping":
      return { state: "stopping", since: situation.since };
    case "gone":
      return { state: "stopping", since: 0 };
    default:
      return situation;
  }
}

export function statusOf(
  { instance, project, app, release, process }: Assignment,
  { situation, wasHealthy, restarts, lastExit }: InstanceState,
  usage: InstanceUsage | null,
): InstanceStatus {
  const about = { instance, project, app, release, process, phase: phaseOf(situation) };
  return { ...about, wasHealthy, restarts, lastExit, usage };
}

/** As of one of which is only known that it slept. */
export function asleepAnew(state: InstanceState, now: Timestamp): InstanceState {
  return { ...state, situation: { state: "asleep", since: now }, wasHealthy: true };
}

/** @param limitBytes null: it has none. */
export function outOfMemory(limitBytes: number | null): string {
  const of =
    limitBytes === null ? "the machine has no more" : `its limit is ${formatBytes(limitBytes)}`;
  return `out of memory: the kernel killed a process (${of})`;
}

/** After a boot nothing runs; what slept or had ended stays so. */
export function afterBoot(state: InstanceState): InstanceState {
  const { situation } = state;
  const slept = situation.state === "stopping" && situation.next === "sleep";
  if (slept || situation.state === "frozen") {
    return { ...state, situation: { state: "asleep", since: situation.since } };
  }
  return rests(situation) ? state : { ...state, situation: { state: "preparing", step: "files" } };
}

export function isFallingAsleep(situation: Situation): boolean {
  if (situation.state === "stopping") return situation.next === "sleep";
  return situation.state === "running" && situation.quiesce?.why === "sleep";
}

/** No process belongs to it, and none will by itself. */
export function rests(situation: Situation): boolean {
  return ["asleep", "failed", "done", "gone"].includes(situation.state);
}

const killedCode = 128 + 9;

export function causeOf(exit: SandboxExit, oomKills: number, limitBytes: number | null): ExitCause {
  // Unknown: the kernel took the sandbox's own process, too, and nobody is left to tell.
  const wasKilled =
    exit.kind === "unknown" ||
    (exit.kind === "signal" && exit.signal === "SIGKILL") ||
    (exit.kind === "exit" && exit.code === killedCode);
  return oomKills > 0 && wasKilled ? { kind: "out-of-memory", limitBytes } : exit;
}

/** The effect writes the state down: instance.ts. */
export function isWrittenLater({ situation }: InstanceState, effects: Step["effects"]): boolean {
  const wasAsleep = situation.state === "asleep";
  return effects.some(({ kind }) => kind === "thaw" || (wasAsleep && kind === "start"));
}

/** How soon others must hear of a step. */
export function urgencyOf(before: InstanceState, { state, effects }: Step): Urgency {
  // Gateways were asked before, and many may freeze one after another.
  if (state.situation.state === "frozen") return "later";
  const rested = ["frozen", "asleep"].includes(before.situation.state);
  // A request woke it: who sent that one is told by the answer to it, the others have time.
  return rested || effects.some(({ kind }) => kind === "answerWake") ? "soon" : "now";
}
