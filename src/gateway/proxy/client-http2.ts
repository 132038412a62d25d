import http2 from "node:http2";
import { Duplex } from "node:stream";
import type { Timestamp } from "../../base/time.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import type { AppState } from "../routing/app.ts";
import type { Router } from "../routing/router.ts";
import { eachResponseField } from "./build.ts";
import type { TlsFacts } from "./client-http1.ts";
import { Exchange, type ExchangeClient, logUnplaced } from "./exchange.ts";
import type { HeadParser } from "./head.ts";
import { addressOf, type ByteSocket, Output } from "./output.ts";
import { makePage, unroutedCause } from "./pages.ts";
import { type Http2Request, readHttp2Request } from "./request-http2.ts";
import type { ResponseFacts } from "./response.ts";
import type { Trailers } from "./upstream.ts";

const lastChunk = Buffer.from("0\r\n\r\n");
const windowMs = 10_000;

/** One HTTP/2 server for all connections: it parses frames, the gateway owns the sockets. */
export class Http2Front {
  private readonly context: GatewayContext;
  private readonly router: Router;
  private readonly server: http2.Http2Server;
  /** The connection being handed over: its session event comes before `emit` returns. */
  private opening: Http2Session | null = null;

  constructor(context: GatewayContext, router: Router) {
    this.context = context;
    this.router = router;
    const { streamsMax } = context.limits.http2;
    this.server = http2.createServer({
      maxHeaderListPairs: context.limits.head.fieldsMax + 4,
      maxSessionMemory: 4,
      maxSessionInvalidFrames: 20,
      maxSessionRejectedStreams: 20,
      settings: {
        maxConcurrentStreams: streamsMax,
        maxHeaderListSize: context.limits.head.fieldBytesMax,
        initialWindowSize: 256 * 1024,
        enablePush: false,
        enableConnectProtocol: true,
      },
    });
    this.server.on("session", (session: http2.ServerHttp2Session) => this.begun(session));
    this.server.on("sessionError", () => {});
    this.server.on("error", (error) => context.report(error));
  }

  accept(socket: ByteSocket, tls: TlsFacts): Http2Session {
    const stream = new SocketStream(socket);
    const session = new Http2Session(this.context, this.router, stream, tls, addressOf(socket));
    this.opening = session;
    this.server.emit("connection", stream);
    this.opening = null;
    return session;
  }

  private begun(session: http2.ServerHttp2Session): void {
    const owner = this.opening;
    if (owner === null) session.destroy();
    else owner.begun(session);
  }
}

/** A raw socket as the stream that node:http2 works on. */
class SocketStream extends Duplex {
  private readonly socket: ByteSocket;
  private readonly output: Output;
  private writeDone: ((error?: Error | null) => void) | null = null;

  constructor(socket: ByteSocket) {
    super({ allowHalfOpen: false });
    this.socket = socket;
    this.output = new Output(socket);
  }

  received(chunk: Buffer): void {
    if (!this.push(chunk)) this.socket.pause();
  }

  drained(): void {
    if (!this.output.flush()) return;
    const done = this.writeDone;
    this.writeDone = null;
    done?.();
  }

  override _read(): void {
    this.socket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.output.write(chunk, 0, chunk.length)) done();
    else this.writeDone = done;
  }

  override _final(done: () => void): void {
    this.output.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.socket.terminate();
    done(error);
  }
}

/**
 * A client's HTTP/2 connection: each stream is an exchange of its own, translated to HTTP/1.1.
 * Resets, settings and pings cost the client nothing and us work: too many end the session.
 */
export class Http2Session implements Deadlined {
  deadlineAt: Timestamp;
  readonly address: string;
  readonly tls: TlsFacts;
  readonly context: GatewayContext;
  readonly router: Router;
  private readonly stream: SocketStream;
  private session: http2.ServerHttp2Session | null = null;
  private streams = 0;
  private windowStart = 0;
  private resets = 0;
  private controls = 0;
  private closed = false;

  constructor(
    context: GatewayContext,
    router: Router,
    stream: SocketStream,
    tls: TlsFacts,
    address: string,
  ) {
    this.context = context;
    this.router = router;
    this.stream = stream;
    this.tls = tls;
    this.address = address;
    this.deadlineAt = context.clock.now() + context.limits.headMs;
    context.sweeper.add(this);
  }

  begun(session: http2.ServerHttp2Session): void {
    this.session = session;
    session.on("stream", (stream, headers, flags) => this.accept(stream, headers, flags));
    session.on("error", () => {});
    session.on("remoteSettings", () => this.control());
    session.on("ping", () => this.control());
    session.on("close", () => this.close());
  }

  received(chunk: Buffer): void {
    this.stream.received(chunk);
  }

  drained(): void {
    this.stream.drained();
  }

  ended(): void {
    this.close();
  }

