import type { Timestamp } from "../../base/time.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import type { ConnectHandlers, OwnedSocket } from "../sockets/sockets.ts";
import { ChunkedDecoder } from "./chunked.ts";
import type { HeadParser } from "./head.ts";
import { HeadReader } from "./head-reader.ts";
import { Output } from "./output.ts";
import { type ResponseFacts, readResponse } from "./response.ts";

/** Interim answers to one request; they are passed on at once, so they must not be endless. */
const interimMax = 32;

export type Trailers = readonly (readonly [string, string])[];

/** Who a connection works for, for one request. */
export interface UpstreamUser {
  readonly method: string;
  readonly upgrade: string | null;
  /** The chunked coding is passed on as it lies; else only the data is. */
  readonly passesChunks: boolean;
  onConnected(): void;
  /** Nothing was sent. */
  onConnectFailed(cause: string): void;
  /** 1xx but 101. */
  onInformational(parser: HeadParser, buffer: Buffer, facts: ResponseFacts): void;
  /** The body's first bytes are [bodyStart, bodyEnd) of the buffer. False: pause. */
  onResponse(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean;
  /** False: pause until `resume`. */
  onBody(buffer: Buffer, start: number, end: number): boolean;
  onEnd(trailers: Trailers): void;
  /** The connection is gone, or its bytes made no sense; the request cannot be completed. */
  onLost(cause: string): void;
  /** More of the request's body may be sent. */
  onWritable(): void;
}

/** Where connections wait between requests. */
export interface UpstreamHome {
  /** False: not wanted, close it. */
  keep(connection: UpstreamConnection): boolean;
  forget(connection: UpstreamConnection): void;
}

/**
 * One connection to an instance, for one request at a time:
 *
 *   connecting ─→ idle ⇄ busy: head ─→ body ─→ (idle, or closed)
 *                          └→ tunnel ─→ closed
 *
 * It goes back to idle only when both messages ended where their framing said and nothing came
 * after; any doubt closes it, since a shared connection out of step gives one user's answer to
 * another.
 */
export class UpstreamConnection implements Deadlined {
  deadlineAt: Timestamp = Number.POSITIVE_INFINITY;
  /** Was idle before its present request: it may have died unnoticed. */
  reused = false;
  /** A byte of the present response has come. */
  answered = false;
  idleSince: Timestamp = 0;
  /** What the instance said of its own patience, in seconds. */
  keepAliveSeconds: number | null = null;

  private readonly context: GatewayContext;
  private readonly home: UpstreamHome;
  private readonly reader: HeadReader;
  private socket: UpstreamSocket | null = null;
  private output: Output | null = null;
  private user: UpstreamUser | null;
  private pendingHead: Buffer | null = null;
  private requestDone = true;
  private facts: ResponseFacts | null = null;
  private remaining = 0;
  private decoder: ChunkedDecoder | null = null;
  private interims = 0;
  private paused = false;
  private closed = false;

  /** @param user null: it begins idle. */
  constructor(
    context: GatewayContext,
    home: UpstreamHome,
    endpoint: Endpoint,
    user: UpstreamUser | null,
  ) {
    this.context = context;
    this.home = home;
    this.user = user;
    this.reader = new HeadReader(context.parsers);
    this.deadlineAt = context.clock.now() + context.limits.connectMs;
    context.sweeper.add(this);
    context.sockets.connect<UpstreamConnection>(endpoint, upstreamHandlers, this);
  }

  opened(socket: UpstreamSocket): void {
    if (this.closed) {
      socket.terminate();
      return;
    }
    this.socket = socket;
    this.output = new Output(socket);
    this.deadlineAt = Number.POSITIVE_INFINITY;
    if (this.user !== null) return this.user.onConnected();
    this.reused = true;
    if (!this.home.keep(this)) this.close();
  }

  failed(cause: string): void {
    if (this.closed) return;
    const { user } = this;
    this.dispose();
    user?.onConnectFailed(cause);
  }

  expire(): void {
    if (this.socket === null) this.failed("the connection took too long");
    else this.close();
  }

