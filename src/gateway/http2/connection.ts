import { FloodGuard, type FloodLimits } from "./flood-guard.ts";
import { FrameReader } from "./frame-reader.ts";
import {
  errorCode,
  frameBytesMax,
  frameFlag,
  frameType,
  setting,
  streamIdMax,
  windowBytesAtFirst,
} from "./frames.ts";
import { HeaderBlock, readId } from "./header-block.ts";
import { type HeaderListLimits, HpackDecoder } from "./hpack-decoder.ts";
import type { HpackEncoder } from "./hpack-encoder.ts";
import { Http2Sender, type SenderHost } from "./sender.ts";
import { readSettings } from "./settings.ts";
import type { HeaderField } from "./static-table.ts";
import { Http2Stream, type StreamHost } from "./stream.ts";
import { type ClosedBy, closedBy, StreamTable } from "./stream-table.ts";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** The payload of the PING that tells that the client has seen our first GOAWAY. */
const drainPing = Buffer.from("draining");
export interface Http2Limits {
  readonly headers: HeaderListLimits;
  /** At a time. */
  readonly streamsMax: number;
  /** After so many requests the connection is ended in order. */
  readonly requestsMax: number;
  /** Bytes of bodies that one stream, and all of them, may have waiting here. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly flood: FloodLimits;
}

/** Where a connection's requests and bytes go. */
export interface ConnectionHost extends SenderHost {
  /**
   * A request begins; the host gives the stream its user.
   *
   * @param fields null: more or longer ones than allowed.
   */
  onRequest(stream: Http2Stream, fields: readonly HeaderField[] | null): void;
}

type Phase = "open" | "drainBegun" | "draining" | "failed";

/**
 * The server's side of an HTTP/2 connection (RFC 9113), without socket and clock: bytes go in by
 * `receive`, requests come out by the host, bytes by
 * `sender.output`.
 *
 *   preface ─→ SETTINGS ─→ open ─→ drainBegun (GOAWAY, all streams still taken) ─→ draining
 *                            └─ any error of the connection: GOAWAY ─→ failed
 *
 * Between a HEADERS frame without END_HEADERS and its last CONTINUATION nothing else may come.
 */
export class Http2Connection implements StreamHost {
  readonly sender: Http2Sender;
  readonly streams = new StreamTable();

  private readonly limits: Http2Limits;
  private readonly host: ConnectionHost;
  private readonly reader = new FrameReader();
  private readonly decoder: HpackDecoder;
  private readonly guard: FloodGuard;
  private phase: Phase = "open";
  private prefaceSeen = 0;
  private settled = false;
  private peerGoesAway = false;
  private receiveWindow: number;
  private unreturned = 0;
  /** Streams with new input in this read. */
  private fresh: Http2Stream[] = [];
  /** The stream of the DATA frame that is being read; null: it is not wanted. */
  private dataStream: Http2Stream | null = null;
  /** Of that frame's data: what has come, and what of it its stream keeps. */
  private dataBytes = 0;
  private dataKept = 0;
  private readonly block: HeaderBlock;

  /** @param encoder may be shared by all connections of a process. */
  constructor(limits: Http2Limits, host: ConnectionHost, encoder: HpackEncoder) {
    this.limits = limits;
    this.host = host;
    this.sender = new Http2Sender(host, encoder);
    this.decoder = new HpackDecoder(limits.headers);
    this.block = new HeaderBlock(limits.headers.bytesMax + frameBytesMax);
    this.guard = new FloodGuard(limits.flood);
    this.receiveWindow = limits.connectionWindowBytes;
    const { output } = this.sender;
    output.settings([
      [setting.streamsMax, limits.streamsMax],
      [setting.initialWindow, limits.streamWindowBytes],
      [setting.headerListBytesMax, limits.headers.bytesMax],
      [setting.enableConnect, 1],
    ]);
    output.windowUpdate(0, limits.connectionWindowBytes - windowBytesAtFirst);
  }

  /** Nothing more will come of it: close the socket once all is sent. */
  get over(): boolean {
    if (this.phase === "failed") return true;
    return (this.phase === "draining" || this.peerGoesAway) && this.streams.size === 0;
  }

  /** The client's preface, a frame or a header block has begun and not ended. */
  get incomplete(): boolean {
    return !this.settled || this.block.streamId !== 0 || this.reader.begun;
  }

