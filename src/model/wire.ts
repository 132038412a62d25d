import type { Timestamp } from "../base/time.ts";
import type { Endpoint, InstanceStatus } from "./instance.ts";
import type { AppName, InstanceId, NodeName, ProcessType, ProjectName } from "./names.ts";

/**
 * The wire's subjects and what travels on each. At most once, never stored: whoever needs the
 * truth asks for a report again. `req` subjects answer; the others are published.
 */
export const subjects = {
  /** NodeChange, published by the agent on every change (coalesced). */
  nodeStatus: (node: NodeName | "*") => `node.${node}.status`,
  /** req: ReportRequest → NodeReport. */
  nodeReport: (node: NodeName) => `node.${node}.report`,
  /** req: StatusesRequest → StatusesReply. */
  nodeStatuses: (node: NodeName) => `node.${node}.statuses`,
  /** NodeCollected. */
  nodeCollected: (node: NodeName | "*") => `node.${node}.collected`,
  /** req: WakeRequest → WakeReply. Concurrent wakes of one instance share one start. */
  nodeWake: (node: NodeName | "*") => `node.${node}.wake`,
  /** req: SleepRequest → SleepReply. */
  nodeSleep: (node: NodeName) => `node.${node}.sleep`,
  /** req: LogsRequest → LogsReply. */
  nodeLogs: (node: NodeName) => `node.${node}.logs`,
  /** req: ExecRequest → ExecReply; the session then talks on `session…` subjects. */
  nodeExec: (node: NodeName) => `node.${node}.exec`,
  /** ExecInput, published by the client of a session. */
  sessionInput: (session: string) => `session.${session}.input`,
  /** ExecOutput, published by the agent; `exit` ends the session. */
  sessionOutput: (session: string) => `session.${session}.output`,
  /** LogLine, published as an app writes. */
  logs: (project: ProjectName, app: AppName) => `logs.${project}.${app}`,
  /** DeploymentEvent, by control and by agents (build output). */
  progress: (project: ProjectName, app: AppName, release: number) =>
    `progress.${project}.${app}.${release}`,
  /** req: RoutesRequest → RouteTable. */
  routesSnapshot: "routes.snapshot",
  /** req: RouteQuery → RouteAnswer. */
  routesFind: "routes.find",
  /** RouteChange. */
  routesChanged: "routes.changed",
  /**
   * GatewayLoad, published by each gateway once a second of what changed or is in flight, and at
   * once when twice as much is in flight as it last said.
   */
  gatewayLoad: (gateway: string) => `gateway.${gateway}.load`,
  gatewayLoads: "gateway.*.load",
  /** GatewayMetrics, published by each gateway at most once a second while something changed. */
  gatewayMetrics: (gateway: string | "*") => `gateway.${gateway}.metrics`,
  /** req: QuiesceRequest → QuiesceReply; asked of each gateway. */
  gatewayQuiesce: (gateway: string) => `gateway.${gateway}.quiesce`,
  /** NodeCpu, published by the agent after it read the usage of instances with requests. */
  nodeCpu: (node: NodeName | "*") => `node.${node}.cpu`,
  /** GatewayFinished, published by each gateway at once when it sees a NodeCpu. */
  gatewayFinished: (gateway: string) => `gateway.${gateway}.finished`,
  /** CostsMessage, published by the gateway that learns. */
  costs: "costs.learned",
  /** null: the gateway that learns publishes all it knows. */
  costsWanted: "costs.wanted",
} as const;

/** Folders of files and layers that no release needed any more, now removed. */
export type NodeCollected = {
  readonly trees: number;
  /** Given back by the node's disk. */
  readonly bytes: number;
};

export interface ReportRequest {
  /** Instances to be named though they sleep. */
  readonly also: readonly InstanceId[];
}

/** Of instances that sleep a node names only those that it was asked for. */
export interface NodeReport {
  readonly node: NodeName;
  /** Identifies the agent's life. */
  readonly epoch: string;
  readonly sequence: number;
  readonly at: Timestamp;
  readonly instances: readonly InstanceStatus[];
}

export interface StatusesRequest {
  readonly instances: readonly InstanceId[];
}

/** Those that are there, asleep or not, as of the change of that sequence or later. */
export interface StatusesReply {
  readonly epoch: string;
  readonly sequence: number;
  readonly statuses: readonly InstanceStatus[];
}