  /** Sends a request's head. With a body, its first bytes are asked for at once. */
  begin(user: UpstreamUser, head: Buffer, hasBody: boolean): void {
    this.user = user;
    this.answered = false;
    this.facts = null;
    this.interims = 0;
    this.requestDone = !hasBody;
    this.deadlineAt = Number.POSITIVE_INFINITY;
    if (!hasBody) {
      this.output?.write(head, 0, head.length);
      return;
    }
    this.pendingHead = head;
    user.onWritable();
    if (this.pendingHead === null) return;
    this.pendingHead = null;
    this.output?.write(head, 0, head.length);
  }

  /** False: wait for `onWritable`. */
  sendBody(buffer: Buffer, start: number, end: number, last: boolean): boolean {
    if (last) this.requestDone = true;
    if (this.output === null) return true;
    const head = this.pendingHead;
    if (head === null) return this.output.write(buffer, start, end);
    this.pendingHead = null;
    return this.output.writeBoth(head, buffer, start, end);
  }

  /** In a tunnel: the client will send nothing more. */
  endOutput(): void {
    this.output?.end();
  }

  resume(): void {
    if (!this.paused || this.socket === null) return;
    this.paused = false;
    this.socket.resume();
  }

  /** Drops the connection; its user hears nothing of it. */
  close(): void {
    const { socket } = this;
    this.dispose();
    socket?.terminate();
  }

  private dispose(): void {
    this.closed = true;
    this.user = null;
    this.socket = null;
    this.reader.release();
    this.context.sweeper.remove(this);
    this.home.forget(this);
  }

  received(chunk: Buffer, start: number, end: number): void {
    let offset = start;
    while (offset < end) {
      // Bytes nobody asked for: it must not serve another request.
      if (this.user === null) return this.close();
      if (this.facts !== null) return this.readBody(chunk, offset, end);
      this.answered = true;
      if (!this.reader.read("response", chunk, offset, end)) return;
      const rest = this.readHead(this.user);
      if (rest === 0) return;
      // After an interim head that was gathered, what follows lies at the read's end.
      offset = end - rest;
    }
  }

  /** Returns how many bytes after an interim head are still to be read. */
  private readHead(user: UpstreamUser): number {
    const { parser, buffer, length } = this.reader;
    if (parser === null || buffer === null) return 0;
    if (parser.fault !== null) {
      this.lose(`its answer is malformed (${parser.fault})`);
      return 0;
    }
    const facts = readResponse(parser, buffer, user);
    if (!facts.ok) {
      this.lose(`its answer is malformed (${facts.error})`);
      return 0;
    }
    if (facts.value.status < 200 && facts.value.status !== 101) {
      this.interims += 1;
      if (this.interims > interimMax) {
        this.lose(`it sent more than ${interimMax} interim answers`);
        return 0;
      }
      user.onInformational(parser, buffer, facts.value);
      const rest = length - parser.end;
      this.reader.release();
      return rest;
    }
    this.startBody(user, parser, buffer, facts.value, length);
    return 0;
  }

  private startBody(
    user: UpstreamUser,
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    limit: number,
  ): void {
    this.facts = facts;
    this.remaining = facts.contentLength;
    this.decoder = facts.framing === "chunked" ? new ChunkedDecoder(this.context.parsers) : null;
    this.keepAliveSeconds = facts.keepAliveSeconds;
    const start = parser.end;
    // A chunked body that must be decoded comes by `onBody`, all others begin with the head.
    const whole = facts.framing !== "chunked" || user.passesChunks;
    const end = whole ? this.walkBody(buffer, start, limit) : start;
    if (end < 0) return;
    const goesOn = user.onResponse(parser, buffer, facts, start, end);
    this.reader.release();
    if (this.user !== user) return;
    if (!whole) {
      if (!goesOn) this.pause();
      this.readBody(buffer, start, limit);
    } else if (this.bodyEnded()) this.finish(end < limit);
    else if (!goesOn) this.pause();
  }

  /** Finds the end of the body's bytes within [from, limit); -1 after a fault. */
  private walkBody(buffer: Buffer, from: number, limit: number): number {
    if (this.isTunnel()) return limit;
    switch (this.facts?.framing) {
      case "length": {
        const end = Math.min(limit, from + this.remaining);
        this.remaining -= end - from;
        return end;
      }
      case "chunked":
        return this.walkChunks(buffer, from, limit);
      case "close":
        return limit;
      default:
        return from;
    }
  }