  /** Takes a read. @param now milliseconds of any steady clock. */
  receive(buffer: Buffer, start: number, end: number, now: number): void {
    this.guard.tick(now, this.sender.dataFrames);
    let position = this.readPreface(buffer, start, end);
    while (this.prefaceSeen === preface.length && this.phase !== "failed") {
      const step = this.reader.next(buffer, position, end);
      position = this.reader.position;
      if (step === "more") break;
      if (step === "fault") this.fail(this.reader.fault, "malformed frame");
      else if (step === "dataBegin") this.beginData();
      else if (step === "data") this.takeData();
      else if (this.reader.type === frameType.data) this.endData();
      else this.takeFrame();
    }
    // An idle connection holds no read's memory.
    this.reader.release();
    this.block.release();
    this.tellFresh();
  }

  /** Ends the connection once the requests that are under way, or on their way, are answered. */
  drain(): void {
    if (this.phase !== "open") return;
    this.phase = "drainBegun";
    this.sender.output.goaway(streamIdMax, errorCode.noError, "");
    this.sender.output.ping(drainPing, 0, false);
    this.sender.wrote();
  }

  /** The socket is gone. */
  abandon(): void {
    this.phase = "failed";
    this.closeAll(errorCode.cancel);
  }

  // ——— frames in

  private readPreface(buffer: Buffer, start: number, end: number): number {
    let position = start;
    while (this.prefaceSeen < preface.length && position < end) {
      if (buffer[position] !== preface[this.prefaceSeen]) {
        this.fail(errorCode.protocolError, "no preface");
        return position;
      }
      this.prefaceSeen += 1;
      position += 1;
    }
    return position;
  }

  /** An error of the whole connection. */
  private fail(code: number, reason: string): void {
    if (this.phase === "failed") return;
    this.phase = "failed";
    this.sender.output.goaway(this.streams.lastId, code, reason);
    this.closeAll(code);
    this.sender.wrote();
  }

  private closeAll(code: number): void {
    for (const stream of [...this.streams.all()]) this.close(stream, code, closedBy.us);
  }

  private calm(withinLimits: boolean): void {
    if (!withinLimits) this.fail(errorCode.enhanceYourCalm, "too many frames that do nothing");
  }

  /** Whether a frame may come now at all. */
  private expects(type: number): boolean {
    const { reader } = this;
    if (!this.settled) {
      if (type === frameType.settings && (reader.flags & frameFlag.ack) === 0) return true;
      this.fail(errorCode.protocolError, "SETTINGS must come first");
      return false;
    }
    const continues = type === frameType.continuation && reader.streamId === this.block.streamId;
    if (this.block.streamId === 0 ? type !== frameType.continuation : continues) return true;
    this.fail(errorCode.protocolError, "a header block is broken off");
    return false;
  }

  private takeFrame(): void {
    const { reader } = this;
    if (!this.expects(reader.type)) return;
    switch (reader.type) {
      case frameType.headers:
        return this.takeHeaders();
      case frameType.continuation:
        return this.takeContinuation();
      case frameType.priority:
        return this.takePriority();
      case frameType.rstStream:
        return this.takeReset();
      case frameType.settings:
        return this.takeSettings();
      case frameType.pushPromise:
        return this.fail(errorCode.protocolError, "clients do not push");
      case frameType.ping:
        return this.takePing();
      case frameType.goaway:
        if (reader.streamId !== 0) this.fail(errorCode.protocolError, "GOAWAY on a stream");
        else if (reader.length < 8) this.fail(errorCode.frameSizeError, "GOAWAY");
        else this.peerGoesAway = true;
        return;
      case frameType.windowUpdate:
        return this.takeWindowUpdate();
      default:
        return this.calm(this.guard.ping(this.sender.dataFrames));
    }
  }

  private beginData(): void {
    const { reader, streams } = this;
    const { streamId, length } = reader;
    this.dataStream = null;
    this.dataBytes = 0;
    this.dataKept = 0;
    if (!this.expects(frameType.data)) return;
    if (streams.isIdle(streamId)) return this.fail(errorCode.protocolError, "DATA on no stream");
    this.receiveWindow -= length;
    if (this.receiveWindow < 0) return this.fail(errorCode.flowControlError, "window overrun");
    const stream = streams.get(streamId);
    if (stream === undefined) {
      // After our own reset the client's last frames may still be on their way.
      if (streams.closedBy(streamId) !== closedBy.us)
        this.refuseId(streamId, errorCode.streamClosed);
      return;
    }
    if (stream.inputEnded) return this.refuse(stream, errorCode.streamClosed);
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) return this.refuse(stream, errorCode.flowControlError);
    this.dataStream = stream;
  }

  private takeData(): void {
    const { dataStream, reader } = this;
    this.dataBytes += reader.end - reader.start;
    if (dataStream === null || dataStream.closed || dataStream.discards) return;
    this.dataKept += reader.end - reader.start;
    dataStream.body.append(reader.buffer, reader.start, reader.end);
    this.markFresh(dataStream);
  }

