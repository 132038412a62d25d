import type { Timestamp } from "../../base/time.ts";
import type { RouteClass } from "../balance/classes.ts";
import { reportedCostUs } from "../balance/orca.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import type { AppState, Waiter } from "../routing/app.ts";
import type { Drainable, InstanceState } from "../routing/instance.ts";
import { fieldId } from "./fields.ts";
import type { HeadParser } from "./head.ts";
import type { Framing } from "./request.ts";
import type { ResponseFacts } from "./response.ts";
import { type Trailers, UpstreamConnection, type UpstreamUser } from "./upstream.ts";
import { FrameTracker, goingAwayFrame } from "./websocket.ts";

/** A request, in the words both HTTP versions share. */
export interface ExchangeRequest {
  readonly id: string;
  readonly method: string;
  readonly host: string;
  /** Path and query. */
  readonly target: string;
  readonly framing: Framing;
  readonly upgrade: string | null;
  readonly userAgent: string | null;
  /** What its affinity key hashes to; null: it has none. */
  readonly key: number | null;
  /** As sent upstream. */
  readonly head: Buffer;
  readonly startedAt: Timestamp;
}

/** The client's side of an exchange. */
export interface ExchangeClient {
  readonly passesChunks: boolean;
  readonly address: string;
  readonly protocol: string;
  /** The instance is ready for (more of) the body: call `sendBody`. */
  onBodyWanted(): void;
  onInformational(parser: HeadParser, buffer: Buffer, facts: ResponseFacts): void;
  /** False: pause until `resumeResponse`. */
  onResponse(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean;
  onBody(buffer: Buffer, start: number, end: number): boolean;
  onEnd(trailers: Trailers): void;
  /** Answers by a page; returns the bytes of its body. */
  onRefused(status: number, cause: string, retryAfterSeconds: number | null): number;
  /** The response broke off after it began. */
  onCut(): void;
  /** The last call: bytes may be counted, the next request begun. */
  onFinished(): void;
}

const idempotentMethods = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

type Phase =
  | "placing"
  | "held"
  | "connecting"
  | "sending"
  | "waiting"
  | "responding"
  | "tunnel"
  | "finished";

/**
 * One request on its way through:
 *
 *   placing ⇄ held ─→ connecting ─→ sending ─→ waiting ─→ responding ─→ finished
 *      └────────────────── again, if nothing was sent ┘         └→ tunnel ─┘
 *
 * It is sent a second time only when nothing of it can have been acted on: the connection was
 * refused, or it was an idle one that died before a byte of an answer and the request is
 * idempotent and has no body.
 */
export class Exchange implements UpstreamUser, Waiter, Drainable, Deadlined {
  deadlineAt: Timestamp = Number.POSITIVE_INFINITY;
  holdUntil: Timestamp | null = null;
  routeClass: RouteClass | null = null;
  costUs = 0;
  isDear = false;
  bytesIn = 0;
  bytesOut = 0;
  readonly request: ExchangeRequest;
  readonly passesChunks: boolean;

  private phase: Phase = "placing";
  private readonly context: GatewayContext;
  private readonly client: ExchangeClient;
  private readonly app: AppState;
  private instance: InstanceState | null = null;
  private upstream: UpstreamConnection | null = null;
  private status = 0;
  private requestDone: boolean;
  private writable = false;
  private heldAt: Timestamp | null = null;
  private wakeMs = 0;
  private sentAt: Timestamp | null = null;
  private upstreamMs: number | null = null;
  /** What its response says it cost, in CPU-µs. */
  private reportedUs: number | null = null;
  private tracker: FrameTracker | null = null;
  private goodbye: "none" | "wanted" | "said" = "none";

  constructor(
    context: GatewayContext,
    client: ExchangeClient,
    app: AppState,
    request: ExchangeRequest,
  ) {
    this.context = context;
    this.client = client;
    this.app = app;
    this.request = request;
    this.passesChunks = client.passesChunks;
    this.requestDone = request.framing === "none";
  }

  get key(): number | null {
    return this.request.key;
  }

  get method(): string {
    return this.request.method;
  }

  get target(): string {
    return this.request.target;
  }

  get isRepeatable(): boolean {
    return this.requestDone && this.bytesIn === 0 && idempotentMethods.has(this.request.method);
  }

  get upgrade(): string | null {
    return this.request.upgrade;
  }

  /** The response has begun: no page can be shown any more. */
  get responding(): boolean {
    return this.phase === "responding" || this.phase === "tunnel";
  }

  /** A piece of the body can be sent now. */
  get wantsBody(): boolean {
    return this.writable;
  }

  start(): void {
    this.app.entered(1);
    this.app.place(this);
  }

  held(): void {
    this.phase = "held";
    this.heldAt ??= this.context.clock.now();
    this.deadlineAt = this.holdUntil ?? Number.POSITIVE_INFINITY;
  }

