import type { Result } from "../base/result.ts";
import type { Timestamp } from "../base/time.ts";
import type { App } from "../model/app.ts";
import type { InstanceStatus, NodeCapacity } from "../model/instance.ts";
import type { Bounds } from "../model/limits.ts";
import type {
  AppName,
  Digest,
  InstanceId,
  NodeName,
  ProcessType,
  ProjectName,
} from "../model/names.ts";
import type { Deployment, Manifest, Recognition, Release } from "../model/release.ts";
import type { CostClass, DeploymentEvent, ExecInput, ExecOutput, LogLine } from "../model/wire.ts";
import type { Collected } from "./collect/collector.ts";

/** The closed set of refusals and failures of every operation. */
export type OperationErrorCode =
  | "invalid"
  | "notFound"
  | "conflict"
  | "forbidden"
  | "tooLarge"
  | "unprocessable"
  | "unavailable"
  | "storageFull"
  | "internal";

export interface OperationError {
  readonly code: OperationErrorCode;
  /** One sentence: what is wrong and where. */
  readonly message: string;
  /** How to mend it, where there is a way. */
  readonly remedy: string | null;
  /** A JSON pointer or file path to what is wrong, where there is one. */
  readonly at: string | null;
}

export type Outcome<Value> = Promise<Result<Value, OperationError>>;

/** Who asks: recorded as the author of what changes. */
export interface Actor {
  readonly id: string;
}

export interface AppRef {
  readonly project: ProjectName;
  readonly app: AppName;
}

export interface Page<Item> {
  readonly items: readonly Item[];
  /** Pass as `after` for the next page; null at the end. */
  readonly next: string | null;
}

export interface PageRequest {
  readonly after: string | null;
  /** 1–1000. */
  readonly limit: number;
}

/** An app as users see it: no sealed secrets, only their names. */
export interface AppView {
  readonly project: ProjectName;
  readonly name: AppName;
  readonly createdAt: Timestamp;
  readonly urls: readonly string[];
  readonly serving: number | null;
  readonly target: number | null;
  readonly counts: App["counts"];
  readonly limits: App["limits"];
  readonly env: Readonly<Record<string, string>>;
  readonly secretNames: readonly string[];
  readonly state: "empty" | "deploying" | "serving" | "asleep" | "degraded" | "failed" | "removing";
  readonly instances: readonly InstanceView[];
}

/** What gateways learned of an app's requests. */
export interface CostsView {
  /** By cost times requests, the greatest first. */
  readonly classes: readonly CostClass[];
  /** CPU-µs a second that an instance uses by itself. */
  readonly idleUs: number;
  /** Requests are placed by cost; else by how many are in flight. */
  readonly sure: boolean;
  /** Null: nothing was learned yet. */
  readonly learnedAt: Timestamp | null;
}

export type InstanceView = InstanceStatus & { readonly node: NodeName };

export interface ReleaseView {
  readonly release: Omit<Release, "secrets"> & { readonly secretNames: readonly string[] };
  readonly deployment: Deployment;
}

export interface DeployRequest {
  /** Sorted by path; checked again here, whatever the client checked. */
  readonly manifest: Manifest;
}

export interface DeployAccepted {
  readonly app: AppName;
  readonly release: number;
  readonly url: string | null;
  readonly recognition: Recognition;
}

export interface ExecSession {
  input(message: ExecInput): void;
  /** Ends after `exit`. */
  readonly output: AsyncIterable<ExecOutput>;
  close(): void;
}

export interface CloudStatus {
  readonly version: string;
  readonly domain: string;
  readonly httpPort: number;
  readonly httpsPort: number | null;
  readonly nodes: readonly {
    readonly name: NodeName;
    readonly capacity: NodeCapacity;
    readonly alive: boolean;
    readonly instances: number;
  }[];
  readonly apps: number;
  readonly instances: number;
  /** Earlier releases kept of each app to roll back to. */
  readonly releasesKept: number;
  /** What no release needed any more, since lode started: files, and folders on the nodes. */
  readonly collected: Collected;
}

/** Metrics of one name, in the terms of Prometheus. */
export interface MetricFamily {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly name: string;
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

export interface MetricSample {
  readonly suffix: "" | "_bucket" | "_sum" | "_count";
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What a project's apps do at one moment. */
export interface TopFrame {
  readonly at: Timestamp;
  /** Those that do something, the busiest first; then as many of the others as have room. */
  readonly apps: readonly TopApp[];
  /** Apps left out for want of room. */
  readonly more: number;
}

export interface TopApp {
  readonly app: AppName;
  readonly state: AppView["state"];
  readonly cpuCores: number;
  readonly memoryBytes: number;
  readonly requestsPerSecond: number;
  /** Being served or held, at present. */
  readonly inFlight: number;
  readonly held: number;
  readonly instances: readonly TopInstance[];
}

export interface TopInstance {
  readonly instance: InstanceId;
  readonly node: NodeName;
  readonly release: number;
  readonly process: ProcessType;
  readonly state: InstanceStatus["phase"]["state"];
  readonly requestsPerSecond: number;
  readonly inFlight: number;
  /** Null while it does not run. */
  readonly usage: InstanceStatus["usage"];
}

/**
 * Control's only public door: everything a user can do. The API, and later EC2, S3 and the
 * portal, are wire formats over these operations. All are safe to call on any replica.
 */
export interface Operations {
  status(): Outcome<CloudStatus>;