  private endData(): void {
    const { reader, dataStream: stream, dataBytes, dataKept } = this;
    const ends = (reader.flags & frameFlag.endStream) !== 0;
    this.dataStream = null;
    const unused = reader.length - dataKept;
    if (stream === null || stream.closed) this.returnToConnection(unused);
    else if (unused > 0) this.consumed(stream, unused);
    if (dataBytes === 0 && !ends) this.calm(this.guard.emptyFrame());
    if (ends && stream !== null && !stream.closed) this.endInput(stream);
  }

  private endInput(stream: Http2Stream): void {
    stream.inputEnded = true;
    this.markFresh(stream);
    this.settle(stream);
  }

  private takeHeaders(): void {
    const { reader, block } = this;
    const { streamId } = reader;
    if (streamId % 2 === 0) return this.fail(errorCode.protocolError, "not a client's stream");
    const isWhole = block.begin(reader);
    if (isWhole === null) this.fail(errorCode.protocolError, "HEADERS too short");
    else if (isWhole) this.endBlock(streamId);
  }

  private takeContinuation(): void {
    const { reader, block } = this;
    const isWhole = block.add(reader);
    if (isWhole === null) this.fail(errorCode.enhanceYourCalm, "header block too long");
    else if (isWhole) this.endBlock(reader.streamId);
  }

  private endBlock(id: number): void {
    const { block } = this;
    const fields = this.decoder.decode(block.buffer, block.start, block.end);
    if (fields === null) return this.fail(errorCode.compressionError, "header block");
    const { streams } = this;
    const stream = streams.get(id);
    if (stream !== undefined) return this.takeTrailers(stream, fields);
    if (!streams.isIdle(id)) {
      const by = streams.closedBy(id);
      if (by === closedBy.us) return;
      const code = by === null ? errorCode.protocolError : errorCode.streamClosed;
      return this.fail(code, "HEADERS on a closed stream");
    }
    // The client has been told that these are not looked at.
    if (this.phase === "draining") return;
    streams.lastId = id;
    this.guard.streams += 1;
    this.open(id, fields);
  }

  private open(id: number, fields: readonly HeaderField[]): void {
    const { limits, streams } = this;
    const isFull = streams.size >= limits.streamsMax;
    if (isFull || this.block.dependsOnItself) {
      this.refuseId(id, isFull ? errorCode.refusedStream : errorCode.protocolError);
      return;
    }
    const stream = new Http2Stream(this, id, limits.streamWindowBytes, this.sender.streamWindow);
    streams.add(stream);
    stream.inputEnded = this.block.endsStream;
    if (this.guard.streams >= limits.requestsMax) this.drain();
    this.host.onRequest(stream, this.decoder.overflowed ? null : fields);
    if (!stream.inputEnded) this.markFresh(stream);
  }

  private takeTrailers(stream: Http2Stream, fields: readonly HeaderField[]): void {
    if (stream.inputEnded) return this.refuse(stream, errorCode.streamClosed);
    const ends = this.block.endsStream;
    const isGood = ends && !this.block.dependsOnItself && !this.decoder.overflowed;
    if (!isGood || stream.user?.onTrailers(fields) === false) {
      return this.refuse(stream, errorCode.protocolError);
    }
    if (!stream.closed) this.endInput(stream);
  }

  private takePriority(): void {
    const { reader } = this;
    const stream = this.streams.get(reader.streamId) ?? null;
    if (reader.streamId === 0) return this.fail(errorCode.protocolError, "PRIORITY");
    if (reader.length !== 5) return this.refuseOr(stream, errorCode.frameSizeError, "PRIORITY");
    if (readId(reader.buffer, reader.start) === reader.streamId) {
      return this.refuseOr(stream, errorCode.protocolError, "depends on itself");
    }
    this.calm(this.guard.priority());
  }

  private takeReset(): void {
    const { reader, streams } = this;
    if (streams.isIdle(reader.streamId)) {
      return this.fail(errorCode.protocolError, "RST_STREAM on no stream");
    }
    if (reader.length !== 4) return this.fail(errorCode.frameSizeError, "RST_STREAM");
    const stream = streams.get(reader.streamId);
    if (stream !== undefined) {
      this.close(stream, reader.buffer.readUInt32BE(reader.start), closedBy.peer);
    }
    this.calm(this.guard.reset());
  }

  private takeSettings(): void {
    const { reader } = this;
    if (reader.streamId !== 0) return this.fail(errorCode.protocolError, "SETTINGS on a stream");
    if ((reader.flags & frameFlag.ack) !== 0) {
      if (reader.length !== 0) this.fail(errorCode.frameSizeError, "SETTINGS");
      return;
    }
    const read = readSettings(reader.buffer, reader.start, reader.end);
    if (!read.ok) return this.fail(read.error, "SETTINGS");
    this.settled = true;
    this.sender.output.settingsAck();
    this.sender.wrote();
    this.calm(this.guard.setting());
    if (read.value === null || this.sender.resize(read.value, this.streams.all())) return;
    this.fail(errorCode.flowControlError, "window too large");
  }