  dispatch(instance: InstanceState): void {
    const now = this.context.clock.now();
    if (this.heldAt !== null) this.wakeMs = now - this.heldAt;
    this.instance = instance;
    this.app.began(instance, this, now);
    const idle = instance.pool.take(now, this.isRepeatable);
    if (idle !== null) {
      this.upstream = idle;
      this.send(now);
    } else this.connect(instance);
  }

  private connect(instance: InstanceState): void {
    const { endpoint } = instance;
    if (endpoint === null) {
      this.release(this.context.clock.now());
      this.app.place(this);
      return;
    }
    this.phase = "connecting";
    // The connection has a deadline of its own.
    this.deadlineAt = Number.POSITIVE_INFINITY;
    this.upstream = new UpstreamConnection(this.context, instance.pool, endpoint, this);
  }

  onConnected(): void {
    this.instance?.connected();
    this.send(this.context.clock.now());
  }

  onConnectFailed(): void {
    const { instance } = this;
    const now = this.context.clock.now();
    this.upstream = null;
    this.release(now);
    instance?.connectFailed(now);
    this.app.place(this);
  }

  private send(now: Timestamp): void {
    this.sentAt = now;
    this.phase = this.requestDone ? "waiting" : "sending";
    this.deadlineAt =
      now +
      (this.requestDone ? this.context.limits.firstByteMs : this.context.limits.requestBodyIdleMs);
    this.upstream?.begin(this, this.request.head, !this.requestDone);
  }

  onWritable(): void {
    this.touch(this.context.clock.now());
    if (this.requestDone && this.phase !== "tunnel") return;
    this.writable = true;
    this.client.onBodyWanted();
  }

  /** Passes on a piece of the body with its framing; `last` ends it. */
  sendBody(buffer: Buffer, start: number, end: number, last: boolean): void {
    this.bytesIn += end - start;
    if (last) this.requestDone = true;
    this.writable = this.upstream?.sendBody(buffer, start, end, last) === true && !last;
    this.touch(this.context.clock.now());
  }

  /** Moves the deadline after a sign of life. */
  private touch(now: Timestamp): void {
    const { limits } = this.context;
    if (this.goodbye !== "none") return;
    switch (this.phase) {
      case "sending":
      case "waiting":
        this.phase = this.requestDone ? "waiting" : "sending";
        this.deadlineAt = now + (this.requestDone ? limits.firstByteMs : limits.requestBodyIdleMs);
        return;
      case "responding":
        this.deadlineAt = now + limits.streamIdleMs;
        return;
      case "tunnel":
        this.deadlineAt = now + limits.tunnelIdleMs;
        return;
      default:
    }
  }

  onInformational(parser: HeadParser, buffer: Buffer, facts: ResponseFacts): void {
    this.touch(this.context.clock.now());
    this.client.onInformational(parser, buffer, facts);
  }

