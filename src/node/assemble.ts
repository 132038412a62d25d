import { readdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Json } from "../base/json.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock, Random } from "../base/time.ts";
import type { Blobs } from "../fabric/blobs.ts";
import type { Ledger } from "../fabric/ledger.ts";
import type { Wire } from "../fabric/wire.ts";
import type { InstanceStatus } from "../model/instance.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../model/names.ts";
import { type ExecRequest, subjects } from "../model/wire.ts";
import { AppData } from "./app-data.ts";
import type { CgroupTree } from "./cgroup/cgroup.ts";
import { CpuSamples } from "./cpu-samples.ts";
import { CpuShares } from "./cpu-shares.ts";
import { type Builder, createBuilder } from "./drivers/build.ts";
import { createLayout } from "./drivers/layout.ts";
import { createProcessDriver, type ProcessDriver } from "./drivers/process.ts";
import type { HostTools } from "./drivers/specification.ts";
import { createGateways } from "./gateways.ts";
import type { Instance, InstanceContext } from "./instance.ts";
import { createInstanceFiles, type InstanceFiles } from "./instance-files.ts";
import { Leftovers } from "./leftovers.ts";
import type { ExitWatcher } from "./linux/processes.ts";
import { type AppLogs, createAppLogs } from "./logs/app-logs.ts";
import type { Network } from "./network/network.ts";
import { type CloudPaths, dataPaths, nodePaths } from "./paths.ts";
import { Preparation } from "./preparation.ts";
import { availableMemory, ReadyPool } from "./ready-pool.ts";
import { Releases } from "./releases.ts";
import { createReports, type Reports, type Urgency } from "./reports.ts";
import { createSampler, type Sampler } from "./sampler.ts";
import type { Sandbox } from "./sandbox/sandbox.ts";
import type { PreparedRelease } from "./sessions/sessions.ts";
import { createSessions, type Sessions } from "./sessions/sessions.ts";
import { StartGate } from "./start-gate.ts";
import { Suppression } from "./suppression.ts";

export interface AgentOptions {
  readonly node: NodeName;
  readonly paths: CloudPaths;
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly random: Random;
  readonly cgroups: CgroupTree;
  readonly network: Network;
  readonly sandbox: Sandbox;
  readonly exits: ExitWatcher;
  openSecret(sealed: string): string;
  /** An app's uid and gid here are this plus its offset; builds run just below it. */
  readonly uidBase: number;
  /** Names of the gateways that run now; those that publish loads are known anyway. */
  gateways(): readonly string[];
  /** From SIGTERM to SIGKILL; 10 s unless given. */
  readonly graceMs?: number;
  /** Sandboxes made ahead for apps that sleep, at most. */
  readonly readyMax: number;
  /** How long after a change of an app its leftovers are looked for; 10 min unless given. */
  readonly leftoversMs?: number;
  /** How long an instance sleeps before nothing of it is kept in memory; 30 s unless given. */
  readonly bedMs?: number;
}

/** The instances of the node, and who is told of them. */
export interface Running {
  readonly instances: Map<InstanceId, Instance>;
  changed(instance: Instance, urgency: Urgency): void;
  gone(instance: Instance): void;
  /** Somebody asks for it, and nothing here tells of it. */
  lost(instance: InstanceId): void;
}

export interface AgentParts {
  readonly context: InstanceContext;
  readonly files: InstanceFiles;
  readonly processes: ProcessDriver;
  readonly builder: Builder;
  readonly logs: AppLogs;
  readonly appData: AppData;
  readonly reports: Reports;
  readonly sampler: Sampler;
  readonly sessions: Sessions;
  /** Sockets and status files of instances that are not `known`. */
  removeStrayFiles(known: (id: InstanceId) => boolean): void;
  close(): void;
}

const defaultGraceMs = 10_000;
const startsPerCore = 4;

