import type { HeadLimits } from "./proxy/head.ts";

/** What one gateway process gives to its clients; defaults after Envoy's edge guide. */
export interface GatewayLimits {
  readonly head: HeadLimits;
  /** Client connections; further ones are closed at once. */
  readonly connectionsMax: number;
  readonly requestsPerConnectionMax: number;
  /** From the first byte (or the accept) to the end of a request's head. */
  readonly headMs: number;
  /** A connection between requests. */
  readonly idleMs: number;
  /** Between two pieces of a request's body. */
  readonly requestBodyIdleMs: number;
  /** A request that waits for an instance. */
  readonly holdMs: number;
  /** Requests that wait for an instance, per app. */
  readonly heldMax: number;
  readonly connectMs: number;
  /** From the end of the request to the first byte of the response. */
  readonly firstByteMs: number;
  /** Without a byte in either direction after the response began. */
  readonly streamIdleMs: number;
  /** The same for WebSockets and other tunnels. */
  readonly tunnelIdleMs: number;
  /** What a WebSocket of a draining instance gets after its close frame. */
  readonly tunnelDrainMs: number;
  /** Reading what a client still sends after its answer, so that the answer arrives. */
  readonly lingerMs: number;
  readonly lingerBytesMax: number;
  /** Requests in flight at one instance, from one gateway. */
  readonly instanceRequestsMax: number;
  /** Idle connections kept to one instance, and for how long. */
  readonly upstreamIdleMax: number;
  readonly upstreamIdleMs: number;
  /** Requests that must not be sent twice take only connections idle for less. */
  readonly upstreamFreshMs: number;
  /** Deadlines are looked at this often. */
  readonly sweepMs: number;
  readonly http2: {
    readonly streamsMax: number;
    /** Bytes of a request's body, and of all on one connection, that may wait here. */
    readonly streamWindowBytes: number;
    readonly connectionWindowBytes: number;
    /** In ten seconds, before the connection is ended: resets by either side and refusals. */
    readonly resetsMax: number;
    readonly settingsMax: number;
    /** And frames of unknown types, beyond one for each DATA frame sent. */
    readonly pingsMax: number;
    /** Frames that carry nothing and end nothing. */
    readonly emptyMax: number;
  };
  /** How long `close` waits for requests in flight. */
  readonly closeMs: number;
  readonly accessLog: {
    readonly fileBytesMax: number;
    readonly filesMax: number;
    /** Bytes that wait for the disk; lines beyond are dropped and counted. */
    readonly bufferBytesMax: number;
    readonly flushMs: number;
  };
}

export const defaultGatewayLimits: GatewayLimits = {
  head: { startLineBytesMax: 8192, fieldBytesMax: 61_440, fieldsMax: 100 },
  connectionsMax: 20_000,
  requestsPerConnectionMax: 100_000,
  headMs: 15_000,
  idleMs: 60_000,
  requestBodyIdleMs: 60_000,
  holdMs: 30_000,
  heldMax: 1000,
  connectMs: 5000,
  firstByteMs: 60_000,
  streamIdleMs: 300_000,
  tunnelIdleMs: 3_600_000,
  tunnelDrainMs: 30_000,
  lingerMs: 5000,
  lingerBytesMax: 1024 * 1024,
  instanceRequestsMax: 1024,
  upstreamIdleMax: 64,
  upstreamIdleMs: 4000,
  upstreamFreshMs: 1000,
  sweepMs: 500,
  http2: {
    streamsMax: 100,
    streamWindowBytes: 256 * 1024,
    connectionWindowBytes: 1024 * 1024,
    resetsMax: 200,
    settingsMax: 50,
    pingsMax: 200,
    emptyMax: 100,
  },
  closeMs: 30_000,
  accessLog: {
    fileBytesMax: 64 * 1024 * 1024,
    filesMax: 4,
    bufferBytesMax: 4 * 1024 * 1024,
    flushMs: 200,
  },
};
