import { ok, type Result } from "../../base/result.ts";
import type { Timestamp } from "../../base/time.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import type { AppState } from "../routing/app.ts";
import type { Router } from "../routing/router.ts";
import type { ByteSocket } from "../sockets/sockets.ts";
import { buildRequestHead, buildResponseHead, isUnchanged } from "./build.ts";
import { Exchange, type ExchangeClient, logUnplaced } from "./exchange.ts";
import { faultAnswers, type RequestFault } from "./faults.ts";
import { fieldId } from "./fields.ts";
import { ForwardedLines } from "./forwarded.ts";
import type { HeadParser } from "./head.ts";
import { HeadReader } from "./head-reader.ts";
import { addressOf, Output } from "./output.ts";
import { makePage, pageHead, type UnroutedStatus, unroutedCause } from "./pages.ts";
import { type RequestFacts, readRequest } from "./request.ts";
import { noBody, RequestBody } from "./request-body.ts";
import type { ResponseFacts } from "./response.ts";
import type { Trailers } from "./upstream.ts";

/** What a connection needs to know about its encryption; null on a plain one. */
export interface TlsFacts {
  /** Whether the certificate shown covers a host. */
  covers(host: string): boolean;
}

const lastChunk = Buffer.from("0\r\n\r\n");
const emptyLine = Buffer.from("\r\n");
const nothing = Buffer.alloc(0);

/**
 * A client's HTTP/1 connection; requests on it are served one after the other:
 *
 *   idle ─→ head ⇄ looking (for an app not known here)
 *             │ └─→ exchange (body in, response out) ─→ idle
 *             │         ├─→ tunnel ─→ closed
 *             └─────────┴─→ lingering (answered, reads what still comes) ─→ closed
 *
 * While an exchange cannot take more of its body, and while one is answered with a further
 * request already here, the socket is not read: nothing is gathered but the last read.
 */
export class Http1Client implements ExchangeClient, Deadlined {
  readonly address: string;
  protocol = "HTTP/1.1";
  passesChunks = true;

  private readonly context: GatewayContext;
  private readonly router: Router;
  private readonly socket: ByteSocket;
  private readonly output: Output;
  private readonly tls: TlsFacts | null;
  private readonly reader: HeadReader;
  private readonly forwarded: ForwardedLines;

  private input: Buffer | null = null;
  private inputStart = 0;
  private inputEnd = 0;
  private paused = false;
  private stepping = false;
  private exchange: Exchange | null = null;
  private facts: RequestFacts | null = null;
  /** Of the request that is served, or was last. */
  private body: RequestBody;
  private closesAfter = false;
  private recodes = false;
  private tunnel = false;
  /** The request's host is being looked up. */
  private looking = false;
  private requests = 0;
  private lingering = false;
  private lingeredBytes = 0;
  private closed = false;
  private accept: string | null = null;
  private ownDeadlineAt: Timestamp;

  constructor(context: GatewayContext, router: Router, socket: ByteSocket, tls: TlsFacts | null) {
    this.context = context;
    this.router = router;
    this.socket = socket;
    this.tls = tls;
    this.body = new RequestBody(noBody, context.parsers);
    this.output = new Output(socket);
    this.reader = new HeadReader(context.parsers);
    this.address = addressOf(socket);
    this.forwarded = new ForwardedLines(this.address, tls === null ? "http" : "https");
    this.ownDeadlineAt = context.clock.now() + context.limits.headMs;
    context.sweeper.add(this);
  }

  get deadlineAt(): Timestamp {
    return this.exchange === null ? this.ownDeadlineAt : this.exchange.deadlineAt;
  }

  expire(): void {
    if (this.exchange !== null) this.exchange.expire();
    else if (this.lingering && this.output.empty) this.leave();
    else if (this.lingering) this.close();
    else if (this.reader.begun) this.answerFault(408, "The request's head did not arrive in time.");
    else this.linger();
  }

  /** Between requests, with nothing begun: can be closed without loss. */
  get idle(): boolean {
    const isWaiting = this.exchange === null && !this.looking;
    return isWaiting && !this.reader.begun && this.input === null;
  }

  // ——— from the socket

