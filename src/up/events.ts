import { formatBytes } from "../base/units.ts";
import type { Wire } from "../fabric/wire.ts";
import { describeCause } from "../model/exit-cause.ts";
import type { InstancePhase, InstanceStatus } from "../model/instance.ts";
import { appKey } from "../model/keys.ts";
import { defaultProject } from "../model/names.ts";
import { releaseName } from "../model/release.ts";
import {
  type DeploymentEvent,
  type NodeChange,
  type NodeCollected,
  subjects,
} from "../model/wire.ts";

/**
 * Prints one line for every event an operator would want to read as it happens: what starts,
 * ends, sleeps and fails, and how deployments end.
 */
export function printEvents(wire: Wire, say: (line: string) => void): { cancel(): void } {
  const phases = new Map<string, string>();
  const statuses = wire.subscribe(subjects.nodeStatus("*"), ({ payload }) => {
    const change = payload as unknown as NodeChange;
    for (const status of change.changed) {
      const told = describePhase(status.phase);
      if (told === null || phases.get(status.instance) === told) continue;
      // What sleeps has nothing more to tell until it wakes.
      if (status.phase.state === "asleep") phases.delete(status.instance);
      else phases.set(status.instance, told);
      say(`${nameOf(status)} ${told}`);
    }
    for (const instance of change.removed) phases.delete(instance);
  });
  const progress = wire.subscribe("progress.>", ({ subject, payload }) => {
    const event = payload as unknown as DeploymentEvent;
    if (event.kind !== "end") return;
    const [, project, app, release] = subject.split(".");
    const name = `${project === defaultProject ? "" : `${project}/`}${app} v${release}`;
    const reason = event.reason === null ? "" : `: ${event.reason}`;
    say(`${name} ${event.state}${reason} (${Math.round(event.durationMs.total)} ms)`);
  });
  const collected = wire.subscribe(subjects.nodeCollected("*"), ({ subject, payload }) => {
    const { trees, bytes } = payload as unknown as NodeCollected;
    const folders = trees === 1 ? "1 folder" : `${trees} folders`;
    const [, node] = subject.split(".");
    say(`${node} removed ${folders} (${formatBytes(bytes)}) that no release needs`);
  });
  return {
    cancel() {
      collected.cancel();
      statuses.cancel();
      progress.cancel();
    },
  };
}

function nameOf(status: InstanceStatus): string {
  const app = status.project === defaultProject ? status.app : appKey(status.project, status.app);
  return `${app} ${releaseName(status.release)} ${status.process} ${status.instance}`;
}

function describePhase(phase: InstancePhase): string | null {
  switch (phase.state) {
    case "running":
      return `running, pid ${phase.pid}`;
    case "frozen":
    case "asleep":
      return phase.state;
    case "backing-off":
      return `ended (${describeCause(phase.cause)}), will be started again`;
    case "failed":
      return `failed: ${phase.reason}`;
    case "done":
      return `done, exit code ${phase.code}`;
    case "preparing":
      return phase.step === "build" ? "building" : null;
    case "starting":
    case "stopping":
      return null;
  }
}
