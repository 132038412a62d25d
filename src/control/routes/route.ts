import { unreachable } from "../../base/assert.ts";
import type { App } from "../../model/app.ts";
import { describeCause } from "../../model/exit-cause.ts";
import type { InstanceStatus } from "../../model/instance.ts";
import type { InstanceId } from "../../model/names.ts";
import { releaseName } from "../../model/release.ts";
import type { AppRoute, RouteInstance } from "../../model/route.ts";
import type { Observed } from "../../scheduler/observed.ts";
import {
  type AppState,
  deploymentOf,
  hostsOf,
  releaseOf,
  requestsPerInstance,
  type Snapshot,
  takesRequests,
} from "../../scheduler/snapshot.ts";

/** Null: no request can be for this app. */
export function routeOf(
  state: AppState,
  nodes: Snapshot["nodes"],
  observed: Observed,
  columnOf: (instance: InstanceId) => number,
  domain: string,
): AppRoute | null {
  const app = state.app?.value;
  if (app === undefined || app.removing) return null;
  const config = releaseOf(state, app.serving)?.config ?? null;
  const hosts = config === null ? state.hosts : hostsOf(app, config, domain);
  if (hosts.length === 0) return null;
  const seen = observed.instancesOf(state.key);
  const instances: RouteInstance[] = [];
  const draining: InstanceId[] = [];
  for (const { value: assignment } of state.assignments) {
    const { instance, node, limits } = assignment;
    if (config === null || assignment.release !== app.serving) {
      if (assignment.drain !== null) draining.push(instance);
      continue;
    }
    if (!takesRequests(config, assignment.process)) continue;
    if (assignment.drain !== null) {
      draining.push(instance);
      continue;
    }
    const reachable = reachability(seen.get(instance)?.status ?? null);
    if (reachable === null) continue;
    const machineCores = nodes.get(node)?.node?.capacity.cores ?? 1;
    const cores = limits.cpu.burst ?? limits.cpu.max ?? machineCores;
    instances.push({ instance, node, column: columnOf(instance), cores, state: reachable });
  }
  const problem = problemOf(state, app, observed);
  const affinity = config?.http?.affinity;
  return {
    ...{ ...address(app), release: app.serving, hosts, instances, draining, problem },
    requestsPerInstance: config === null ? 1 : requestsPerInstance(config),
    ...(affinity === undefined ? {} : { affinity }),
  };
}

function address(app: App): Pick<AppRoute, "project" | "app"> {
  return { project: app.project, app: app.name };
}

function reachability(status: InstanceStatus | null): RouteInstance["state"] | null {
  const phase = status?.phase;
  switch (phase?.state) {
    case "running":
      if (phase.endpoint === null) return null;
      return { kind: "running", endpoint: phase.endpoint };
    case "frozen":
      // An address is another's as soon as it has ended; a socket's name is its own for ever.
      return phase.endpoint?.kind === "unix"
        ? { kind: "asleep", socket: phase.endpoint }
        : { kind: "asleep" };
    case "asleep":
    // Going to sleep: a wake waits for the end and starts it again.
    case "stopping":
      return { kind: "asleep" };
    case undefined:
    case "preparing":
    case "starting":
    case "backing-off":
      return { kind: "starting", ...(status?.wasHealthy === true ? { again: true } : {}) };
    case "done":
    case "failed":
      return null;
    default:
      return unreachable(phase);
  }
}

/** A sentence for the page that users see when no instance can take their request. */
function problemOf(state: AppState, app: App, observed: Observed): string | null {
  const seen = [...observed.instancesOf(state.key).values()].map(({ status }) => status);
  if (app.serving === null) return problemBeforeServing(state, app);
  const troubled = seen
    .filter((status) => status.release === app.serving && status.lastExit !== null)
    .sort((one, other) => (other.lastExit?.at ?? 0) - (one.lastExit?.at ?? 0))
    .map(describeTrouble)
    .find((sentence) => sentence !== null);
  return troubled ?? null;
}

function problemBeforeServing(state: AppState, app: App): string {
  if (app.target !== null) return `${app.name} is being deployed for the first time.`;
  const newest = deploymentOf(state, app.nextRelease - 1)?.value;
  if (newest?.state !== "failed") return `${app.name} has not been deployed yet.`;
  return `${app.name} ${releaseName(newest.number)} could not be deployed: ${newest.reason}.`;
}

function describeTrouble(status: InstanceStatus): string | null {
  const { phase } = status;
  const name = `${status.process} of ${releaseName(status.release)}`;
  if (phase.state === "failed") return `${name} could not be started: ${phase.reason}.`;
  if (phase.state === "backing-off") {
    return `${name} ended with ${describeCause(phase.cause)} and is being started again.`;
  }
  if (phase.state !== "starting" || status.lastExit === null) return null;
  return `${name} ended with ${describeCause(status.lastExit.cause)} and is starting again.`;
}