  gone(): void {
    if (this.closed) return;
    this.closed = true;
    this.context.sweeper.remove(this);
    this.session?.destroy();
    this.stream.destroy();
  }

  close(): void {
    this.gone();
  }

  retire(): void {
    this.session?.close();
  }

  expire(): void {
    if (this.streams > 0) this.deadlineAt = Number.POSITIVE_INFINITY;
    else if (this.session === null || this.session.closed) this.close();
    else {
      this.deadlineAt = this.context.clock.now() + this.context.limits.lingerMs;
      this.session.close();
    }
  }

  private accept(
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    flags: number,
  ): void {
    try {
      this.streams += 1;
      this.deadlineAt = Number.POSITIVE_INFINITY;
      stream.on("close", () => this.streamClosed(stream.rstCode));
      stream.on("error", () => {});
      const request = new Http2Client(this, stream);
      request.begin(headers, (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0);
    } catch (error) {
      this.context.report(error);
      this.close();
    }
  }

  private streamClosed(code: number | undefined): void {
    this.streams -= 1;
    if (this.streams === 0) {
      this.deadlineAt = this.context.clock.now() + this.context.limits.idleMs;
    }
    if (code === undefined || code === http2.constants.NGHTTP2_NO_ERROR) return;
    this.resets += 1;
    if (this.tooOften(this.resets, this.context.limits.http2.resetsMax)) this.close();
  }

  private control(): void {
    this.controls += 1;
    if (this.tooOften(this.controls, this.context.limits.http2.settingsMax)) this.close();
  }

  private tooOften(count: number, limit: number): boolean {
    const now = this.context.clock.now();
    if (now - this.windowStart > windowMs) {
      this.windowStart = now;
      this.resets = 0;
      this.controls = 0;
      return false;
    }
    return count > limit;
  }
}

/** One stream. */
class Http2Client implements ExchangeClient {
  readonly passesChunks = false;
  readonly protocol = "HTTP/2";
  readonly address: string;
  private readonly session: Http2Session;
  private readonly context: GatewayContext;
  private readonly stream: http2.ServerHttp2Stream;
  private exchange: Exchange | null = null;
  private request: Http2Request | null = null;
  private bodyRemaining = 0;
  private bodyDone = false;
  private tunnel = false;
  private trailers: Trailers = [];

  constructor(session: Http2Session, stream: http2.ServerHttp2Stream) {
    this.session = session;
    this.context = session.context;
    this.stream = stream;
    this.address = session.address;
  }

  begin(headers: http2.IncomingHttpHeaders, ended: boolean): void {
    const { session, context } = this;
    const id = context.nextRequestId();
    const webSocketKey = Buffer.from(context.random.token(16)).toString("base64");
    const added = { address: this.address, requestId: id, webSocketKey };
    const read = readHttp2Request(headers, ended, added);
    if (!read.ok) return this.answer(read.error.status, read.error.cause, id);
    const request = read.value;
    this.request = request;
    if (!session.tls.covers(request.host)) {
      return this.answer(421, unroutedCause(421, request.host), id);
    }
    const app = session.router.find(request.host);
    if (app !== null) this.beginExchange(app, headers, ended, request, id);
    else this.lookUp(headers, ended, request, id).catch(context.report);
  }

  private async lookUp(
    headers: http2.IncomingHttpHeaders,
    ended: boolean,
    request: Http2Request,
    id: string,
  ): Promise<void> {
    const { host } = request;
    const found = await this.session.router.lookUp(host);
    if (this.stream.destroyed) return;
    if (found.kind === "app") this.beginExchange(found.app, headers, ended, request, id);
    else {
      const status = found.kind === "absent" ? 404 : 503;
      this.answer(status, unroutedCause(status, host), id);
    }
  }

  private beginExchange(
    app: AppState,
    headers: http2.IncomingHttpHeaders,
    ended: boolean,
    request: Http2Request,
    id: string,
  ): void {
    const { context, stream } = this;
    this.bodyDone = request.framing === "none";
    this.bodyRemaining = request.contentLength;
    this.exchange = new Exchange(context, this, app, {
      ...request,
      id,
      key:
        app.route.affinity === undefined
          ? null
          : app.keyOf({ ...request, fields: (name) => [headers[name] ?? []].flat() }),
      startedAt: context.clock.now(),
    });
    context.sweeper.add(this.exchange);
    stream.on("close", () => this.exchange?.abort());
    stream.on("drain", () => this.exchange?.resumeResponse());
    if (!ended) {
      stream.on("data", (chunk: Buffer) => this.feed(chunk));
      stream.on("end", () => this.endBody());
      stream.pause();
    }
    this.exchange.start();
  }

  onBodyWanted(): void {
    if (!this.bodyDone || this.tunnel) this.stream.resume();
  }

