import type { Assignment, ExitCause, InstancePhase } from "../model/instance.ts";
import type { InstanceState, Situation, Wanted } from "./decide/state.ts";
import type { SandboxExit } from "./sandbox/sandbox.ts";

export function wantedOf({ keepAwake, freezeMs, idleMs, drain }: Assignment): Wanted {
  // Assignments of an earlier version have no freezeMs.
  return { keepAwake, freezeMs: freezeMs ?? null, idleMs, drain };
}

/** A situation as others see it. */
export function phaseOf(situation: Situation): InstancePhase {
  switch (situation.state) {
    case "starting":
      return { state: "starting", pid: situation.pid };
    case "running": {
      const { pid, startedAt, endpoint } = situation;
      return { state: "running", pid, startedAt, endpoint };
    }
    case "frozen":
      return { state: "frozen", since: situation.since, pid: situation.pid };
    case "stopping":
      return { state: "stopping", since: situation.since };
    case "gone":
      return { state: "stopping", since: 0 };
    default:
      return situation;
  }
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
