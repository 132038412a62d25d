import type { z } from "@hono/zod-openapi";
import { ok, type Result } from "../../base/result.ts";
import { followEvents } from "./client/events.ts";
import { type ExecChannel, type ExecStart, openExec } from "./client/exec.ts";
import {
  type Answered,
  type Ask,
  type ClientError,
  createTransport,
  type Endpoint,
  type Fetch,
} from "./client/transport.ts";
import {
  findMissing,
  type Upload,
  type UploadError,
  type UploadProgress,
  uploadAll,
} from "./client/upload.ts";
import type * as schemas from "./schemas.ts";
import type { statusSchema } from "./statusSchema.ts";
import type * as tokens from "./tokenSchemas.ts";
import type { topFrameSchema } from "./topSchema.ts";

export type { ExecChannel, ExecEvent, ExecStart } from "./client/exec.ts";
export type { Answered, ClientError, Endpoint, Fetch } from "./client/transport.ts";
export type { Upload, UploadError, UploadProgress } from "./client/upload.ts";
export type { ProblemDocument } from "./problems.ts";

export type App = z.infer<typeof schemas.appSchema>;
export type Instance = z.infer<typeof schemas.instanceSchema>;
export type Release = z.infer<typeof schemas.releaseSchema>;
export type Manifest = z.infer<typeof schemas.manifestSchema>;
export type ManifestEntry = Manifest["entries"][number];
export type Bounds = NonNullable<App["limits"]["cpu"]>;
export type DeployAccepted = z.infer<typeof schemas.deployAcceptedSchema>;
export type DeploymentEvent = z.infer<typeof schemas.deploymentEventSchema>;
export type Costs = z.infer<typeof schemas.costsSchema>;
export type LogLine = z.infer<typeof schemas.logLineSchema>;
export type TopFrame = z.infer<typeof topFrameSchema>;
export type Status = z.infer<typeof statusSchema>;
export type Certificate = z.infer<typeof schemas.certificateSchema>;
export type CertificateSet = z.infer<typeof schemas.certificateSetSchema>;
export type Token = z.infer<typeof tokens.tokenSchema>;
export type TokenCreated = z.infer<typeof tokens.tokenCreatedSchema>;
export type VariableChanges = Readonly<Record<string, string | null>>;

export interface LogsQuery {
  readonly process: string | null;
  readonly instance: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly since: number | null;
  readonly tail: number;
}

/** The native API as typed calls within one project. What it promises is in docs/api.md. */
export interface Client {
  readonly endpoint: Endpoint;
  status(): Answered<Status>;
  listApps(): Answered<readonly App[]>;
  getApp(app: string): Answered<App>;
  removeApp(app: string): Answered<void>;
  listInstances(app: string | null): Answered<readonly Instance[]>;
  costs(app: string): Answered<Costs>;
  findMissing(digests: readonly string[]): Answered<ReadonlySet<string>>;
  upload(
    uploads: readonly Upload[],
    onProgress: (progress: UploadProgress) => void,
  ): Promise<Result<void, UploadError>>;
  deploy(app: string, manifest: Manifest): Answered<DeployAccepted>;
  /** Calls back for each event, once, and returns after `end`. */
  watchDeployment(
    app: string,
    release: number,
    onEvent: (event: DeploymentEvent) => void,
    /** The connection broke; it is tried again for a few seconds. */
    onInterruption?: () => void,
  ): Answered<void>;
  listReleases(app: string): Answered<readonly Release[]>;
  getRelease(app: string, release: number): Answered<Release>;
  rollback(app: string, release: number | null): Answered<DeployAccepted>;
  changeEnvironment(app: string, changes: VariableChanges): Answered<{ release: number | null }>;
  changeSecrets(app: string, changes: VariableChanges): Answered<{ release: number | null }>;
  scale(app: string, counts: Readonly<Record<string, number>>): Answered<App>;
  limit(app: string, limits: { readonly cpu?: Bounds; readonly memory?: Bounds }): Answered<App>;
  logs(app: string, query: LogsQuery): Answered<readonly LogLine[]>;
  /** Calls back for each line until `signal` fires. */
  followLogs(
    app: string,
    query: LogsQuery,
    onLine: (line: LogLine) => void,
    signal: AbortSignal,
  ): Answered<void>;
  exec(app: string, start: ExecStart): Answered<ExecChannel>;
  run(app: string, start: ExecStart): Answered<ExecChannel>;
  listCertificates(): Answered<readonly Certificate[]>;
  setCertificate(
    name: string,
    certificate: { readonly certificateChain: string; readonly privateKey: string },
  ): Answered<CertificateSet>;
  removeCertificate(name: string): Answered<void>;
  listTokens(): Answered<readonly Token[]>;
  /** `expiresAt` null: never. */
  createToken(
    name: string,
    role: "admin" | "metrics",
    expiresAt: number | null,
  ): Answered<TokenCreated>;
  /** Calls back about once a second until it returns "done" or `signal` fires. */
  watchTop(onFrame: (frame: TopFrame) => "more" | "done", signal: AbortSignal): Answered<void>;
  revokeToken(id: string): Answered<void>;
}

const answerWithinMs = 60_000;
const pageSize = 1000;

