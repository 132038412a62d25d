import type { Timestamp } from "../base/time.ts";
import type { Limits } from "./limits.ts";
import type { AppName, Digest, ProcessType, ProjectName } from "./names.ts";

/** One file of a release. Paths are relative, `/`-separated, without `.` and `..`. */
export type ManifestEntry =
  | {
      readonly kind: "file";
      readonly path: string;
      readonly digest: Digest;
      readonly size: number;
      readonly executable: boolean;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | { readonly kind: "directory"; readonly path: string };

/** A release's file tree, sorted by path. Stored as a blob of canonical JSON. */
export interface Manifest {
  readonly entries: readonly ManifestEntry[];
}

/** How a process is started. All run with the release's root (`/app`) as working directory. */
export type Command =
  /** A module whose default export has `fetch`; Lode serves it on a unix socket. */
  | { readonly kind: "fetch"; readonly entry: string }
  /** Files under `root` (relative to the release), served by Lode on a unix socket. */
  | { readonly kind: "static"; readonly root: string }
  /** A shell line, as in a Procfile. */
  | { readonly kind: "shell"; readonly line: string }
  | { readonly kind: "argv"; readonly argv: readonly string[] };

/** Where requests reach a process: a unix socket, `PORT` on its own address, or nowhere. */
export type Listen = "unix" | "tcp" | "none";

export interface ProcessSpec {
  readonly command: Command;
  readonly listen: Listen;
}

/**
 * A build job in its own sandbox. `dependencies` leaves one folder (`output`, such as
 * `node_modules`), which is mounted read-only over the release and shared by every release
 * with the same `cacheKey`; `app` leaves the whole tree, which replaces the release's.
 */
export interface BuildStep {
  readonly produces: "dependencies" | "app";
  /** Files that the step may see (release paths); null is all of them. */
  readonly inputs: readonly string[] | null;
  readonly commands: readonly string[];
  readonly output: string;
  /** SHA-256 over inputs, commands and tool versions: equal keys give equal layers. */
  readonly cacheKey: string;
}

export interface HealthCheck {
  /** GET must answer 200–399; null: accepting a connection is enough. */
  readonly path: string | null;
  /** From start to healthy; beyond, the instance counts as failed. */
  readonly timeoutMs: number;
}

/** Where a request's key stands; requests with one key go to one instance. */
export type Affinity =
  /** `name` is lowercase; `host` is the name the request came to. */
  | { readonly kind: "header"; readonly name: string }
  | { readonly kind: "cookie"; readonly name: string }
  /** The path's segments are counted from 1. */
  | { readonly kind: "path"; readonly index: number }
  | { readonly kind: "query"; readonly name: string };

export interface HttpConfig {
  readonly process: ProcessType;
  readonly hosts: readonly string[];
  readonly health: HealthCheck;
  /** Absent: any instance can take any request. */
  readonly affinity?: Affinity;
}

/** ScaleConfig.inFlight where nothing is said. */
export const inFlightDefault = 32;

export interface ScaleConfig {
  /** Instances kept awake. 0: all may sleep. */
  readonly min: number;
  readonly max: number;
  /** Requests in flight per instance beyond which another starts, up to `max`. */
  readonly inFlight: number;
  /** Without a request for so long, instances beyond `min` are frozen; null: never. */
  readonly freezeMs: number | null;
  /** Without a request for so long, instances beyond `min` are stopped. */
  readonly idleMs: number;
}

/** Outbound addresses: public ones, none at all, or public and these private CIDR blocks. */
export type Egress =
  | { readonly kind: "public" }
  | { readonly kind: "none" }
  | { readonly kind: "public-and"; readonly cidrs: readonly string[] };

/** What was recognised and why, in a sentence a person understands. */
export interface Recognition {
  readonly kind: RuntimeKind;
  readonly reason: string;
}

export type RuntimeKind =
  | "lode.toml"
  | "procfile"
  | "package.json"
  | "fetch"
  | "python"
  | "jar"
  | "executable"
  | "static";

/** lode.toml, Procfile and package.json, normalised: everything that a release runs by. */
export interface ReleaseConfig {
  readonly recognition: Recognition;
  readonly processes: Readonly<Record<ProcessType, ProcessSpec>>;
  readonly build: readonly BuildStep[];
  /** Null: nothing of this release takes requests. */
  readonly http: HttpConfig | null;
  readonly limits: Limits;
  readonly scale: ScaleConfig;
  readonly egress: Egress;
  readonly env: Readonly<Record<string, string>>;
}

/** A secret sealed with the cloud's key: AES-256-GCM, base64 of nonce ‖ ciphertext ‖ tag. */
export type SealedSecret = string;

/** Immutable. Number n of an app is shown as `vN`. */
export interface Release {
  readonly project: ProjectName;
  readonly app: AppName;
  readonly number: number;
  readonly createdAt: Timestamp;
  readonly createdBy: string;
  /** `deploy`, `rollback to v3`, `env set A B`: why this release exists. */
  readonly cause: string;
  readonly manifest: Digest;
  readonly config: ReleaseConfig;
  /** App-wide environment at the time of the release; wins over `config.env`. */
  readonly env: Readonly<Record<string, string>>;
  readonly secrets: Readonly<Record<string, SealedSecret>>;
}

/** The fate of a release: hard state, written by control only. */
export type Deployment = {
  readonly project: ProjectName;
  readonly app: AppName;
  readonly number: number;
  readonly startedAt: Timestamp;
} & (
  | { readonly state: "starting" }
  /** Its `release` process ended with 0, or it has none; instances come up. */
  | { readonly state: "serving"; readonly servingAt: Timestamp }
  /** Served once, replaced by a later release. */
  | { readonly state: "replaced"; readonly servingAt: Timestamp; readonly endedAt: Timestamp }
  /** A later release came before this one served. */
  | { readonly state: "superseded"; readonly endedAt: Timestamp }
  | {
      readonly state: "failed";
      readonly endedAt: Timestamp;
      readonly stage: "build" | "release" | "start";
      readonly reason: string;
      readonly logTail: readonly string[];
    }
);

export function releaseName(number: number): string {
  return `v${number}`;
}
