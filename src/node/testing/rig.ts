// A cloud of one agent on the real thing: sandboxes, cgroups, network namespaces, files. Only
// the fabric is in memory.

import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { patienceMs } from "../../../test/harness/pace.ts";
import type { Json } from "../../base/json.ts";
import { createMemoryBlobs } from "../../fabric/memory/blobs.ts";
import { createMemoryLedger } from "../../fabric/memory/ledger.ts";
import { createMemoryWire } from "../../fabric/memory/wire.ts";
import { systemClock, systemRandom } from "../../fabric/system.ts";
import type { Assignment, Endpoint, InstancePhase } from "../../model/instance.ts";
import { keys } from "../../model/keys.ts";
import { defaultLimits, type Limits } from "../../model/limits.ts";
import {
  type AppName,
  type Digest,
  defaultProject,
  type InstanceId,
  type NodeName,
  type ProcessType,
  webProcess,
} from "../../model/names.ts";
import type {
  BuildStep,
  Command,
  Listen,
  ManifestEntry,
  Release,
  ReleaseConfig,
} from "../../model/release.ts";
import { type LogsReply, type NodeReport, subjects, type WakeReply } from "../../model/wire.ts";
import { type Agent, createAgent } from "../agent.ts";
import type { CgroupTree } from "../cgroup/cgroup.ts";
import { openCgroupTree } from "../cgroup/detect.ts";
import { createExitWatcher } from "../linux/exit-watcher.ts";
import { openKernelEvents } from "../linux/kernel-events.ts";
import { openNetwork } from "../network/open.ts";
import { type CloudPaths, cloudPaths } from "../paths.ts";
import { openSandbox } from "../sandbox/open.ts";
import { closeDisk } from "../volume/disk.ts";

export const node = "n1" as NodeName;

export const cleanups: (() => void | Promise<void>)[] = [];

/** Call after each test. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export interface Cloud {
  readonly ledger: ReturnType<typeof createMemoryLedger>;
  readonly wire: ReturnType<typeof createMemoryWire>;
  readonly blobs: ReturnType<typeof createMemoryBlobs>;
  readonly paths: CloudPaths;
  agent: Agent;
  readonly uidBase: number;
  cgroups(): CgroupTree;
  readonly gateways: string[];
  /** As a new lode does after the old one's end. */
  restart(): Promise<void>;
}

/** Where the records of a cloud are. */
export type Records = Pick<Cloud, "ledger" | "blobs">;

export function memoryRecords(): Records {
  const clock = systemClock;
  return { ledger: createMemoryLedger({ clock }), blobs: createMemoryBlobs({ clock }) };
}

/** Folders of a new cloud, gone after the test. */
export function newPaths(): CloudPaths {
  const data = mkdtempSync(join(tmpdir(), "lode-agent-"));
  const paths = cloudPaths(data, systemRandom.token(6));
  mkdirSync(paths.run, { recursive: true });
  cleanups.push(async () => {
    await closeDisk(paths);
    rmSync(data, { recursive: true, force: true });
    rmSync(paths.run, { recursive: true, force: true });
  });
  return paths;
}

export function newUidBase(): number {
  return 300_000 + Math.floor(systemRandom.next() * 1000) * 1000;
}

/** The node's real parts. */
export async function openHost(paths: CloudPaths) {
  const { cloud, run: runDirectory } = paths;
  const clock = systemClock;
  const opened = must(await openNetwork({ cloud, runDirectory, poolSize: 2, clock }));
  const { network, nameServers } = opened;
  const events = must(openKernelEvents());
  const cgroups = must(openCgroupTree({ cloud, runDirectory, clock, events }));
  const exits = createExitWatcher(events);
  const sandbox = must(
    openSandbox({ runDirectory, shown: [paths.data], nameServers, cgroups, network, clock }),
  );
  return {
    ...{ cgroups, sandbox, exits, network },
    async close(): Promise<void> {
      await network.close();
      sandbox.close();
      exits.close();
      events.close();
    },
    /** With everything that it made. */
    async destroy(): Promise<void> {
      await cgroups.destroy();
      await network.destroy();
      await this.close();
    },
  };
}

/** What tests set otherwise than usual. */
export interface AgentSettings {
  readonly bedMs?: number;
  readonly readyMax?: number;
  readonly leftoversMs?: number;
}

