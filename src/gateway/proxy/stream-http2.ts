import type { Timestamp } from "../../base/time.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import { type BodyBlock, frameAsChunk } from "../http2/body-queue.ts";
import { errorCode } from "../http2/frames.ts";
import type { HeaderField } from "../http2/static-table.ts";
import type { Http2Stream, StreamUser } from "../http2/stream.ts";
import type { AppState } from "../routing/app.ts";
import type { Router } from "../routing/router.ts";
import { encodeResponseHead } from "./build.ts";
import type { TlsFacts } from "./client-http1.ts";
import { Exchange, type ExchangeClient, logUnplaced } from "./exchange.ts";
import { type FaultAnswer, faultAnswers } from "./faults.ts";
import type { HeadParser } from "./head.ts";
import { makePage, type UnroutedStatus, unroutedCause } from "./pages.ts";
import { acceptsRequestTrailers, type Http2Request, readHttp2Request } from "./request-http2.ts";
import type { ResponseFacts } from "./response.ts";
import type { Trailers } from "./upstream.ts";

const continueStatus = 100;
const lastChunk = Buffer.from("0\r\n\r\n");

/** The connection as its streams see it. */
export interface StreamOwner {
  readonly context: GatewayContext;
  readonly router: Router;
  readonly tls: TlsFacts;
  readonly address: string;
  streamClosed(): void;
}

/**
 * One request on a stream:
 *
 *   begun ⇄ looking (for an app not known here; the body waits)
 *     ├─→ exchange (body in, response out) ─→ finished: what is pending goes out ─→ closed
 *     └─→ answered by a page, or reset
 *
 * A request with a body starts at the end of the read it came in, so that its head and the first
 * of its body go to the instance together.
 */
export class Http2Client implements ExchangeClient, StreamUser, Deadlined {
  readonly passesChunks = false;
  readonly protocol = "HTTP/2";
  readonly address: string;
  private readonly owner: StreamOwner;
  private readonly context: GatewayContext;
  private readonly stream: Http2Stream;
  private exchange: Exchange | null = null;
  private started = false;
  /** The request's host is being looked up. */
  private looking = false;
  private request: Http2Request | null = null;
  private bodyRemaining = 0;
  private bodyDone = false;
  private tunnel = false;
  private tunnelEnded = false;
  private saidContinue = false;
  /** Of the response's body, when its length is known; else -1. */
  private answerRemaining = -1;
  /** After the exchange: by when the client must have taken some of what is pending. */
  private takenBy: Timestamp = Number.POSITIVE_INFINITY;
  private pendingBefore = 0;

  constructor(owner: StreamOwner, stream: Http2Stream) {
    this.owner = owner;
    this.context = owner.context;
    this.stream = stream;
    this.address = owner.address;
    stream.user = this;
  }

  get deadlineAt(): Timestamp {
    return this.exchange === null ? this.takenBy : this.exchange.deadlineAt;
  }

  expire(): void {
    if (this.exchange !== null) return this.exchange.expire();
    if (this.stream.pendingBytes < this.pendingBefore) this.awaitTaking();
    else this.stream.reset(errorCode.cancel);
  }

  private awaitTaking(): void {
    this.takenBy = this.context.clock.now() + this.context.limits.streamIdleMs;
    this.pendingBefore = this.stream.pendingBytes;
  }

  /** @param fields null: more than is allowed. */
  begin(fields: readonly HeaderField[] | null): void {
    const { owner, context, stream } = this;
    const id = context.nextRequestId();
    if (fields === null) return this.answer(faultAnswers.fieldsTooLarge, id);
    const webSocketKey = () => Buffer.from(context.random.token(16)).toString("base64");
    const added = { address: this.address, requestId: id, webSocketKey };
    const lineBytesMax = context.limits.head.startLineBytesMax;
    const read = readHttp2Request(fields, stream.inputEnded, added, lineBytesMax);
    if (!read.ok) {
      if (read.error !== null) return this.answer(read.error, id);
      logUnplaced(context, this, id, null, 400, 0);
      return stream.refuse(errorCode.protocolError);
    }
    const request = read.value;
    this.request = request;
    if (!owner.tls.covers(request.host)) return this.answerUnrouted(request, id, 421);
    const app = owner.router.find(request.host);
    if (app === null) {
      this.lookUp(request, fields, id).catch(context.report);
      return;
    }
    this.beginExchange(app, request, fields, id);
    if (stream.inputEnded) this.start();
  }

