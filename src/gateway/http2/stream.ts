import { BodyQueue } from "./body-queue.ts";
import type { HpackEncoder } from "./hpack-encoder.ts";
import type { HeaderField } from "./static-table.ts";

/** Who a stream works for. */
export interface StreamUser {
  /** More of the body is in `body`, or `inputEnded` is set. Comes once per read. */
  onInput(): void;
  /** The request's trailers, which end it: `onInput` follows. False: they are malformed. */
  onTrailers(fields: readonly HeaderField[]): boolean;
  /** All that was given to `send` went out. */
  onDrained(): void;
  /** The last call. Null: both sides had ended; else the code of the reset, by whoever. */
  onClosed(code: number | null): void;
}

/** The sending half of a connection. */
export interface StreamSender {
  /** The encoder, ready for a new block. */
  beginBlock(): HpackEncoder;
  /** Sends the encoder's block. */
  sendBlock(stream: Http2Stream, endStream: boolean): void;
  /** Sends what the stream has pending, as far as it may. */
  pump(stream: Http2Stream): void;
}

/** What a stream needs of its connection. */
export interface StreamHost {
  readonly sender: StreamSender;
  consumed(stream: Http2Stream, bytes: number): void;
  cancel(stream: Http2Stream, code: number): void;
  /** The same by the client's fault, of which it has not many. */
  refuse(stream: Http2Stream, code: number): void;
  /** It may have come to its end. */
  settle(stream: Http2Stream): void;
}

interface Pending {
  buffer: Buffer;
  start: number;
  end: number;
}

/**
 * One stream, from the server's side (RFC 9113 5.1); idle and reserved ones have no object:
 *
 *   open ─→ half-closed, remote (inputEnded) ─→ closed
 *     └───→ half-closed, local (outputEnded) ─→ closed: also by a reset from either side
 */
export class Http2Stream {
  readonly id: number;
  user: StreamUser | null = null;
  /** What the peer may still send, and what was used and not yet given back. */
  receiveWindow: number;
  unreturned = 0;
  sendWindow: number;
  readonly body = new BodyQueue();
  inputEnded = false;
  /** END_STREAM has been written. */
  outputEnded = false;
  closed = false;
  /** Its user wants no more of the body: it is given back unread. */
  discards = false;
  /** Has new input in this read. */
  isFresh = false;
  readonly pending: Pending[] = [];
  /** After what is pending: the end, with or without trailers. */
  ending = false;
  trailers: Buffer | null = null;

  private readonly host: StreamHost;

  constructor(host: StreamHost, id: number, receiveWindow: number, sendWindow: number) {
    this.host = host;
    this.id = id;
    this.receiveWindow = receiveWindow;
    this.sendWindow = sendWindow;
  }

  /** Bytes that wait to be sent. */
  get pendingBytes(): number {
    return this.pending.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** What is pending is one piece, with which the response ends. */
  get endsAfterOne(): boolean {
    return this.ending && this.pending.length === 1 && this.trailers === null;
  }

  /** The connection's encoder, for a block that is sent at once. */
  beginBlock(): HpackEncoder {
    return this.host.sender.beginBlock();
  }

  /** Sends the encoder's block. */
  sendBlock(endStream: boolean): void {
    if (!this.closed && !this.outputEnded) this.host.sender.sendBlock(this, endStream);
  }

  /** Sends data; the buffer is the caller's again when this returns. True: all went out. */
  send(buffer: Buffer, start: number, end: number, endStream: boolean): boolean {
    if (this.closed || this.outputEnded) return true;
    const piece = { buffer, start, end };
    if (end > start) this.pending.push(piece);
    this.ending ||= endStream;
    this.host.sender.pump(this);
    if (this.pending.length === 0) return true;
    if (this.pending.at(-1) === piece) {
      piece.buffer = Buffer.from(buffer.subarray(piece.start, end));
      piece.end -= piece.start;
      piece.start = 0;
    }
    return false;
  }

  /** Ends the response. @param trailers an encoded block. */
  end(trailers: Buffer | null): void {
    if (this.closed || this.outputEnded || this.ending) return;
    this.ending = true;
    this.trailers = trailers;
    this.host.sender.pump(this);
  }

  /** The user took so many bytes of the body: the peer may send as many more. */
  consumed(bytes: number): void {
    this.host.consumed(this, bytes);
  }

  /** Nothing more of the body is wanted; what is still to be sent goes out. */
  discard(): void {
    if (this.closed) return;
    this.discards = true;
    const { bytes } = this.body;
    this.body.clear();
    if (bytes > 0) this.host.consumed(this, bytes);
    this.host.settle(this);
  }

  /** END_STREAM is written. */
  wroteEnd(): void {
    this.outputEnded = true;
    this.host.settle(this);
  }

  /** Ends it by the client's fault. */
  refuse(code: number): void {
    if (!this.closed) this.host.refuse(this, code);
  }

  reset(code: number): void {
    if (!this.closed) this.host.cancel(this, code);
  }
}
