import type { App, Project } from "../model/app.ts";
import type { Assignment, PoolNode } from "../model/instance.ts";
import type { Limits } from "../model/limits.ts";
import type { NodeName, ProcessType } from "../model/names.ts";
import { defaultProject, releaseProcess } from "../model/names.ts";
import {
  type Deployment,
  inFlightDefault,
  type Release,
  type ReleaseConfig,
} from "../model/release.ts";
import type { Certificate } from "../model/route.ts";
import { PersistentMap } from "./persistent-map.ts";

/** A record with the revision that last wrote it. */
export interface Stored<Value> {
  readonly value: Value;
  readonly modRevision: number;
}

/**
 * A release as it lies in the ledger. Kept as text, a fifth of the parsed size: most of a big
 * pool's releases are looked at only when their app changes.
 */
export interface StoredRelease {
  readonly number: number;
  readonly text: string;
  readonly modRevision: number;
}

/** Who owns a host name in the whole pool. */
export interface HostClaim {
  readonly project: string;
  readonly app: string;
}

/** As stored: `privateKey` is sealed. */
export interface CertificateRecord extends Certificate {
  readonly name: string;
  readonly expiresAt: number;
}

/** All hard state of one app. Lists are sorted: by number, by instance, by name. */
export interface AppState {
  readonly key: string;
  /** Null when only remains of a removed app are left. */
  readonly app: Stored<App> | null;
  readonly releases: readonly StoredRelease[];
  readonly deployments: readonly Stored<Deployment>[];
  readonly assignments: readonly Stored<Assignment>[];
  readonly hosts: readonly string[];
}

/** A machine with what its assignments are guaranteed. */
export interface NodeState {
  readonly name: NodeName;
  /** Null when assignments name a node that is not in the pool. */
  readonly node: PoolNode | null;
  readonly reservedCores: number;
  readonly reservedMemoryBytes: number;
  readonly instances: number;
}

/**
 * Hard state at one revision: all of it but the apps that nobody looks at now. Immutable;
 * versions share what did not change.
 */
export interface Snapshot {
  readonly revision: number;
  readonly apps: PersistentMap<AppState>;
  /** Of the apps above, as `owners`. */
  readonly hosts: PersistentMap<Stored<HostClaim>>;
  /** Instance → key of its app. */
  readonly owners: PersistentMap<string>;
  readonly projects: ReadonlyMap<string, Project>;
  /** With what the assignments of all apps are guaranteed. */
  readonly nodes: ReadonlyMap<NodeName, NodeState>;
  readonly certificates: ReadonlyMap<string, Stored<CertificateRecord>>;
  readonly uidCounter: Stored<number> | null;
  /** The name of the replica that plans. */
  readonly leader: Stored<string> | null;
}

export const emptySnapshot: Snapshot = {
  revision: 0,
  apps: PersistentMap.empty(),
  hosts: PersistentMap.empty(),
  owners: PersistentMap.empty(),
  projects: new Map(),
  nodes: new Map(),
  certificates: new Map(),
  uidCounter: null,
  leader: null,
};

export function emptyAppState(key: string): AppState {
  return { key, app: null, releases: [], deployments: [], assignments: [], hosts: [] };
}

export function releaseOf(state: AppState, number: number | null): Release | null {
  if (number === null) return null;
  const stored = findNumbered(state.releases, number, (release) => release.number);
  return stored === null ? null : (JSON.parse(stored.text) as Release);
}

export function deploymentOf(state: AppState, number: number | null): Stored<Deployment> | null {
  if (number === null) return null;
  return findNumbered(state.deployments, number, (deployment) => deployment.value.number);
}

function findNumbered<Item>(
  items: readonly Item[],
  number: number,
  numberOf: (item: Item) => number,
): Item | null {
  let low = 0;
  let high = items.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const item = items[middle] as Item;
    const found = numberOf(item);
    if (found === number) return item;
    if (found < number) low = middle + 1;
    else high = middle - 1;
  }
  return null;
}

/** Whether a process of the release is the one that requests go to. */
export function takesRequests(config: ReleaseConfig, process: ProcessType): boolean {
  return config.http !== null && config.http.process === process;
}

/** The process types of a release that live on, in its own order: all but `release`. */
export function lastingProcesses(config: ReleaseConfig): readonly ProcessType[] {
  return (Object.keys(config.processes) as ProcessType[]).filter((type) => type !== releaseProcess);
}

/** Instances wanted of one process: what `scale` set, else what the release asks for. */
export function wantedCount(app: App, config: ReleaseConfig, process: ProcessType): number {
  const set = app.counts[process];
  if (set !== undefined) return set;
  return takesRequests(config, process) ? Math.max(1, config.scale.min) : 1;
}

/** Releases of an earlier version have no number of their own. */
export function requestsPerInstance(config: ReleaseConfig): number {
  return config.scale.inFlight ?? inFlightDefault;
}

/** The release's limits with the app's overrides. */
export function effectiveLimits(app: App, config: ReleaseConfig): Limits {
  return {
    ...config.limits,
    cpu: app.limits.cpu ?? config.limits.cpu,
    memory: app.limits.memory ?? config.limits.memory,
  };
}

/** Where an app answers without any configuration. */
export function appHost(app: Pick<App, "project" | "name">, domain: string): string {
  const labels = app.project === defaultProject ? [app.name] : [app.name, app.project];
  return [...labels, domain].join(".");
}

/** The opposite of `appHost`: keys of the apps that answer there by their names. */
export function appOfHost(host: string, domain: string): readonly string[] {
  if (!host.endsWith(`.${domain}`)) return [];
  const [name = "", project = defaultProject, ...rest] = host
    .slice(0, -domain.length - 1)
    .split(".");
  return rest.length === 0 ? [`${project}/${name}`] : [];
}

/** Every host name a release answers to; none when nothing of it takes requests. */
export function hostsOf(app: App, config: ReleaseConfig, domain: string): readonly string[] {
  return config.http === null
    ? []
    : [...new Set([appHost(app, domain), ...config.http.hosts.map((host) => host.toLowerCase())])];
}