  private async lookUp(
    request: Http2Request,
    fields: readonly HeaderField[],
    id: string,
  ): Promise<void> {
    this.looking = true;
    const found = await this.owner.router.lookUp(request.host);
    this.looking = false;
    if (this.stream.closed) return;
    if (found.kind === "app") {
      this.beginExchange(found.app, request, fields, id);
      this.onInput();
    } else this.answerUnrouted(request, id, found.kind === "absent" ? 404 : 503);
  }

  private beginExchange(
    app: AppState,
    request: Http2Request,
    fields: readonly HeaderField[],
    id: string,
  ): void {
    const { context } = this;
    this.bodyDone = request.framing === "none";
    this.bodyRemaining = request.contentLength;
    this.exchange = new Exchange(context, this, app, {
      ...request,
      id,
      key: keyOf(app, request, fields),
      startedAt: context.clock.now(),
    });
  }

  private start(): void {
    if (this.started) return;
    this.started = true;
    this.exchange?.start();
  }

  // ——— from the stream

  onInput(): void {
    if (this.looking) return;
    this.start();
    this.feed();
  }

  onTrailers(fields: readonly HeaderField[]): boolean {
    return acceptsRequestTrailers(fields);
  }

  onDrained(): void {
    this.exchange?.resumeResponse();
  }

  onClosed(code: number | null): void {
    // With both sides at their end, the exchange is about to find out itself.
    if (code !== null) this.exchange?.abort();
    this.owner.streamClosed();
  }

  /** Passes on what waits of the body, as far as the instance takes it. */
  private feed(): void {
    const { stream } = this;
    while (this.takesInput) {
      const block = stream.body.take();
      if (block === null) break;
      stream.consumed(block.end - block.start);
      if (!this.pass(block)) return stream.refuse(errorCode.protocolError);
    }
    if (stream.inputEnded && !stream.closed && stream.body.bytes === 0) this.endBody();
  }

  private get takesInput(): boolean {
    const { exchange, request } = this;
    if (exchange === null || exchange.wantsBody) return true;
    // What comes after the body's end must be looked at, but for what waits for its tunnel.
    return this.bodyDone && request?.upgrade === null;
  }

  /** False: there is more than Content-Length says. */
  private pass(block: BodyBlock): boolean {
    const { exchange, request, stream } = this;
    if (exchange === null) return true;
    if (this.tunnel) {
      exchange.sendBody(block.buffer, block.start, block.end, false);
      return true;
    }
    if (this.bodyDone) return false;
    if (request?.framing === "length") {
      this.bodyRemaining -= block.end - block.start;
      if (this.bodyRemaining < 0) return false;
      this.bodyDone = this.bodyRemaining === 0;
    } else {
      const isLast = stream.inputEnded && stream.body.bytes === 0;
      frameAsChunk(block, isLast);
      this.bodyDone = isLast;
    }
    exchange.sendBody(block.buffer, block.start, block.end, this.bodyDone);
    return true;
  }

  private endBody(): void {
    const { exchange, request, stream } = this;
    if (exchange === null) return;
    if (this.tunnel && !this.tunnelEnded) {
      this.tunnelEnded = true;
      exchange.endTunnel();
    }
    if (this.bodyDone || !exchange.wantsBody) return;
    if (request?.framing !== "chunked") return stream.refuse(errorCode.protocolError);
    this.bodyDone = true;
    exchange.sendBody(lastChunk, 0, lastChunk.length, true);
  }

  // ——— from the exchange

