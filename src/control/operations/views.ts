import type { App } from "../../model/app.ts";
import type { Assignment, InstancePhase } from "../../model/instance.ts";
import type { Deployment, ReleaseConfig } from "../../model/release.ts";
import {
  type AppState,
  deploymentOf,
  hostsOf,
  releaseOf,
  type StoredRelease,
  takesRequests,
} from "../../scheduler/snapshot.ts";
import type { AppView, InstanceView, ReleaseView } from "../operations.ts";
import type { Context } from "./context.ts";

export function appView(context: Context, state: AppState, app: App): AppView {
  const { project, name, createdAt, serving, target, counts, limits, env } = app;
  const config = releaseOf(state, serving ?? target)?.config ?? null;
  const instances = instanceViews(context, state);
  return {
    ...{ project, name, createdAt, serving, target, counts, limits, env },
    urls: urlsOf(context, app, config),
    secretNames: Object.keys(app.secrets).sort(),
    state: stateOfApp(state, app, config, instances),
    instances,
  };
}

/** HTTPS where a certificate is there for the host; HTTP else. */
export function urlsOf(
  context: Context,
  app: App,
  config: ReleaseConfig | null,
): readonly string[] {
  if (config === null) return [];
  const { domain, httpPort, httpsPort } = context.settings;
  return hostsOf(app, config, domain).map((host) => {
    const isSecure = httpsPort !== null && hasCertificate(context, host);
    if (isSecure) return `https://${host}${httpsPort === 443 ? "" : `:${httpsPort}`}`;
    return `http://${host}${httpPort === 80 ? "" : `:${httpPort}`}`;
  });
}

function hasCertificate(context: Context, host: string): boolean {
  const wildcard = `*.${host.split(".").slice(1).join(".")}`;
  return [...context.engine.state.snapshot.certificates.values()].some(
    ({ value }) => value.hosts.includes(host) || value.hosts.includes(wildcard),
  );
}

/** What the nodes run, and what was decided but is not seen yet. */
export function instanceViews(context: Context, state: AppState): readonly InstanceView[] {
  const seen = context.engine.observer.instancesOf(state.key);
  const views = [...seen.values()].map(({ node, status }): InstanceView => ({ ...status, node }));
  for (const { value } of state.assignments) {
    if (!seen.has(value.instance)) views.push(unseen(value));
  }
  const rank = (view: InstanceView) => `${view.process} ${String(view.release).padStart(10, "0")}`;
  return views.sort((one, other) =>
    `${rank(one)} ${one.instance}` < `${rank(other)} ${other.instance}` ? -1 : 1,
  );
}

export function unseen(assignment: Assignment): InstanceView {
  const { instance, node, project, app, release, process } = assignment;
  return {
    ...{ instance, node, project, app, release, process },
    phase: { state: "preparing", step: "files" },
    wasHealthy: false,
    restarts: 0,
    lastExit: null,
    usage: null,
  };
}

function stateOfApp(
  state: AppState,
  app: App,
  config: ReleaseConfig | null,
  instances: readonly InstanceView[],
): AppView["state"] {
  if (app.removing) return "removing";
  if (app.target !== null && app.target !== app.serving) return "deploying";
  if (app.serving === null || config === null) {
    const newest = deploymentOf(state, app.nextRelease - 1)?.value;
    return newest?.state === "failed" ? "failed" : "empty";
  }
  const draining = new Set(
    state.assignments
      .filter(({ value }) => value.drain !== null)
      .map(({ value }) => value.instance),
  );
  const present = instances.filter(
    ({ release, instance }) => release === app.serving && !draining.has(instance),
  );
  const troubled: readonly InstancePhase["state"][] = ["backing-off", "failed"];
  if (present.some(({ phase }) => troubled.includes(phase.state))) return "degraded";
  const web = present.filter(({ process }) => takesRequests(config, process));
  const isAsleep =
    web.length > 0 && web.every(({ phase }) => ["frozen", "asleep"].includes(phase.state));
  return isAsleep ? "asleep" : "serving";
}

export function releaseView(stored: StoredRelease, deployment: Deployment): ReleaseView {
  const { secrets, ...release } = JSON.parse(stored.text);
  return { release: { ...release, secretNames: Object.keys(secrets).sort() }, deployment };
}
