import type { Instance } from "../../api/native/client.ts";
import { describeCause } from "../../model/exit-cause.ts";

type Phase = Instance["phase"];

/** A row of `lode ps --json`. Scripts rely on these names. */
export interface PsRow {
  readonly app: string;
  /** `v3`. */
  readonly release: string;
  readonly instance: string;
  readonly node: string;
  readonly state: Phase["state"];
  /** The app's first process, as the host sees it. */
  readonly pid: number | null;
  readonly restarts: number;
  /** RFC 3339, in UTC. */
  readonly startedAt: string | null;
  /** Cores in use. */
  readonly cpu: number | null;
  readonly memoryBytes: number | null;
}

export function psRow(instance: Instance): PsRow {
  const { phase, usage } = instance;
  const pid = "pid" in phase ? phase.pid : null;
  return {
    app: instance.app,
    release: `v${instance.release}`,
    instance: instance.instance,
    node: instance.node,
    state: phase.state,
    pid,
    restarts: instance.restarts,
    startedAt: phase.state === "running" ? timeText(phase.startedAt) : null,
    cpu: usage === null ? null : usage.cpuCores,
    memoryBytes: usage === null ? null : usage.memoryBytes,
  };
}

/** RFC 3339, in UTC. */
export function timeText(at: number): string {
  return new Date(at).toISOString();
}

export function describePhase(phase: Phase): string {
  switch (phase.state) {
    case "preparing":
      return `preparing ${phase.step}`;
    case "backing-off":
      return `backing-off: ${describeCause(phase.cause)}`;
    case "failed":
      return `failed: ${phase.reason}`;
    case "done":
      return `done: exit code ${phase.code}`;
    default:
      return phase.state;
  }
}