  private takePing(): void {
    const { reader } = this;
    const { buffer, start } = reader;
    if (reader.streamId !== 0) return this.fail(errorCode.protocolError, "PING on a stream");
    if (reader.length !== 8) return this.fail(errorCode.frameSizeError, "PING");
    if ((reader.flags & frameFlag.ack) === 0) {
      this.sender.output.ping(buffer, start, true);
      this.sender.wrote();
      return this.calm(this.guard.ping(this.sender.dataFrames));
    }
    const isOurs = drainPing.compare(buffer, start, reader.end) === 0;
    if (!isOurs || this.phase !== "drainBegun") return;
    // All that was sent before our first GOAWAY arrived is here now.
    this.phase = "draining";
    this.sender.output.goaway(this.streams.lastId, errorCode.noError, "");
    this.sender.wrote();
  }

  private takeWindowUpdate(): void {
    const { reader, streams } = this;
    const { streamId } = reader;
    if (reader.length !== 4) return this.fail(errorCode.frameSizeError, "WINDOW_UPDATE");
    if (streamId !== 0 && streams.isIdle(streamId)) {
      return this.fail(errorCode.protocolError, "WINDOW_UPDATE on no stream");
    }
    const stream = streams.get(streamId) ?? null;
    this.calm(this.guard.windowUpdate(this.sender.dataFrames));
    if (stream === null && streamId !== 0) return;
    const increment = readId(reader.buffer, reader.start);
    if (increment === 0) return this.refuseOr(stream, errorCode.protocolError, "no increment");
    if (this.sender.widen(stream, increment)) return;
    this.refuseOr(stream, errorCode.flowControlError, "window too large");
  }

  private markFresh(stream: Http2Stream): void {
    if (stream.isFresh) return;
    stream.isFresh = true;
    this.fresh.push(stream);
  }

  /** What came in many frames is told at once. */
  private tellFresh(): void {
    if (this.fresh.length === 0) return;
    const { fresh } = this;
    this.fresh = [];
    for (const stream of fresh) {
      stream.isFresh = false;
      if (!stream.closed) stream.user?.onInput();
    }
  }

  // ——— the ends of streams

  refuse(stream: Http2Stream, code: number): void {
    this.cancel(stream, code);
    this.calm(this.guard.reset());
  }

  private refuseOr(stream: Http2Stream | null, code: number, reason: string): void {
    if (stream === null) this.fail(code, reason);
    else this.refuse(stream, code);
  }

  /** The same for a stream that has no object. */
  private refuseId(id: number, code: number): void {
    this.sender.output.rstStream(id, code);
    this.sender.wrote();
    this.streams.remove(id, closedBy.us);
    this.calm(this.guard.reset());
  }

  cancel(stream: Http2Stream, code: number): void {
    if (stream.closed) return;
    this.sender.output.rstStream(stream.id, code);
    this.sender.wrote();
    this.close(stream, code, closedBy.us);
  }

  private close(stream: Http2Stream, code: number | null, by: ClosedBy): void {
    stream.closed = true;
    stream.pending.length = 0;
    this.sender.forget(stream);
    this.streams.remove(stream.id, by);
    const { bytes } = stream.body;
    stream.body.clear();
    this.returnToConnection(bytes);
    stream.user?.onClosed(code);
  }

  settle(stream: Http2Stream): void {
    if (stream.closed || !stream.outputEnded) return;
    if (stream.inputEnded) this.close(stream, null, closedBy.end);
    // The rest of the request is not wanted (RFC 9113 8.1).
    else if (stream.discards) this.cancel(stream, errorCode.noError);
  }

  consumed(stream: Http2Stream, bytes: number): void {
    this.returnToConnection(bytes);
    if (stream.closed || stream.inputEnded) return;
    stream.unreturned += bytes;
    if (stream.unreturned * 2 < this.limits.streamWindowBytes) return;
    this.sender.output.windowUpdate(stream.id, stream.unreturned);
    this.sender.wrote();
    stream.receiveWindow += stream.unreturned;
    stream.unreturned = 0;
  }

  private returnToConnection(bytes: number): void {
    this.unreturned += bytes;
    if (this.unreturned * 2 < this.limits.connectionWindowBytes || this.phase === "failed") return;
    this.sender.output.windowUpdate(0, this.unreturned);
    this.sender.wrote();
    this.receiveWindow += this.unreturned;
    this.unreturned = 0;
  }
}