  listApps(project: ProjectName, page: PageRequest): Outcome<Page<AppView>>;
  getApp(ref: AppRef): Outcome<AppView>;
  /** Ends every instance, then forgets the app, its releases, hosts and data. */
  removeApp(ref: AppRef, actor: Actor): Outcome<void>;

  /** Of the given digests, those the cloud lacks. */
  missingBlobs(digests: readonly Digest[]): Outcome<readonly Digest[]>;
  putBlob(digest: Digest, content: ReadableStream<Uint8Array>): Outcome<{ size: number }>;

  /**
   * Creates the app if need be and a release of it, which then goes its way: build, release
   * process, start, switch. Returns as soon as the release is recorded; of concurrent calls
   * the one with the higher release number wins.
   */
  deploy(ref: AppRef, request: DeployRequest, actor: Actor): Outcome<DeployAccepted>;
  /** The release's events from its beginning, ending with `end`. */
  watchDeployment(
    ref: AppRef,
    release: number,
    signal: AbortSignal,
  ): Outcome<AsyncIterable<DeploymentEvent>>;
  listReleases(ref: AppRef, page: PageRequest): Outcome<Page<ReleaseView>>;
  getRelease(ref: AppRef, release: number): Outcome<ReleaseView>;
  /** A new release with the files and configuration of `release`; null: the one before. */
  rollback(ref: AppRef, release: number | null, actor: Actor): Outcome<DeployAccepted>;

  /** A null value unsets. Each makes a new release; `release` is null before the first deploy. */
  setEnv(
    ref: AppRef,
    changes: Readonly<Record<string, string | null>>,
    actor: Actor,
  ): Outcome<{ release: number | null }>;
  setSecrets(
    ref: AppRef,
    changes: Readonly<Record<string, string | null>>,
    actor: Actor,
  ): Outcome<{ release: number | null }>;

  /**
   * Wanted instances per process type. 0 for the process that takes requests puts it to sleep
   * now (the next request wakes it); for others it ends them.
   */
  scale(ref: AppRef, counts: Readonly<Record<ProcessType, number>>, actor: Actor): Outcome<AppView>;
  /** Takes effect on the live processes; a null bound lifts it, absent leaves it. */
  setLimits(
    ref: AppRef,
    limits: { readonly cpu?: Bounds; readonly memory?: Bounds },
    actor: Actor,
  ): Outcome<AppView>;

  /** By id; a page may have fewer than asked for, and even none, before the last. */
  listInstances(project: ProjectName, page: PageRequest): Outcome<Page<InstanceView>>;
  listAppInstances(ref: AppRef): Outcome<readonly InstanceView[]>;
  /** A frame about every second. */
  top(project: ProjectName, signal: AbortSignal): Outcome<AsyncIterable<TopFrame>>;
  /** Of all projects. */
  metrics(): Outcome<readonly MetricFamily[]>;

  /** What a request of each route class costs; empty before anything was learned. */
  costs(ref: AppRef): Outcome<CostsView>;

  /** The newest `tail` lines since `since`, then, with `follow`, what comes. */
  logs(
    ref: AppRef,
    query: {
      readonly process: ProcessType | null;
      readonly instance: InstanceId | null;
      readonly since: Timestamp | null;
      readonly tail: number;
      readonly follow: boolean;
    },
    signal: AbortSignal,
  ): Outcome<AsyncIterable<LogLine>>;

  /** Joins a running instance (null: any one of the serving release). */
  exec(
    ref: AppRef,
    request: {
      readonly instance: InstanceId | null;
      readonly argv: readonly string[];
      readonly terminal: { readonly columns: number; readonly rows: number } | null;
    },
    actor: Actor,
  ): Outcome<ExecSession>;
  /** A one-off sandbox of the serving release. */
  run(
    ref: AppRef,
    request: {
      readonly argv: readonly string[];
      readonly terminal: { readonly columns: number; readonly rows: number } | null;
    },
    actor: Actor,
  ): Outcome<ExecSession>;

  /** Replaces the named certificate; gateways use it for the next handshake. */
  setCertificate(
    name: string,
    certificate: { readonly certificateChain: string; readonly privateKey: string },
    actor: Actor,
  ): Outcome<{ hosts: readonly string[]; expiresAt: Timestamp }>;
  listCertificates(): Outcome<
    readonly { name: string; hosts: readonly string[]; expiresAt: Timestamp }[]
  >;
  removeCertificate(name: string, actor: Actor): Outcome<void>;
}