export function openAgent(
  cloud: Omit<Cloud, "agent" | "cgroups" | "restart">,
  { cgroups, network, sandbox, exits }: Awaited<ReturnType<typeof openHost>>,
  { bedMs = 30_000, readyMax = 4, leftoversMs = 600_000 }: AgentSettings = {},
): Agent {
  const { paths, ledger, wire, blobs, uidBase } = cloud;
  return createAgent({
    ...{ node, paths, ledger, wire, blobs, uidBase, cgroups, network, sandbox, exits },
    clock: systemClock,
    random: systemRandom,
    openSecret: (sealed) => sealed.replace("sealed:", ""),
    gateways: () => cloud.gateways,
    graceMs: 2000,
    readyMax,
    ...{ bedMs, leftoversMs },
  });
}

export async function startCloud(settings: AgentSettings = {}): Promise<Cloud> {
  const paths = newPaths();
  const parts = {
    ...{ ...memoryRecords(), paths, wire: createMemoryWire(), uidBase: newUidBase() },
    gateways: [] as string[],
  };
  let host = await openHost(paths);
  const cloud: Cloud = {
    ...parts,
    cgroups: () => host.cgroups,
    agent: openAgent(parts, host, settings),
    async restart() {
      await cloud.agent.close();
      await host.close();
      host = await openHost(paths);
      cloud.agent = openAgent(parts, host, settings);
      must(await cloud.agent.start());
    },
  };
  cleanups.push(async () => {
    await cloud.agent.stopAll();
    await host.destroy();
  });
  must(await cloud.agent.start());
  return cloud;
}

export function must<Value>(
  result: { ok: true; value: Value } | { ok: false; error: unknown },
): Value {
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
}

export type Files = Readonly<Record<string, string | { readonly run: string }>>;

export interface AppOptions {
  readonly command: Command;
  readonly listen: Listen;
  readonly process?: ProcessType;
  readonly build?: readonly BuildStep[];
  readonly env?: Readonly<Record<string, string>>;
  readonly secrets?: Readonly<Record<string, string>>;
  readonly limits?: Limits;
  readonly freezeMs?: number;
  readonly idleMs?: number;
  readonly keepAwake?: boolean;
  readonly healthPath?: string;
  readonly timeoutMs?: number;
}

let lastOffset = 0;

/** Records an app's release and one assignment of it, as control does. */
export async function deploy(
  cloud: Records,
  name: string,
  files: Files,
  options: AppOptions,
): Promise<Assignment> {
  const app = name as AppName;
  const process = options.process ?? webProcess;
  lastOffset += 1;
  const limits = options.limits ?? defaultLimits;
  const health = {
    path: options.healthPath ?? null,
    timeoutMs: options.timeoutMs ?? patienceMs(10_000),
  };
  const config: ReleaseConfig = {
    recognition: { kind: "fetch", reason: "a test" },
    processes: { [process]: { command: options.command, listen: options.listen } },
    build: options.build ?? [],
    http: options.listen === "none" ? null : { process, hosts: [], health },
    limits,
    scale: { min: 0, max: 1, inFlight: 32, freezeMs: null, idleMs: 300_000 },
    egress: { kind: "public" },
    env: {},
  };
  const release: Release = {
    ...{ project: defaultProject, app, number: 1, createdAt: 0, createdBy: "test" },
    cause: "deploy",
    manifest: await putManifest(cloud, files),
    config,
    env: options.env ?? {},
    secrets: options.secrets ?? {},
  };
  const assignment: Assignment = {
    instance: `i${systemRandom.token(11)}` as InstanceId,
    ...{ node, project: defaultProject, app, release: 1, process, uidOffset: lastOffset, limits },
    keepAwake: options.keepAwake ?? true,
    freezeMs: options.freezeMs ?? null,
    idleMs: options.idleMs ?? 300_000,
    drain: null,
    createdAt: 0,
  };
  await put(cloud, keys.app(defaultProject, app), {
    project: defaultProject,
    name: app,
    uidOffset: lastOffset,
  });
  await put(cloud, keys.release(defaultProject, app, 1), release as unknown as Json);
  await assign(cloud, assignment);
  return assignment;
}

export async function putManifest(cloud: Records, files: Files): Promise<Digest> {
  const entries: ManifestEntry[] = [];
  for (const path of Object.keys(files).sort()) {
    const file = files[path] ?? "";
    const bytes = new TextEncoder().encode(typeof file === "string" ? file : file.run);
    const executable = typeof file !== "string";
    const digest = await putBlob(cloud, bytes);
    entries.push({ kind: "file", path, digest, size: bytes.length, executable });
  }
  return putBlob(cloud, new TextEncoder().encode(JSON.stringify({ entries })));
}