  onBodyWanted(): void {
    if (this.request?.expectsContinue === true && !this.saidContinue) {
      this.saidContinue = true;
      this.stream.beginBlock().status(continueStatus);
      this.stream.sendBlock(false);
    }
    this.feed();
  }

  onInformational(parser: HeadParser, buffer: Buffer, facts: ResponseFacts): void {
    // The gateway says this one itself, to those who wait for it.
    if (facts.status === continueStatus) return;
    encodeResponseHead(parser, buffer, facts, this.stream.beginBlock());
    this.stream.sendBlock(false);
  }

  onResponse(
    parser: HeadParser,
    buffer: Buffer,
    facts: ResponseFacts,
    bodyStart: number,
    bodyEnd: number,
  ): boolean {
    const { stream } = this;
    this.tunnel = facts.status === 101;
    const isEmpty = facts.framing === "none" && !this.tunnel;
    this.answerRemaining = facts.framing === "length" ? facts.contentLength : -1;
    encodeResponseHead(parser, buffer, facts, stream.beginBlock());
    stream.sendBlock(isEmpty);
    return bodyEnd === bodyStart || this.onBody(buffer, bodyStart, bodyEnd);
  }

  onBody(buffer: Buffer, start: number, end: number): boolean {
    if (this.answerRemaining < 0) return this.stream.send(buffer, start, end, false);
    this.answerRemaining -= end - start;
    return this.stream.send(buffer, start, end, this.answerRemaining === 0);
  }

  onEnd(trailers: Trailers): void {
    if (trailers.length === 0 || this.request?.acceptsTrailers !== true) {
      return this.stream.end(null);
    }
    const encoder = this.stream.beginBlock();
    for (const [name, value] of trailers) encoder.text(name.toLowerCase(), value);
    this.stream.end(Buffer.from(encoder.buffer.subarray(0, encoder.length)));
  }

  onRefused(status: number, cause: string, retryAfterSeconds: number | null): number {
    const id = this.exchange?.request.id ?? this.context.nextRequestId();
    return this.respondPage(status, cause, id, retryAfterSeconds);
  }

  onCut(): void {
    this.stream.reset(errorCode.internalError);
  }

  onFinished(): void {
    this.exchange = null;
    this.stream.discard();
    if (!this.stream.closed) this.awaitTaking();
  }

  // ——— answers of its own

  /** An answer to a request that never became an exchange. */
  private answer({ status, cause }: FaultAnswer, id: string): void {
    const bytesOut = this.respondPage(status, cause, id, status === 503 ? 1 : null);
    logUnplaced(this.context, this, id, this.request, status, bytesOut);
    this.onFinished();
  }

  private answerUnrouted({ host }: Http2Request, id: string, status: UnroutedStatus): void {
    this.answer({ status, cause: unroutedCause(status, host) }, id);
  }

  private respondPage(
    status: number,
    cause: string,
    id: string,
    retryAfterSeconds: number | null,
  ): number {
    const page = makePage(status, cause, id, this.request?.accept ?? null);
    const encoder = this.stream.beginBlock();
    encoder.status(status);
    encoder.text("content-type", page.contentType);
    encoder.text("content-length", String(page.body.length));
    encoder.text("cache-control", "no-store");
    encoder.text("x-request-id", id);
    if (retryAfterSeconds !== null) encoder.text("retry-after", String(retryAfterSeconds));
    const isEmpty = this.request?.method === "HEAD";
    this.stream.sendBlock(isEmpty);
    if (isEmpty) return 0;
    this.stream.send(page.body, 0, page.body.length, true);
    return page.body.length;
  }
}

function keyOf(
  app: AppState,
  request: Http2Request,
  fields: readonly HeaderField[],
): number | null {
  if (app.route.affinity === undefined) return null;
  const valuesNamed = (name: string) => {
    const values = fields.filter((field) => field.name === name).map((field) => field.value);
    return name === "cookie" && values.length > 1 ? [values.join("; ")] : values;
  };
  return app.keyOf({ ...request, fields: valuesNamed });
}
