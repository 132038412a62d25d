import type { Endpoint, UnixEndpoint } from "./instance.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "./names.ts";
import type { Affinity } from "./release.ts";
import type { AppCosts } from "./wire.ts";

/** One back end of an app, as gateways see it. */
export interface RouteInstance {
  readonly instance: InstanceId;
  readonly node: NodeName;
  /** Its column in the shared load table; stable while the instance exists. */
  readonly column: number;
  /** Cores it may use (its max, or the machine). */
  readonly cores: number;
  readonly state:
    | { readonly kind: "running"; readonly endpoint: Endpoint }
    /**
     * Frozen or asleep: must be woken with a `wake` request first. `socket` of one that is frozen:
     * takes connections meanwhile, and such requests as may be sent twice.
     */
    | { readonly kind: "asleep"; readonly socket?: UnixEndpoint }
    /** Coming up or backing off: of use to a request that can wait. `again`: it served before. */
    | { readonly kind: "starting"; readonly again?: true };
}

/** Where the requests of one app go: only to instances of the release that serves. */
export interface AppRoute {
  readonly project: ProjectName;
  readonly app: AppName;
  /** The release that serves; null: nothing was ever healthy (503 with `problem`). */
  readonly release: number | null;
  /** Lowercase, without port. */
  readonly hosts: readonly string[];
  readonly instances: readonly RouteInstance[];
  /** Requests in flight at an instance beyond which a sleeping one is woken beside it. */
  readonly requestsPerInstance: number;
  /** Back ends that drain: no new requests; WebSockets get a close and 30 s. */
  readonly draining: readonly InstanceId[];
  /** A sentence for the 502/503 page when no instance can take a request. */
  readonly problem: string | null;
  /** Absent: requests have no keys. */
  readonly affinity?: Affinity;
}

export interface Certificate {
  /** Exact names and `*.` wildcards. */
  readonly hosts: readonly string[];
  /** PEM, leaf first. */
  readonly certificateChain: string;
  /** PEM. */
  readonly privateKey: string;
}

export interface RoutesRequest {
  /** Keys of apps to be in the table whatever they do: requests of theirs are under way. */
  readonly keep: readonly string[];
}

/**
 * What a gateway begins with: the apps that somebody looks at now, in any case those that are
 * awake. It asks for others when a request comes. Keys of `apps` are `project/app`.
 */
export interface RouteTable {
  /** Identifies the publisher's life: another epoch means "ask for a snapshot". */
  readonly epoch: string;
  readonly revision: number;
  readonly apps: Readonly<Record<string, AppRoute>>;
  readonly certificates: readonly Certificate[];
  /** What is known of these apps' requests' costs, for gateways that have not heard of it. */
  readonly costs: readonly AppCosts[];
}

/** What changed between two revisions of one epoch. */
export interface RouteChange {
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
  /** Null: the app is gone. */
  readonly apps: Readonly<Record<string, AppRoute | null>>;
  /** Null: unchanged. */
  readonly certificates: readonly Certificate[] | null;
  /** As in the table, of apps that came into it. */
  readonly costs: readonly AppCosts[];
}

export interface RouteQuery {
  readonly host: string;
}

/** The app that a host's requests are for; null: there is none. */
export interface RouteAnswer {
  readonly epoch: string;
  /** As of this revision of the table. */
  readonly revision: number;
  readonly found: FoundRoute | null;
}

export interface FoundRoute {
  /** `project/app` */
  readonly key: string;
  readonly route: AppRoute;
  /** What is known of its requests' costs. */
  readonly costs: AppCosts | null;
}