  received(buffer: Buffer, start: number, end: number): void {
    if (this.closed) return;
    if (this.lingering) {
      this.lingeredBytes += end - start;
      if (this.lingeredBytes > this.context.limits.lingerBytesMax) this.close();
      return;
    }
    if (this.input === null) {
      this.input = buffer;
      this.inputStart = start;
      this.inputEnd = end;
    } else {
      // The socket was paused with this read already under way.
      const rest = this.input.subarray(this.inputStart, this.inputEnd);
      this.input = Buffer.concat([rest, buffer.subarray(start, end)]);
      this.inputStart = 0;
      this.inputEnd = this.input.length;
    }
    this.run();
    if (this.input !== buffer) return;
    // What was read lies where the next read will.
    this.input = Buffer.from(buffer.subarray(this.inputStart, this.inputEnd));
    this.inputStart = 0;
    this.inputEnd = this.input.length;
  }

  drained(): void {
    const flushed = this.output.flush();
    if (this.lingering) this.ownDeadlineAt = this.lingerDeadline();
    if (!flushed) return;
    if (this.exchange !== null) this.exchange.resumeResponse();
    else this.run();
  }

  /** FIN. A client that leaves while it is being served has lost interest, as nginx has it. */
  ended(): void {
    if (this.tunnel) {
      this.exchange?.endTunnel();
      return;
    }
    if (this.exchange !== null || this.looking) return this.close();
    if (this.output.empty) this.leave();
    else this.linger();
  }

  /** Closes without a reset: the kernel still delivers what it took. */
  private leave(): void {
    this.gone();
    this.socket.end();
  }

  gone(): void {
    if (this.closed) return;
    this.closed = true;
    this.context.sweeper.remove(this);
    this.reader.release();
    this.input = null;
    const { exchange } = this;
    this.exchange = null;
    exchange?.abort();
  }

  close(): void {
    if (this.closed) return;
    this.gone();
    this.socket.terminate();
  }

  // ——— requests

  private run(): void {
    if (this.stepping) return;
    this.stepping = true;
    try {
      while (this.input !== null && !this.closed && !this.lingering && this.step()) {
        if (this.input !== null && this.inputStart === this.inputEnd) this.input = null;
      }
    } finally {
      this.stepping = false;
    }
    if (this.input !== null && this.inputStart === this.inputEnd) this.input = null;
    if (this.input === null || this.lingering) this.resume();
    else this.pause();
  }

  /** True: go on with the input that is left. */
  private step(): boolean {
    if (this.looking) return false;
    // A client that does not read its answers gets no further ones.
    if (this.exchange === null) return this.output.empty && this.readHead();
    if (this.tunnel) return this.feedTunnel(this.exchange);
    if (this.body.done || !this.exchange.wantsBody) return false;
    return this.feedBody(this.exchange);
  }

  private readHead(): boolean {
    const { reader } = this;
    if (!reader.begun) this.ownDeadlineAt = this.context.clock.now() + this.context.limits.headMs;
    const complete = reader.read("request", this.input as Buffer, this.inputStart, this.inputEnd);
    if (!complete) {
      this.input = null;
      return false;
    }
    const parser = reader.parser as HeadParser;
    const buffer = reader.buffer as Buffer;
    this.accept = null;
    if (parser.fault !== null) {
      const { status, cause } = faultAnswers[parser.fault];
      this.answerFault(status, cause);
      return false;
    }
    this.input = buffer;
    this.inputStart = parser.end;
    this.inputEnd = reader.length;
    const begun = this.beginRequest(parser, buffer);
    if (this.looking) return false;
    reader.release();
    if (!begun.ok) {
      const { status, cause } = faultAnswers[begun.error];
      this.answerFault(status, cause);
      return false;
    }
    begun.value?.start();
    return true;
  }

  /** Null: answered already, or `looking`. */
  private beginRequest(parser: HeadParser, buffer: Buffer): Result<Exchange | null, RequestFault> {
    const read = readRequest(parser, buffer);
    if (!read.ok) return read;
    const facts = read.value;
    this.facts = facts;
    this.accept = parser.valueOf(fieldId.accept, buffer);
    this.requests += 1;
    this.closesAfter =
      !facts.keepAlive ||
      this.context.closing ||
      this.requests >= this.context.limits.requestsPerConnectionMax;
    this.body = new RequestBody(facts, this.context.parsers);
    this.passesChunks = facts.minorVersion === 1;
    this.protocol = facts.minorVersion === 1 ? "HTTP/1.1" : "HTTP/1.0";
    this.recodes = false;
    const id = this.context.nextRequestId();
    const app = this.router.find(facts.host);
    const covered = this.tls === null || this.tls.covers(facts.host);
    if (!covered) this.answerUnrouted(facts, id, 421);
    else if (app === null) this.lookUp(parser, buffer, facts, id).catch(this.context.report);
    else return ok(this.beginExchange(app, parser, buffer, facts, id));
    return ok(null);
  }

