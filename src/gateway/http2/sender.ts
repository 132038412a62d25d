import { FrameWriter, frameBytesMax, windowBytesAtFirst, windowBytesMax } from "./frames.ts";
import type { HpackEncoder } from "./hpack-encoder.ts";
import type { Http2Stream, StreamSender } from "./stream.ts";

/** With so many bytes gathered, they are sent before more are. */
const outputBytesMax = 65_536;

/** Where bytes go. */
export interface SenderHost {
  /** `output` has something again: flush it before long. */
  onOutput(): void;
  /** Send `output` now, and set `blocked` if the socket does not take it. */
  flush(): void;
}

/**
 * The sending half of a connection: header blocks go out at once, data as far as the windows of
 * stream and connection and the socket allow; streams that must wait take turns, a frame each.
 */
export class Http2Sender implements StreamSender {
  readonly output = new FrameWriter();
  /** The socket takes no more at present. */
  blocked = false;
  /** DATA frames sent. */
  dataFrames = 0;
  /** The window that a new stream begins with. */
  streamWindow = windowBytesAtFirst;

  private readonly host: SenderHost;
  private readonly encoder: HpackEncoder;
  private window = windowBytesAtFirst;
  private sentHead = false;
  private readonly waiting = new Set<Http2Stream>();

  /** @param encoder may be shared: it holds a block only until that is sent. */
  constructor(host: SenderHost, encoder: HpackEncoder) {
    this.host = host;
    this.encoder = encoder;
  }

  /** Something was written to `output`. */
  wrote(): void {
    this.host.onOutput();
  }

  beginBlock(): HpackEncoder {
    this.encoder.begin(!this.sentHead);
    return this.encoder;
  }

  sendBlock(stream: Http2Stream, endStream: boolean): void {
    this.sentHead = true;
    this.output.headers(stream.id, this.encoder.buffer, this.encoder.length, endStream);
    this.wrote();
    if (endStream) stream.wroteEnd();
  }

  /** Sends what the stream has pending, at most so many frames. False: it could send none. */
  pump(stream: Http2Stream, framesMax = Number.POSITIVE_INFINITY): boolean {
    let frames = 0;
    while (!stream.closed && !stream.outputEnded) {
      const pending = stream.pending[0];
      if (pending === undefined) {
        // Also after the last frame of a turn: nothing would come back to it.
        if (stream.ending) this.writeEnd(stream);
        break;
      }
      const room = Math.min(this.window, stream.sendWindow, frameBytesMax);
      if (frames === framesMax || this.blocked || room <= 0) break;
      const end = Math.min(pending.end, pending.start + room);
      const isLast = end === pending.end && stream.endsAfterOne;
      this.writeData(stream, pending.buffer, pending.start, end, isLast);
      pending.start = end;
      if (end === pending.end) stream.pending.shift();
      if (isLast) stream.wroteEnd();
      frames += 1;
      if (this.output.length >= outputBytesMax) this.host.flush();
    }
    if (stream.pending.length > 0) {
      // Who had a turn goes to the end of the queue.
      if (frames > 0) this.waiting.delete(stream);
      this.waiting.add(stream);
    } else if (this.waiting.delete(stream)) stream.user?.onDrained();
    return frames > 0;
  }

  private writeData(
    stream: Http2Stream,
    buffer: Buffer,
    start: number,
    end: number,
    isLast: boolean,
  ): void {
    this.window -= end - start;
    stream.sendWindow -= end - start;
    this.dataFrames += 1;
    this.output.data(stream.id, buffer, start, end, isLast);
    this.wrote();
  }

  private writeEnd(stream: Http2Stream): void {
    const { trailers } = stream;
    if (trailers === null) this.output.data(stream.id, this.encoder.buffer, 0, 0, true);
    else this.output.headers(stream.id, trailers, trailers.length, true);
    this.wrote();
    stream.wroteEnd();
  }

  /** The socket takes bytes again. */
  unblock(): void {
    this.blocked = false;
    this.pumpAll();
  }

  private pumpAll(): void {
    let isMoving = this.waiting.size > 0;
    while (isMoving && !this.blocked && this.window > 0) {
      isMoving = false;
      for (const stream of [...this.waiting]) isMoving = this.pump(stream, 1) || isMoving;
    }
  }

  /** More may be sent. False: more than RFC 9113 6.9.1 has numbers for. */
  widen(stream: Http2Stream | null, increment: number): boolean {
    if (stream === null) {
      this.window += increment;
      if (this.window > windowBytesMax) return false;
      this.pumpAll();
      return true;
    }
    stream.sendWindow += increment;
    if (stream.sendWindow > windowBytesMax) return false;
    if (this.waiting.has(stream)) this.pump(stream);
    return true;
  }

  /** The window of new streams changes, and with it those of all that are open. */
  resize(streamWindow: number, streams: Iterable<Http2Stream>): boolean {
    const difference = streamWindow - this.streamWindow;
    this.streamWindow = streamWindow;
    for (const stream of streams) {
      stream.sendWindow += difference;
      if (stream.sendWindow > windowBytesMax) return false;
    }
    if (difference > 0) this.pumpAll();
    return true;
  }

  forget(stream: Http2Stream): void {
    this.waiting.delete(stream);
  }
}