  private walkChunks(buffer: Buffer, from: number, limit: number): number {
    const decoder = this.decoder as ChunkedDecoder;
    let position = from;
    while (position < limit) {
      const step = decoder.next(buffer, position, limit);
      position = decoder.position;
      if (step === "fault") {
        this.lose(`its chunked body is malformed (${decoder.fault})`);
        return -1;
      }
      if (step === "done") break;
    }
    return position;
  }

  private readBody(buffer: Buffer, from: number, limit: number): void {
    const { user } = this;
    if (user === null) return;
    if (this.decoder !== null && !user.passesChunks)
      return this.readDecoded(user, buffer, from, limit);
    const end = this.walkBody(buffer, from, limit);
    if (end < 0) return;
    const goesOn = end === from || user.onBody(buffer, from, end);
    if (this.user !== user) return;
    if (this.bodyEnded()) this.finish(end < limit);
    else if (!goesOn) this.pause();
  }

  private readDecoded(user: UpstreamUser, buffer: Buffer, from: number, limit: number): void {
    const decoder = this.decoder as ChunkedDecoder;
    let position = from;
    let goesOn = true;
    while (position < limit) {
      const step = decoder.next(buffer, position, limit);
      position = decoder.position;
      if (step === "fault") return this.lose(`its chunked body is malformed (${decoder.fault})`);
      if (step === "data") {
        goesOn = user.onBody(buffer, decoder.dataStart, decoder.dataEnd) && goesOn;
        if (this.user !== user) return;
      }
      if (step === "done") return this.finish(position < limit);
    }
    if (!goesOn) this.pause();
  }

  private isTunnel(): boolean {
    return this.facts?.status === 101;
  }

  private bodyEnded(): boolean {
    if (this.isTunnel()) return false;
    switch (this.facts?.framing) {
      case "length":
        return this.remaining === 0;
      case "chunked":
        return this.decoder?.done === true;
      case "close":
        return false;
      default:
        return true;
    }
  }

  private pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.socket?.pause();
  }

  /** The response is complete. */
  private finish(leftover: boolean): void {
    const { user, facts, decoder } = this;
    this.user = null;
    this.facts = null;
    this.decoder = null;
    const clean = !leftover && this.requestDone && facts?.keepAlive === true;
    if (clean && this.output?.empty === true) {
      this.reused = true;
      this.resume();
      if (!this.home.keep(this)) this.close();
    } else this.close();
    user?.onEnd(decoder?.trailers ?? []);
  }

  private lose(cause: string): void {
    const { user } = this;
    this.close();
    user?.onLost(cause);
  }

  /** A broken invariant costs this connection and its request, nothing else. */
  broke(error: unknown): void {
    this.context.report(error);
    this.lose("the gateway failed while it read its answer");
  }

  drained(): void {
    if (this.output?.flush() === true) this.user?.onWritable();
  }

  /** The instance sent FIN. */
  ended(): void {
    if (this.closed) return;
    if (this.user === null) return this.close();
    if (this.isTunnel() || this.facts?.framing === "close") return this.finish(false);
    this.lose("it closed the connection before its answer was complete");
  }

  gone(): void {
    if (this.closed) return;
    if (this.user === null) return this.dispose();
    this.lose("it closed the connection before its answer was complete");
  }
}

type UpstreamSocket = OwnedSocket<UpstreamConnection>;

const upstreamHandlers: ConnectHandlers<UpstreamConnection> = {
  open(socket) {
    guard(socket.data, (connection) => connection.opened(socket));
  },
  data(socket, buffer, start, end) {
    const connection = socket.data;
    try {
      connection.received(buffer, start, end);
    } catch (error) {
      connection.broke(error);
    }
  },
  drain(socket) {
    guard(socket.data, (connection) => connection.drained());
  },
  end(socket) {
    guard(socket.data, (connection) => connection.ended());
  },
  close(socket) {
    guard(socket.data, (connection) => connection.gone());
  },
  connectError(owner, cause) {
    guard(owner, (connection) => connection.failed(cause));
  },
};

function guard(
  connection: UpstreamConnection,
  action: (connection: UpstreamConnection) => void,
): void {
  try {
    action(connection);
  } catch (error) {
    connection.broke(error);
  }
}