export interface NodeChange {
  readonly node: NodeName;
  readonly epoch: string;
  /** One more than the change or report before it; a gap means "ask for a report". */
  readonly sequence: number;
  readonly at: Timestamp;
  readonly changed: readonly InstanceStatus[];
  readonly removed: readonly InstanceId[];
  /** Of those that changed or were removed, as far as there is something to tell. */
  readonly totals: readonly InstanceTotals[];
}

/** What an instance used and went through since this life of the agent first saw it. */
export interface InstanceTotals {
  readonly instance: InstanceId;
  readonly project: ProjectName;
  readonly app: AppName;
  readonly process: ProcessType;
  readonly cpuTimeUs: number;
  readonly throttledUs: number;
  readonly confinedUs: number;
  readonly oomKills: number;
  readonly restarts: number;
  /** By requests, from any rung of the idle ladder. */
  readonly wakes: number;
  /** Wakes that had to start the program, by duration: see `coldStartBoundsMs`. */
  readonly coldStarts: readonly number[];
  readonly coldStartMs: number;
  /** It sleeps and is forgotten: its next totals begin at 0. */
  readonly last?: true;
}

export interface WakeRequest {
  readonly instance: InstanceId;
}

export type WakeReply =
  | { readonly ok: true; readonly endpoint: Endpoint }
  /** `reason` is a sentence for the error page. */
  | { readonly ok: false; readonly reason: string };

export interface SleepRequest {
  readonly instances: readonly InstanceId[];
}

export interface SleepReply {
  readonly asleep: readonly InstanceId[];
}

export interface LogLine {
  readonly at: Timestamp;
  readonly app: AppName;
  readonly instance: InstanceId;
  readonly process: ProcessType;
  /** `lode` marks events (starts, exits, kills) written by the agent. */
  readonly stream: "out" | "lode";
  readonly text: string;
}

export interface LogsRequest {
  readonly project: ProjectName;
  readonly app: AppName;
  readonly process: ProcessType | null;
  readonly instance: InstanceId | null;
  /** Only lines at or after this time; null: from the oldest kept. */
  readonly since: Timestamp | null;
  /** At most so many, the newest. */
  readonly tail: number;
  /**
   * Publish the app's new lines on `logs…` for so long; ask again before it ends. They begin
   * where the reply ends: what was published before the reply is in it.
   */
  readonly followMs?: number;
}

export interface LogsReply {
  readonly lines: readonly LogLine[];
}

export interface ExecRequest {
  readonly session: string;
  readonly project: ProjectName;
  readonly app: AppName;
  readonly uidOffset: number;
  /** `inside` joins a running instance; `oneOff` starts a new sandbox of a release. */
  readonly target:
    | { readonly kind: "inside"; readonly instance: InstanceId }
    | { readonly kind: "oneOff"; readonly release: number };
  /** Empty: a shell. */
  readonly argv: readonly string[];
  readonly terminal: { readonly columns: number; readonly rows: number } | null;
}

export type ExecReply = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export type ExecInput =
  /** base64. */
  | { readonly kind: "data"; readonly data: string }
  | { readonly kind: "eof" }
  | { readonly kind: "resize"; readonly columns: number; readonly rows: number }
  | { readonly kind: "signal"; readonly signal: string }
  /** The client is there; a session without one for 30 s is ended. */
  | { readonly kind: "alive" };

export type ExecOutput =
  /** base64. */
  | { readonly kind: "data"; readonly stream: "stdout" | "stderr"; readonly data: string }
  | { readonly kind: "exit"; readonly code: number };

export type DeploymentEvent =
  | {
      readonly kind: "stage";
      readonly stage: "build" | "release" | "start" | "switch";
      readonly state: "begin" | "end";
      readonly at: Timestamp;
      readonly message: string;
    }
  | { readonly kind: "output"; readonly at: Timestamp; readonly line: string }
  | {
      readonly kind: "end";
      readonly at: Timestamp;
      readonly state: "serving" | "failed" | "superseded";
      /** Set when failed. */
      readonly reason: string | null;
      readonly logTail: readonly string[];
      /** Milliseconds; build is 0 when every layer was there. */
      readonly durationMs: {
        readonly build: number;
        readonly start: number;
        readonly total: number;
      };
    };