export function createClient(
  endpoint: Endpoint,
  options: { readonly project?: string; readonly fetch?: Fetch } = {},
): Client {
  const transport = createTransport(endpoint, options.fetch ?? globalThis.fetch);
  const project = `/v1/projects/${options.project ?? "default"}`;
  const appPath = (app: string) => `${project}/apps/${encodeURIComponent(app)}`;

  const get = <Value>(path: string): Answered<Value> =>
    transport.askJson({ method: "GET", path, repeatable: true, timeoutMs: answerWithinMs });
  const change = <Value>(method: Ask["method"], path: string, json?: unknown): Answered<Value> =>
    transport.askJson({ method, path, json, repeatable: false, timeoutMs: answerWithinMs });

  async function all<Item>(path: string): Answered<readonly Item[]> {
    const items: Item[] = [];
    for (let after: string | null = null; ; ) {
      const query = new URLSearchParams({ limit: String(pageSize) });
      if (after !== null) query.set("after", after);
      const page: Result<{ items: Item[]; next: string | null }, ClientError> = await get(
        `${path}?${query}`,
      );
      if (!page.ok) return page;
      items.push(...page.value.items);
      after = page.value.next;
      if (after === null) return ok(items);
    }
  }

  return {
    endpoint,
    ...listings(get, all, project, appPath),
    ...changes(change, appPath),
    findMissing: (digests) => findMissing(transport, digests),
    upload: (uploads, onProgress) => uploadAll(transport, uploads, onProgress),
    watchDeployment: (app, release, onEvent, onInterruption) =>
      followEvents(transport, {
        path: `${appPath(app)}/releases/${release}/events`,
        // A restart of lode takes a second or two.
        absentMsMax: 5000,
        ...(onInterruption === undefined ? {} : { onInterruption }),
        onEvent: ({ data }) => {
          const event = JSON.parse(data) as DeploymentEvent;
          onEvent(event);
          return event.kind === "end" ? "done" : "more";
        },
      }),
    async logs(app, query) {
      const answer = await get<{ lines: LogLine[] }>(
        `${appPath(app)}/logs?${logsParameters(query, false)}`,
      );
      return answer.ok ? ok(answer.value.lines) : answer;
    },
    followLogs: (app, query, onLine, signal) =>
      followEvents(transport, {
        path: `${appPath(app)}/logs?${logsParameters(query, true)}`,
        signal,
        onEvent: ({ data }) => {
          onLine(JSON.parse(data) as LogLine);
          return "more";
        },
      }),
    watchTop: (onFrame, signal) =>
      followEvents(transport, {
        path: `${project}/top`,
        signal,
        onEvent: ({ data }) => onFrame(JSON.parse(data) as TopFrame),
      }),
    exec: (app, start) => openExec(endpoint, `${appPath(app)}/exec`, start),
    run: (app, start) => openExec(endpoint, `${appPath(app)}/run`, start),
  };
}

type Get = <Value>(path: string) => Answered<Value>;
type All = <Item>(path: string) => Answered<readonly Item[]>;
type Change = <Value>(method: Ask["method"], path: string, json?: unknown) => Answered<Value>;
type AppPath = (app: string) => string;

function listings(get: Get, all: All, project: string, appPath: AppPath) {
  return {
    status: () => get<Status>("/v1/status"),
    listApps: () => all<App>(`${project}/apps`),
    getApp: (app: string) => get<App>(appPath(app)),
    listInstances: (app: string | null) =>
      all<Instance>(app === null ? `${project}/instances` : `${appPath(app)}/instances`),
    costs: (app: string) => get<Costs>(`${appPath(app)}/costs`),
    listReleases: (app: string) => all<Release>(`${appPath(app)}/releases`),
    getRelease: (app: string, release: number) =>
      get<Release>(`${appPath(app)}/releases/${release}`),
    listCertificates: () => all<Certificate>("/v1/certificates"),
    listTokens: () => all<Token>("/v1/tokens"),
  } satisfies Partial<Client>;
}

function changes(change: Change, appPath: AppPath) {
  const certificate = (name: string) => `/v1/certificates/${encodeURIComponent(name)}`;
  return {
    removeApp: (app) => change("DELETE", appPath(app)),
    deploy: (app, manifest) => change("POST", `${appPath(app)}/releases`, { manifest }),
    rollback: (app, release) => change("POST", `${appPath(app)}/rollback`, { release }),
    changeEnvironment: (app, values) => change("PATCH", `${appPath(app)}/env`, { changes: values }),
    changeSecrets: (app, values) => change("PATCH", `${appPath(app)}/secrets`, { changes: values }),
    scale: (app, counts) => change("PATCH", `${appPath(app)}/scale`, { counts }),
    limit: (app, limits) => change("PATCH", `${appPath(app)}/limits`, limits),
    setCertificate: (name, pair) => change("PUT", certificate(name), pair),
    removeCertificate: (name) => change("DELETE", certificate(name)),
    createToken: (name, role, expiresAt) => change("POST", "/v1/tokens", { name, role, expiresAt }),
    revokeToken: (id) => change("DELETE", `/v1/tokens/${encodeURIComponent(id)}`),
  } satisfies Partial<Client>;
}

function logsParameters(query: LogsQuery, follow: boolean): URLSearchParams {
  const parameters = new URLSearchParams({ tail: String(query.tail), follow: String(follow) });
  if (query.process !== null) parameters.set("process", query.process);
  if (query.instance !== null) parameters.set("instance", query.instance);
  if (query.since !== null) parameters.set("since", String(query.since));
  return parameters;
}
