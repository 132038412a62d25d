import type { Timestamp } from "../../base/time.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import { type ConnectionHost, Http2Connection, type Http2Limits } from "../http2/connection.ts";
import { HpackEncoder } from "../http2/hpack-encoder.ts";
import type { HeaderField } from "../http2/static-table.ts";
import type { Http2Stream } from "../http2/stream.ts";
import type { Router } from "../routing/router.ts";
import type { ByteSocket } from "../sockets/sockets.ts";
import type { TlsFacts } from "./client-http1.ts";
import { addressOf, Output } from "./output.ts";
import { Http2Client } from "./stream-http2.ts";

/** What all HTTP/2 connections of a gateway share. */
export class Http2Front {
  readonly context: GatewayContext;
  readonly router: Router;
  readonly limits: Http2Limits;
  readonly encoder = new HpackEncoder();
  /** Connections with something to send. */
  private dirty: Http2Session[] = [];

  constructor(context: GatewayContext, router: Router) {
    this.context = context;
    this.router = router;
    const { head, http2, requestsPerConnectionMax } = context.limits;
    this.limits = {
      // The pseudo-header fields come on top of what HTTP/1.1 allows.
      headers: { bytesMax: head.fieldBytesMax, fieldsMax: head.fieldsMax + 5 },
      streamsMax: http2.streamsMax,
      requestsMax: requestsPerConnectionMax,
      streamWindowBytes: http2.streamWindowBytes,
      connectionWindowBytes: http2.connectionWindowBytes,
      flood: http2,
    };
  }

  accept(socket: ByteSocket, tls: TlsFacts): Http2Session {
    return new Http2Session(this, socket, tls);
  }

  /**
   * Flushes a connection once all that the kernel has told this turn is dealt with: the answers
   * of many instances to one client's streams go out by one write.
   */
  flushSoon(session: Http2Session): void {
    if (this.dirty.length === 0) this.context.sockets.defer(() => this.flushAll());
    this.dirty.push(session);
  }

  private flushAll(): void {
    const { dirty } = this;
    this.dirty = [];
    for (const session of dirty) {
      try {
        session.flushNow();
      } catch (error) {
        this.context.report(error);
        session.close();
      }
    }
  }
}

/**
 * A client's HTTP/2 connection on its socket; each stream is an exchange of its own, translated
 * to HTTP/1.1:
 *
 *   serving ─→ (drained, or an error, and all is sent) lingering: reads what still comes ─→ closed
 *
 * While the socket takes nothing, it is not read: a client that does not read its answers gets
 * no further ones.
 */
export class Http2Session implements Deadlined, ConnectionHost {
  readonly address: string;
  readonly tls: TlsFacts;
  readonly context: GatewayContext;
  readonly router: Router;
  private readonly front: Http2Front;
  private readonly socket: ByteSocket;
  private readonly output: Output;
  private readonly connection: Http2Connection;
  private scheduled = false;
  private paused = false;
  private lingering = false;
  private lingeredBytes = 0;
  private retired = false;
  private closed = false;
  private activeAt: Timestamp;
  /** Since when the preface, a frame or a header block is under way; null: none is. */
  private incompleteSince: Timestamp | null;

  constructor(front: Http2Front, socket: ByteSocket, tls: TlsFacts) {
    this.front = front;
    this.context = front.context;
    this.router = front.router;
    this.socket = socket;
    this.tls = tls;
    this.output = new Output(socket);
    this.address = addressOf(socket);
    this.activeAt = this.context.clock.now();
    this.incompleteSince = this.activeAt;
    this.connection = new Http2Connection(front.limits, this, front.encoder);
    this.context.sweeper.add(this);
    this.onOutput();
  }

  /** The nearest of all its streams' deadlines and its own. */
  get deadlineAt(): Timestamp {
    let nearest = this.ownDeadlineAt;
    for (const { user } of this.connection.streams.all()) {
      if (user instanceof Http2Client && user.deadlineAt < nearest) nearest = user.deadlineAt;
    }
    return nearest;
  }

  private get ownDeadlineAt(): Timestamp {
    const { limits } = this.context;
    if (this.lingering) return this.activeAt + limits.lingerMs;
    if (this.incompleteSince !== null) return this.incompleteSince + limits.headMs;
    if (this.connection.streams.size > 0) return Number.POSITIVE_INFINITY;
    return this.activeAt + (this.retired ? limits.lingerMs : limits.idleMs);
  }

  expire(now: Timestamp): void {
    for (const { user } of [...this.connection.streams.all()]) {
      if (user instanceof Http2Client && user.deadlineAt <= now) user.expire();
    }
    if (this.closed || this.ownDeadlineAt > now) return;
    // Without a reset: the kernel still delivers what it took.
    if (this.lingering) this.ended();
    else if (this.retired || this.incompleteSince !== null) this.close();
    else this.retire();
  }

  // ——— from the socket

  received(buffer: Buffer, start: number, end: number): void {
    if (this.closed) return;
    if (this.lingering) {
      this.lingeredBytes += end - start;
      if (this.lingeredBytes > this.context.limits.lingerBytesMax) this.close();
      return;
    }
    const now = this.context.clock.now();
    this.activeAt = now;
    this.connection.receive(buffer, start, end, now);
    if (!this.connection.incomplete) this.incompleteSince = null;
    else this.incompleteSince ??= now;
    if (this.connection.over) this.onOutput();
  }

  drained(): void {
    if (!this.output.flush() || this.closed || this.lingering) return;
    this.connection.sender.unblock();
    this.onOutput();
    this.resume();
  }

  /** FIN. A client that leaves while it is being served has lost interest, as nginx has it. */
  ended(): void {
    this.gone();
    this.socket.end();
  }

  gone(): void {
    if (this.closed) return;
    this.closed = true;
    this.context.sweeper.remove(this);
    this.connection.abandon();
  }

  close(): void {
    if (this.closed) return;
    this.gone();
    this.socket.terminate();
  }

  /** Takes what is on its way, and ends once all is answered. */
  retire(): void {
    if (this.retired || this.closed) return;
    this.retired = true;
    this.activeAt = this.context.clock.now();
    this.connection.drain();
  }

  // ——— from the connection

  onRequest(stream: Http2Stream, fields: readonly HeaderField[] | null): void {
    new Http2Client(this, stream).begin(fields);
  }

  /** A stream came to its end. */
  streamClosed(): void {
    this.activeAt = this.context.clock.now();
    if (this.connection.over) this.onOutput();
  }

  onOutput(): void {
    if (this.scheduled || this.closed) return;
    this.scheduled = true;
    this.front.flushSoon(this);
  }

  flush(): void {
    const { sender } = this.connection;
    if (this.closed || sender.blocked || sender.output.length === 0) return;
    const bytes = sender.output.take();
    if (this.output.write(bytes, 0, bytes.length)) return;
    sender.blocked = true;
    this.pause();
  }

  flushNow(): void {
    this.scheduled = false;
    this.flush();
    if (this.connection.over && !this.connection.sender.blocked) this.linger();
  }

  /** Sends FIN and reads on a little: closing with bytes unread would destroy the last frames. */
  private linger(): void {
    if (this.closed || this.lingering) return;
    this.lingering = true;
    this.activeAt = this.context.clock.now();
    this.resume();
    this.output.end();
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