export interface GatewayLoad {
  readonly gateway: string;
  readonly at: Timestamp;
  /** Per instance, since the last message. */
  readonly instances: readonly {
    readonly instance: InstanceId;
    readonly requests: number;
    readonly inFlight: number;
    readonly lastRequestAt: Timestamp;
  }[];
  /** Requests that wait for an instance, by `project/app`. */
  readonly held: readonly { readonly app: string; readonly requests: number }[];
}

/** What a gateway counted since its session on the wire began: numbers that only grow. */
export interface GatewayMetrics {
  readonly gateway: string;
  /** New when the wire was lost: then counts begin again, with what was not yet told. */
  readonly session: string;
  readonly at: Timestamp;
  /** Open at present. */
  readonly connections: number;
  /** Requests that no app was found for. */
  readonly unrouted: number;
  /** Those that changed. */
  readonly apps: readonly AppTraffic[];
}

export interface AppTraffic {
  /** `project/app`. */
  readonly app: string;
  /** At present. */
  readonly inFlight: number;
  /** Waiting for an instance, at present. */
  readonly held: number;
  /** See `trafficLayout`. */
  readonly counts: readonly number[];
  /** The gateway forgets the app: its next numbers begin at 0. */
  readonly last?: true;
}

/** Asks a gateway to send nothing more to an instance, and tells what is still in flight. */
export interface QuiesceRequest {
  readonly instance: InstanceId;
}

export interface QuiesceReply {
  readonly inFlight: number;
  readonly lastRequestAt: Timestamp | null;
}

/** CPU used by instances, read just now: the moment at which gateways cut their counts. */
export interface NodeCpu {
  readonly node: NodeName;
  /** Identifies the agent's life. */
  readonly epoch: string;
  readonly sequence: number;
  readonly instances: readonly {
    readonly instance: InstanceId;
    /** One more than in the message before that named the instance. */
    readonly sample: number;
    readonly at: Timestamp;
    /** Since its process started. */
    readonly cpuTimeUs: number;
    /** The ceiling in force, which burst credit moves; null: the whole machine. */
    readonly coresMax: number | null;
  }[];
}

/** What one gateway's requests to the instances of a NodeCpu did since the sample before. */
export interface GatewayFinished {
  readonly gateway: string;
  readonly node: NodeName;
  readonly epoch: string;
  readonly sequence: number;
  /** Those that it had requests for. */
  readonly instances: readonly {
    readonly instance: InstanceId;
    /** `project/app` */
    readonly app: string;
    readonly release: number | null;
    /** The sample at which it cut before; null: never. */
    readonly from: number | null;
    readonly inFlight: number;
    readonly classes: readonly FinishedClass[];
  }[];
}

/** Requests of one route class (a method and a path template) that ended. */
export interface FinishedClass {
  readonly name: string;
  readonly count: number;
  /** Of these, how many said themselves what they cost (ORCA), and how much, in CPU-µs. */
  readonly reportedCount: number;
  readonly reportedUs: number;
}

/** Costs that changed; or, without an app, that this gateway learns and nothing changed. */
export type CostsMessage = AppCosts | { readonly app: null; readonly row: number };

/** What the requests of an app cost, as every gateway is to reckon. */
export interface AppCosts {
  /** `project/app` */
  readonly app: string;
  /** The one whose requests these are: another release is another program. */
  readonly release: number | null;
  /** The gateway that learned it, and its row of the load table. */
  readonly gateway: string;
  readonly row: number;
  readonly at: Timestamp;
  readonly classes: readonly CostClass[];
  /** CPU-µs a second that an instance uses by itself. */
  readonly idleUs: number;
  /** Mean over requests, in CPU-µs. */
  readonly meanUs: number;
  /** Of the work, the share whose classes are known well, 0 to 1. */
  readonly knownShare: number;
  /** Enough is known: balance by cost; else by requests in flight. */
  readonly sure: boolean;
}

export interface CostClass {
  /** `GET /users/{}`, or `other`. */
  readonly name: string;
  /** CPU-µs a request. */
  readonly costUs: number;
  /** Of a cost of c ± d (two standard errors) 1 − d/c, at least 0. */
  readonly confidence: number;
  /** Requests seen, slowly forgotten. */
  readonly requests: number;
  /** The app says it in a response header (ORCA). */
  readonly reported: boolean;
}