  private async lookUp(
    parser: HeadParser,
    buffer: Buffer,
    facts: RequestFacts,
    id: string,
  ): Promise<void> {
    this.looking = true;
    this.ownDeadlineAt = Number.POSITIVE_INFINITY;
    const kept = Buffer.from(buffer.subarray(0, parser.end));
    const found = await this.router.lookUp(facts.host);
    if (this.closed) return;
    this.looking = false;
    if (found.kind === "app") this.beginExchange(found.app, parser, kept, facts, id);
    else this.answerUnrouted(facts, id, found.kind === "absent" ? 404 : 503);
    this.reader.release();
    this.exchange?.start();
    this.run();
  }

  private beginExchange(
    app: AppState,
    parser: HeadParser,
    buffer: Buffer,
    facts: RequestFacts,
    id: string,
  ): Exchange {
    const exchange = new Exchange(this.context, this, app, {
      id,
      method: facts.method,
      host: facts.host,
      target: facts.target,
      framing: facts.framing,
      upgrade: facts.upgrade,
      userAgent: parser.valueOf(fieldId.userAgent, buffer),
      key:
        app.route.affinity === undefined
          ? null
          : app.keyOf({ ...facts, fields: (name) => parser.valuesNamed(name, buffer) }),
      head: buildRequestHead(parser, buffer, facts, this.forwarded.of(facts.authority), id),
      startedAt: this.context.clock.now(),
    });
    this.exchange = exchange;
    return exchange;
  }

  private feedTunnel(exchange: Exchange): boolean {
    if (!exchange.wantsBody) return false;
    exchange.sendBody(this.input as Buffer, this.inputStart, this.inputEnd, false);
    this.input = null;
    return false;
  }

  private feedBody(exchange: Exchange): boolean {
    const { body } = this;
    const buffer = this.input as Buffer;
    const start = this.inputStart;
    const end = body.walk(buffer, start, this.inputEnd);
    if (body.fault !== null) {
      const { status, cause } = faultAnswers[body.fault];
      exchange.refuse(status, cause, null);
      return false;
    }
    this.inputStart = end;
    body.send(exchange, buffer, start, end);
    return true;
  }

  // ——— from the exchange

  onBodyWanted(): void {
    const { exchange } = this;
    // Within a step the body's first bytes go out with the head.
    if (!this.stepping) this.run();
    else if (exchange !== null && !this.body.done && this.inputStart < this.inputEnd) {
      this.feedBody(exchange);
    }
  }

  onInformational(parser: HeadParser, buffer: Buffer, facts: ResponseFacts): void {
    if (this.facts?.minorVersion !== 1) return;
    if (facts.status === 100 && !this.facts.expectsContinue) return;
    const head = buildResponseHead(parser, buffer, facts, "", true);
    this.output.write(head, 0, head.length);
  }