  private feed(chunk: Buffer): void {
    const { exchange, request } = this;
    if (exchange === null || request === null || chunk.length === 0) return;
    if (this.tunnel) exchange.sendBody(chunk, 0, chunk.length, false);
    else if (this.bodyDone) return;
    else if (request.framing === "length") {
      this.bodyRemaining -= chunk.length;
      if (this.bodyRemaining < 0) {
        exchange.refuse(400, "The body is longer than its Content-Length.", null);
        return;
      }
      this.bodyDone = this.bodyRemaining === 0;
      exchange.sendBody(chunk, 0, chunk.length, this.bodyDone);
    } else {
      const framed = Buffer.concat([
        Buffer.from(`${chunk.length.toString(16)}\r\n`),
        chunk,
        Buffer.from("\r\n"),
      ]);
      exchange.sendBody(framed, 0, framed.length, false);
    }
    if (!exchange.wantsBody && (this.tunnel || !this.bodyDone)) this.stream.pause();
  }

  private endBody(): void {
    const { exchange, request } = this;
    if (this.tunnel) exchange?.endTunnel();
    if (exchange === null || request === null || this.bodyDone) return;
    this.bodyDone = true;
    if (request.framing === "chunked") exchange.sendBody(lastChunk, 0, lastChunk.length, true);
    else exchange.refuse(400, "The body is shorter than its Content-Length.", null);
  }

  onInformational(parser: HeadParser, buffer: Buffer, facts: ResponseFacts): void {
    if (this.stream.destroyed || facts.status === 100) return;
    this.stream.additionalHeaders(this.translate(parser, buffer, facts));
  }

  onResponse(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean {
    const { stream } = this;
    if (stream.destroyed) return true;
    this.tunnel = facts.status === 101;
    const endStream = facts.framing === "none" && !this.tunnel;
    const waitForTrailers = !endStream && this.request?.acceptsTrailers === true;
    stream.respond(this.translate(parser, buffer, facts), { endStream, waitForTrailers });
    if (waitForTrailers) stream.on("wantTrailers", () => this.sendTrailers());
    return bodyEnd === bodyStart || this.onBody(buffer, bodyStart, bodyEnd);
  }

  private translate(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
  ): http2.OutgoingHttpHeaders {
    const status = facts.status === 101 ? 200 : facts.status;
    const headers: Record<string, number | string | string[]> = { ":status": status };
    eachResponseField(parser, buffer, facts, (name, value) => {
      // Part of HTTP/1.1's handshake only.
      if (this.tunnel && name === "sec-websocket-accept") return;
      const before = headers[name];
      if (before === undefined) headers[name] = value;
      else if (Array.isArray(before)) before.push(value);
      else headers[name] = [String(before), value];
    });
    return headers;
  }

  private sendTrailers(): void {
    const headers: Record<string, string> = {};
    for (const [name, value] of this.trailers) headers[name.toLowerCase()] = value;
    this.stream.sendTrailers(headers);
  }

  onBody(buffer: Buffer, start: number, end: number): boolean {
    return this.stream.destroyed || this.stream.write(buffer.subarray(start, end));
  }

  onEnd(trailers: Trailers): void {
    this.trailers = trailers;
    if (!this.stream.destroyed && !this.stream.writableEnded) this.stream.end();
  }

  onRefused(status: number, cause: string, retryAfterSeconds: number | null): number {
    const id = this.exchange?.request.id ?? this.context.nextRequestId();
    return this.respondPage(status, cause, id, retryAfterSeconds);
  }

  onCut(): void {
    // Bun's `close` would first end the stream as if it were complete.
    this.stream.destroy(new Error("the answer broke off"));
  }

  onFinished(): void {
    if (this.exchange !== null) this.context.sweeper.remove(this.exchange);
    this.exchange = null;
    // What is still sent of the body is not wanted: RFC 9113 8.1.
    if (!this.stream.destroyed) this.stream.resume();
  }

  /** An answer to a request that never became an exchange. */
  private answer(status: number, cause: string, id: string): void {
    const bytesOut = this.respondPage(status, cause, id, null);
    this.stream.resume();
    logUnplaced(this.context, this, id, this.request, status, bytesOut);
  }

  private respondPage(
    status: number,
    cause: string,
    id: string,
    retryAfterSeconds: number | null,
  ): number {
    if (this.stream.destroyed || this.stream.headersSent) return 0;
    const page = makePage(status, cause, id, this.request?.accept ?? null);
    const headers: http2.OutgoingHttpHeaders = {
      ":status": status,
      "content-type": page.contentType,
      "content-length": page.body.length,
      "cache-control": "no-store",
      "x-request-id": id,
    };
    if (retryAfterSeconds !== null) headers["retry-after"] = String(retryAfterSeconds);
    const empty = this.request?.method === "HEAD";
    this.stream.respond(headers, { endStream: empty });
    if (!empty) this.stream.end(page.body);
    return empty ? 0 : page.body.length;
  }
}