/** Builds the agent's parts and ties them together. */
export function assemble(options: AgentOptions, tools: HostTools, running: Running): AgentParts {
  const { node, paths, wire, clock, random, uidBase } = options;
  const { instances } = running;
  const logs = createAppLogs(paths, clock, (project, line) =>
    wire.publish(subjects.logs(project, line.app), line as unknown as Json),
  );
  const layout = createLayout(paths, options.blobs, random);
  const cores = availableParallelism();
  const shares = new CpuShares(cores);
  const builder = createBuilder({ ...options, shares, tools, uidTop: uidBase - 1 });
  const preparation = new Preparation(layout, builder, wire, clock, uidBase);
  const releases = new Releases(options.ledger);
  const processes = createProcessDriver(options);
  const files = createInstanceFiles(nodePaths.instances(paths), nodePaths.beds(paths));
  const cpuSamples = new CpuSamples(node, random.token(12), wire, clock, instances);
  const sampler = createSampler(clock, instances, shares, (read) => cpuSamples.sampled(read));
  const suppression = new Suppression(options.cgroups, shares, cores, clock);
  const gateways = createGateways(
    wire,
    options.gateways,
    ({ instance, requests, lastRequestAt }) => {
      if (requests > 0) sampler.touch(instance);
      suppression.requested(instance, requests);
      // One in flight counts: its window must not break off before it ends.
      cpuSamples.requested(instance);
      instances.get(instance)?.feed({ kind: "requested", at: lastRequestAt });
    },
  );
  const reports = createReports(
    node,
    random.token(12),
    wire,
    clock,
    (id) => instances.get(id)?.status() ?? null,
    () => [...instances.values()].map((instance) => instance.status()),
    (id) => sleeperStatus(id, files, running),
    (id) => instances.get(id)?.totals() ?? null,
  );
  const leftovers: Leftovers = new Leftovers({
    ...{ ...options, releases, preparation, instances },
    offsetOf: (project, app) => appData.offsetOf(project, app),
  });
  const appData = new AppData(paths, clock, layout, logs, leftovers, (project, app) =>
    has(instances.values(), project, app),
  );
  const sessions = createSessions({
    ...options,
    shares,
    tools,
    visit: (id) => instances.get(id)?.visit() ?? null,
    prepare: (request, number) => prepareFor(releases, preparation, request, number),
  });
  const context: InstanceContext = {
    clock,
    random,
    processes,
    files,
    tools,
    uidBase,
    graceMs: options.graceMs ?? defaultGraceMs,
    shares,
    ready: new ReadyPool(options.readyMax, clock, availableMemory),
    gate: new StartGate(clock, startsPerCore * cores),
    openSecret: options.openSecret,
    release: ({ project, app, release }) => releases.get(project, app, release),
    prepare: (release, uidOffset, building) => preparation.prepare(release, uidOffset, building),
    log: ({ project, app, instance, process }) => logs.of({ project, app, instance, process }),
    quiesce: ({ instance }) => gateways.quiesce(instance),
    changed: running.changed,
    gone: running.gone,
  };
  return {
    ...{ context, files, processes, builder, logs, appData, reports, sampler, sessions },
    removeStrayFiles: (known) => removeStrayFiles(paths, known),
    close: () => closeAll([suppression, leftovers, reports, sampler, gateways, logs]),
  };
}

/** Whether one of them is the app's. */
function has(instances: Iterable<Instance>, project: ProjectName, app: AppName): boolean {
  return [...instances].some(({ assignment: its }) => its.project === project && its.app === app);
}

function sleeperStatus(
  id: InstanceId,
  files: InstanceFiles,
  running: Running,
): InstanceStatus | null {
  const sleeper = files.sleeper(id);
  if (sleeper !== null && sleeper !== "unreadable") return sleeper.status;
  running.lost(id);
  return null;
}

async function prepareFor(
  releases: Releases,
  preparation: Preparation,
  { project, app, uidOffset }: ExecRequest,
  number: number,
): Promise<Result<PreparedRelease, string>> {
  const release = await releases.get(project, app, number);
  if (!release.ok) return release;
  const leave = preparation.pin(release.value, uidOffset);
  const prepared = await preparation.prepare(release.value, uidOffset, () => {});
  if (prepared.ok) return ok({ release: release.value, prepared: prepared.value, leave });
  leave();
  return err(prepared.error.reason);
}

function closeAll(parts: readonly { close(): void }[]): void {
  for (const part of parts) part.close();
}

function removeStrayFiles(paths: CloudPaths, known: (id: InstanceId) => boolean): void {
  const folders = [
    dataPaths.appSockets(paths),
    nodePaths.instanceSockets(paths),
    nodePaths.statuses(paths),
  ];
  for (const folder of folders) {
    for (const name of readdirSync(folder)) {
      const id = name.replace(/\.sock(\.new)?$/, "") as InstanceId;
      if (!known(id)) rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}