export async function putBlob(cloud: Records, bytes: Uint8Array): Promise<Digest> {
  const digest = createHash("sha256").update(bytes).digest("hex") as Digest;
  must(await cloud.blobs.put(digest, bytes));
  return digest;
}

export async function put(cloud: Records, key: string, value: Json): Promise<void> {
  const writes = [{ kind: "put" as const, key, value: JSON.stringify(value) }];
  must(await cloud.ledger.transact({ conditions: [], writes }));
}

export async function assign(cloud: Records, assignment: Assignment): Promise<void> {
  await put(cloud, keys.assignment(node, assignment.instance), assignment as unknown as Json);
}

export async function unassign(cloud: Records, { instance }: Assignment): Promise<void> {
  const writes = [{ kind: "delete" as const, key: keys.assignment(node, instance) }];
  must(await cloud.ledger.transact({ conditions: [], writes }));
}

export async function report(cloud: Cloud): Promise<NodeReport> {
  const reply = await cloud.wire.request(
    subjects.nodeReport(node),
    { also: [] },
    { timeoutMs: patienceMs(2000) },
  );
  return must(reply) as unknown as NodeReport;
}

export async function phaseOf(
  cloud: Cloud,
  { instance }: Assignment,
): Promise<InstancePhase | null> {
  const { instances } = await report(cloud);
  return instances.find((status) => status.instance === instance)?.phase ?? null;
}

export type PhaseOf<State> = Extract<InstancePhase, { state: State }>;

export async function reach<State extends InstancePhase["state"]>(
  cloud: Cloud,
  assignment: Assignment,
  state: State,
): Promise<PhaseOf<State>> {
  for (let attempt = 0; attempt < patienceMs(3000); attempt++) {
    const phase = await phaseOf(cloud, assignment);
    if (phase?.state === state) return phase as PhaseOf<State>;
    if (phase?.state === "failed") break;
    await Bun.sleep(10);
  }
  const phase = JSON.stringify(await phaseOf(cloud, assignment));
  throw new Error(`waited for ${state}, it is ${phase}\n${await logText(cloud, assignment)}`);
}

export async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  for (let attempt = 0; attempt < patienceMs(1000); attempt++) {
    if (await holds()) return;
    await Bun.sleep(10);
  }
  throw new Error(`waited in vain until ${what}`);
}

export async function logText(
  cloud: Cloud,
  { app }: Assignment,
  followMs?: number,
): Promise<string> {
  const reply = await cloud.wire.request(
    subjects.nodeLogs(node),
    {
      ...{ project: defaultProject, app, process: null, instance: null, since: null, tail: 200 },
      ...(followMs === undefined ? {} : { followMs }),
    },
    { timeoutMs: patienceMs(2000) },
  );
  const { lines } = must(reply) as unknown as LogsReply;
  return lines.map(({ stream, text }) => `${stream}: ${text}`).join("\n");
}

export function get(endpoint: Endpoint | null, path = "/"): Promise<string> {
  if (endpoint === null) throw new Error("no endpoint");
  const where =
    endpoint.kind === "unix"
      ? { socketPath: endpoint.path }
      : { host: endpoint.host, port: endpoint.port };
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ ...where, path, headers: { host: "app.test" } }, (response) => {
      let body = "";
      response.on("data", (chunk) => {
        body += chunk;
      });
      response.on("end", () => resolve(body));
    });
    sent.on("error", reject);
    sent.end();
  });
}

export async function wake(cloud: Cloud, { instance }: Assignment): Promise<WakeReply> {
  const request = { instance };
  const reply = await cloud.wire.request(subjects.nodeWake(node), request, {
    timeoutMs: patienceMs(20_000),
  });
  return must(reply) as unknown as WakeReply;
}

export const helloFetch = `export default {
  fetch: () => new Response("hello from " + process.env.LODE_APP + " " + process.pid),
};`;
export const fetchApp: AppOptions = { command: { kind: "fetch", entry: "app.ts" }, listen: "unix" };
export const nodeServer = `
const http = require("node:http");
const { PORT, HOST, SECRET } = process.env;
http.createServer((_, response) => response.end("node " + PORT + " " + SECRET)).listen(PORT, HOST);
process.on("SIGTERM", () => process.exit(0));`;