  onResponse(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean {
    if (facts.status === 101) return this.beginTunnel(parser, buffer, facts, bodyStart, bodyEnd);
    const old = this.facts?.minorVersion === 0;
    const unbounded = facts.framing === "close" || facts.framing === "chunked";
    if (old && unbounded) this.closesAfter = true;
    this.recodes = !old && facts.framing === "close";
    let added = "";
    if (this.closesAfter) added = "Connection: close\r\n";
    else if (old) added = "Connection: keep-alive\r\n";
    if (this.recodes) added += "Transfer-Encoding: chunked\r\n";
    if (added === "" && isUnchanged(parser, facts)) {
      // The bytes as they lie, with the body that came along.
      const end = bodyStart === parser.end ? bodyEnd : parser.end;
      return this.output.write(buffer, parser.startLineStart, end);
    }
    const head = buildResponseHead(parser, buffer, facts, added, this.passesChunks);
    if (bodyEnd === bodyStart) return this.output.write(head, 0, head.length);
    if (!this.recodes) return this.output.writeBoth(head, buffer, bodyStart, bodyEnd);
    this.output.write(head, 0, head.length);
    return this.writeChunk(buffer, bodyStart, bodyEnd);
  }

  private beginTunnel(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean {
    this.tunnel = true;
    this.closesAfter = true;
    const added = `Connection: Upgrade\r\nUpgrade: ${facts.upgrade ?? this.facts?.upgrade}\r\n`;
    const head = buildResponseHead(parser, buffer, facts, added, true);
    return this.output.writeBoth(head, buffer, bodyStart, bodyEnd);
  }

  onBody(buffer: Buffer, start: number, end: number): boolean {
    return this.recodes
      ? this.writeChunk(buffer, start, end)
      : this.output.write(buffer, start, end);
  }

  private writeChunk(buffer: Buffer, start: number, end: number): boolean {
    const size = Buffer.from(`${(end - start).toString(16)}\r\n`);
    this.output.writeBoth(size, buffer, start, end);
    return this.output.write(emptyLine, 0, emptyLine.length);
  }

  onEnd(_trailers: Trailers): void {
    // With the coding passed through, the trailers went along.
    if (this.recodes) this.output.write(lastChunk, 0, lastChunk.length);
  }

  onRefused(status: number, cause: string, retryAfterSeconds: number | null): number {
    if (!this.body.done) this.closesAfter = true;
    const id = this.exchange?.request.id ?? this.context.nextRequestId();
    return this.writePage(status, cause, id, retryAfterSeconds);
  }

  onCut(): void {
    // Only an abrupt end tells the client that what it has is not all.
    this.close();
  }

  onFinished(): void {
    this.exchange = null;
    this.tunnel = false;
    if (this.closed) return;
    if (!this.body.done || this.closesAfter) return this.linger();
    this.facts = null;
    this.ownDeadlineAt = this.context.clock.now() + this.context.limits.idleMs;
    if (this.context.closing && this.input === null) return this.linger();
    this.run();
  }

  // ——— answers of its own

  /** An answer to what is not a request, after which nothing on this connection can be trusted. */
  private answerFault(status: number, cause: string): void {
    const id = this.context.nextRequestId();
    this.reader.release();
    this.closesAfter = true;
    this.facts = null;
    const bytesOut = this.writePage(status, cause, id, null);
    logUnplaced(this.context, this, id, null, status, bytesOut);
    this.linger();
  }

  private answerUnrouted(facts: RequestFacts, id: string, status: UnroutedStatus): void {
    if (!this.body.done) this.closesAfter = true;
    const cause = unroutedCause(status, facts.host);
    const bytesOut = this.writePage(status, cause, id, status === 503 ? 1 : null);
    logUnplaced(this.context, this, id, facts, status, bytesOut);
    if (this.closesAfter) this.linger();
    else this.ownDeadlineAt = this.context.clock.now() + this.context.limits.idleMs;
  }

  private writePage(
    status: number,
    cause: string,
    id: string,
    retryAfterSeconds: number | null,
  ): number {
    const connection = this.closesAfter
      ? "Connection: close\r\n"
      : this.facts?.minorVersion === 0
        ? "Connection: keep-alive\r\n"
        : "";
    const retry = retryAfterSeconds === null ? "" : `Retry-After: ${retryAfterSeconds}\r\n`;
    const page = makePage(status, cause, id, this.accept);
    const head = pageHead(status, page, id, retry + connection);
    const body = this.facts?.method === "HEAD" ? nothing : page.body;
    this.output.writeBoth(head, body, 0, body.length);
    return body.length;
  }

  /** Sends FIN and reads on a little: closing with bytes unread would destroy the answer. */
  private linger(): void {
    if (this.closed || this.lingering) return;
    this.lingering = true;
    this.input = null;
    this.ownDeadlineAt = this.lingerDeadline();
    this.resume();
    this.output.end();
  }

  /** While a slow reader has not taken all of its answer, what counts is that it goes on. */
  private lingerDeadline(): Timestamp {
    const { limits, clock } = this.context;
    return clock.now() + (this.output.empty ? limits.lingerMs : limits.streamIdleMs);
  }

  /** Ends the connection now if nothing is lost, else after the request it is in. */
  retire(): void {
    if (this.idle && !this.lingering) this.linger();
    else this.closesAfter = true;
  }

  private pause(): void {
    if (this.paused || this.closed) return;
    this.paused = true;
    this.socket.pause();
  }

  private resume(): void {
    if (!this.paused || this.closed) return;
    this.paused = false;
    this.socket.resume();
  }
}