  onResponse(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean {
    this.status = facts.status;
    if ((parser.countOf[fieldId.cost] as number) > 0) {
      this.reportedUs = reportedCostUs(parser.valueOf(fieldId.cost, buffer) ?? "");
    }
    const now = this.context.clock.now();
    this.upstreamMs = now - (this.sentAt ?? 0);
    this.phase = "responding";
    if (facts.status === 101) this.beginTunnel(facts.upgrade);
    this.touch(now);
    this.bytesOut += bodyEnd - bodyStart;
    if (this.tracker !== null) this.tracker.advance(buffer, bodyStart, bodyEnd, false);
    const goesOn = this.client.onResponse(parser, buffer, facts, bodyStart, bodyEnd);
    if (facts.status === 101) {
      this.writable = true;
      this.client.onBodyWanted();
      if (this.instance?.draining === true) this.drain();
    }
    return goesOn;
  }

  private beginTunnel(protocol: string | null): void {
    this.phase = "tunnel";
    if (protocol?.toLowerCase() === "websocket") this.tracker = new FrameTracker();
    this.instance?.tunnels.add(this);
  }

  onBody(buffer: Buffer, start: number, end: number): boolean {
    this.touch(this.context.clock.now());
    // Nothing may follow our close frame.
    if (this.goodbye === "said") return true;
    if (this.tracker === null) {
      this.bytesOut += end - start;
      return this.client.onBody(buffer, start, end);
    }
    const stop = this.tracker.advance(buffer, start, end, this.goodbye === "wanted");
    this.bytesOut += stop - start;
    const goesOn = this.client.onBody(buffer, start, stop);
    if (this.goodbye === "wanted" && this.tracker.atBoundary) this.sayGoodbye();
    return goesOn;
  }

  /** The instance drains: a close frame between two of its own, and then an end to waiting. */
  drain(): void {
    if (this.phase !== "tunnel" || this.goodbye !== "none") return;
    this.goodbye = "wanted";
    this.deadlineAt = this.context.clock.now() + this.context.limits.tunnelDrainMs;
    if (this.tracker?.atBoundary === true) this.sayGoodbye();
  }

  private sayGoodbye(): void {
    this.goodbye = "said";
    this.bytesOut += goingAwayFrame.length;
    this.client.onBody(goingAwayFrame, 0, goingAwayFrame.length);
  }

  resumeResponse(): void {
    this.touch(this.context.clock.now());
    this.upstream?.resume();
  }

  /** A tunnel's client sends nothing more. */
  endTunnel(): void {
    this.upstream?.endOutput();
  }

  onEnd(trailers: Trailers): void {
    this.upstream = null;
    if (this.phase === "finished") return;
    this.client.onEnd(trailers);
    this.finish();
  }

  onLost(cause: string): void {
    const { upstream, instance } = this;
    this.upstream = null;
    if (this.phase === "finished") return;
    if (this.responding) return this.cut();
    const stale = upstream?.reused === true && !upstream.answered;
    if (stale && this.isRepeatable && instance !== null) {
      // Its idle time was over before the request reached it.
      this.connect(instance);
      return;
    }
    instance?.requestFailed(this.context.clock.now());
    this.refuse(502, `The app broke the connection: ${cause}.`, null);
  }

  refuse(status: number, cause: string, retryAfterSeconds: number | null): void {
    if (this.phase === "finished") return;
    // A page in the midst of an answer would be read as part of it.
    if (this.responding) return this.cut();
    this.dropUpstream();
    this.status = status;
    this.bytesOut = this.client.onRefused(status, cause, retryAfterSeconds);
    this.finish();
  }

  private cut(): void {
    this.dropUpstream();
    this.client.onCut();
    this.finish();
  }

  /** The client is gone: whatever was begun for it ends. */
  abort(): void {
    if (this.phase === "finished") return;
    if (this.phase === "held") this.app.forget(this);
    this.dropUpstream();
    // As nginx has it: the client closed the request before its answer.
    if (this.status === 0) this.status = 499;
    this.finish();
  }

  expire(): void {
    switch (this.phase) {
      case "held":
        this.app.expire(this);
        return;
      case "sending":
        if (this.writable)
          return this.refuse(408, "The request's body did not arrive in time.", null);
        this.refuse(504, "The app did not read the request in time.", null);
        return;
      case "waiting":
        this.instance?.requestFailed(this.context.clock.now());
        this.refuse(504, "The app was sent the request, but did not begin to answer.", null);
        return;
      case "responding":
      case "tunnel":
        this.cut();
        return;
      default:
        this.deadlineAt = Number.POSITIVE_INFINITY;
    }
  }

  private dropUpstream(): void {
    const { upstream } = this;
    this.upstream = null;
    upstream?.close();
  }

  private release(now: Timestamp): void {
    const { instance } = this;
    this.instance = null;
    if (instance === null) return;
    instance.tunnels.delete(this);
    if (this.sentAt !== null && this.routeClass !== null) {
      instance.count(this.routeClass, this.reportedUs);
    }
    this.app.ended(instance, this, now);
  }

  private finish(): void {
    const { request, client, context, instance } = this;
    // Cutting the client's connection has told this exchange already.
    if (this.phase === "finished") return;
    this.phase = "finished";
    this.deadlineAt = Number.POSITIVE_INFINITY;
    const now = context.clock.now();
    const durationMs = now - request.startedAt;
    const { status, bytesIn, bytesOut } = this;
    this.app.counts.add(client.protocol, status, durationMs, bytesIn, bytesOut);
    this.app.entered(-1);
    context.accessLog.write({
      at: request.startedAt,
      requestId: request.id,
      app: this.app.key,
      instance: instance?.id ?? null,
      method: request.method,
      host: request.host,
      path: request.target,
      status,
      bytesIn,
      bytesOut,
      durationMs,
      upstreamMs: this.upstreamMs,
      wakeMs: this.wakeMs,
      client: client.address,
      protocol: client.protocol,
      userAgent: request.userAgent,
    });
    this.release(now);
    client.onFinished();
  }
}

/** Logs what was answered without an app. @param request null: it could not be read. */
export function logUnplaced(
  context: GatewayContext,
  client: Pick<ExchangeClient, "address" | "protocol">,
  requestId: string,
  request: Pick<ExchangeRequest, "method" | "host" | "target"> | null,
  status: number,
  bytesOut: number,
): void {
  context.unrouted();
  context.accessLog.write({
    at: context.clock.now(),
    requestId,
    app: null,
    instance: null,
    method: request?.method ?? "-",
    host: request?.host ?? "-",
    path: request?.target ?? "-",
    status,
    bytesIn: 0,
    bytesOut,
    durationMs: 0,
    upstreamMs: null,
    wakeMs: 0,
    client: client.address,
    protocol: client.protocol,
    userAgent: null,
  });
}
