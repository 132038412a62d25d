import type { Timestamp } from "../base/time.ts";
import type { Bounds } from "./limits.ts";
import type { AppName, ProcessType, ProjectName } from "./names.ts";
import type { SealedSecret } from "./release.ts";

export interface Project {
  readonly name: ProjectName;
  readonly createdAt: Timestamp;
}

/** Limits set by `lode limits`; they win over the release's and change live instances. */
export interface LimitsOverride {
  readonly cpu: Bounds | null;
  readonly memory: Bounds | null;
}

export interface App {
  readonly project: ProjectName;
  readonly name: AppName;
  readonly createdAt: Timestamp;
  /**
   * The app's own number in the pool, never given again. Its host uid and gid on every node
   * are the node's uid base plus this number.
   */
  readonly uidOffset: number;
  /** The number the next release gets; releases are ordered by it. */
  readonly nextRelease: number;
  /** The release that is wanted: the newest that has not failed. Null before the first. */
  readonly target: number | null;
  /** The release that routes point to. Null until one became healthy. */
  readonly serving: number | null;
  /** Instances wanted per process type, set by `lode scale`; absent: the release decides. */
  readonly counts: Readonly<Record<ProcessType, number>>;
  readonly limits: LimitsOverride;
  readonly env: Readonly<Record<string, string>>;
  readonly secrets: Readonly<Record<string, SealedSecret>>;
  /** Set by `lode rm`: instances end, then the record goes. */
  readonly removing: boolean;
}
