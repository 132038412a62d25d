// What a client's frames must lead to (RFC 9113): the gateway's rules once more, over frames that
// are whole, with what came out in the same moment at hand. Where the outcome hangs on what the
// gateway did in between, both are right.

import type { Front } from "../memory-gateway.ts";
import { Ahead, code, type Frame } from "./ahead.ts";
import { HpackTwin } from "./hpack-twin.ts";
import { areTrailers, headerLimits, overflows, verdictOf } from "./request-twin.ts";
import { StreamTwin } from "./stream-twin.ts";

export type Http2Bounds = Front["http2"];

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const windowMax = 0x7fff_ffff;
const frameBytesMax = 16_384;
const continuationsMax = 32;
/** The gateway remembers how its last 128 streams ended. */
const remembered = 100;

/** A count that is certain, and one that what is uncertain may have brought it to. */
interface Count {
  least: number;
  most: number;
}

export class InputTwin {
  readonly streams = new Map<number, StreamTwin>();
  /** Ids that were refused before they became a stream, with the code. */
  readonly refusedIds = new Map<number, Set<number>>();
  /** Those of them that the gateway has reset. */
  readonly resetIds = new Set<number>();
  readonly pongs: string[] = [];
  /** By what SETTINGS that are not acknowledged yet change the windows of streams. */
  readonly unacknowledged: number[] = [];
  lastId = 0;
  /** The code of the connection's error. */
  failed: number | null = null;
  settled = false;
  goesAway = false;
  /** Requests that the gateway has begun. */
  begun = 0;
  receiveWindow = 65_535;
  sendWindow = 65_535;
  /** The window that a new stream's answer begins with. */
  streamSendWindow = 65_535;
  /** Of the gateway's DATA frames so far. */
  dataFrames = 0;
  readonly resets: Count = { least: 0, most: 0 };

  protected step = 1;
  readonly bounds: Http2Bounds;
  private readonly hpack = new HpackTwin();
  private rest = Buffer.alloc(0);
  private prefaceAt = 0;
  private ahead = new Ahead([]);
  private block: { id: number; flags: number; pieces: Buffer[]; selfish: boolean } | null = null;
  private data: { id: number; length: number; flags: number; left: number; pad: number } | null =
    null;
  private opened = 0;
  private ended = 0;
  private settingsCount = 0;
  private pings = 0;
  private empties = 0;
  private priorities = 0;
  private windowUpdates = 0;

  constructor(bounds: Http2Bounds) {
    this.bounds = bounds;
  }

  /** Nothing has begun that must go on. */
  get atBoundary(): boolean {
    return this.settled && this.rest.length === 0 && this.block === null && this.data === null;
  }

  get windowUpdatesLeft(): number {
    return 100 + 2 * this.opened + 20 * this.dataFrames - this.windowUpdates;
  }

  get openCount(): number {
    let count = 0;
    for (const stream of this.streams.values()) if (!stream.closed) count += 1;
    return count;
  }

  /** Takes what the client sent. @param ahead frames that came out by then. */
  protected take(chunk: Buffer, ahead: readonly Frame[]): void {
    this.ahead = new Ahead(ahead);
    this.rest = Buffer.concat([this.rest, chunk]);
    while (this.failed === null && this.takeOne());
  }

  private takeOne(): boolean {
    const { rest } = this;
    if (this.prefaceAt < preface.length) {
      const seen = rest.toString("latin1", 0, preface.length - this.prefaceAt);
      if (seen === "") return false;
      if (!preface.startsWith(seen, this.prefaceAt)) this.fail(code.protocol);
      this.prefaceAt += seen.length;
      this.rest = rest.subarray(seen.length);
      return true;
    }
    if (this.data !== null) return this.takeData(this.data);
    if (rest.length < 9) return false;
    const length = rest.readUIntBE(0, 3);
    if (length > frameBytesMax) {
      this.fail(code.size);
      return false;
    }
    const [type, flags] = [rest.readUInt8(3), rest.readUInt8(4)];
    const streamId = rest.readUInt32BE(5) % 2 ** 31;
    if (type === 0) {
      this.rest = rest.subarray(9);
      this.beginData(streamId, flags, length);
      return true;
    }
    if (rest.length < 9 + length) return false;
    const payload = rest.subarray(9, 9 + length);
    this.rest = rest.subarray(9 + length);
    this.takeFrame({ type, flags, streamId, payload });
    return true;
  }

  // ——— verdicts

  private fail(error: number): void {
    this.failed ??= error;
  }

  /** An error of the connection that is there if the gateway says so. True: it does. */
  private mayFail(error: number): boolean {
    const { ahead, pongs, unacknowledged } = this;
    // Whatever it answered behind this frame, that was the one too many.
    const isLater =
      ahead.acknowledgements(6) > pongs.length || ahead.acknowledgements(4) > unacknowledged.length;
    const isSaid = !isLater && ahead.hasError(error, this.lastId);
    if (isSaid) this.fail(error);
    return isSaid;
  }

  private calm(count: Count, limit: Count): void {
    if (count.least > limit.most) this.fail(code.calm);
    else if (count.most > limit.least) this.mayFail(code.calm);
  }

  private countReset(isCertain: boolean): void {
    this.resets.most += 1;
    if (isCertain) this.resets.least += 1;
    const limit = this.bounds.resetsMax;
    this.calm(this.resets, { least: limit, most: limit });
  }

  /** `either`: it may have ended in this very moment. */
  private stateOf(stream: StreamTwin): "open" | "closed" | "either" {
    if (stream.closed) return "closed";
    return this.ahead.ends(stream.id) ? "either" : "open";
  }

  private refuse(stream: StreamTwin, error: number): void {
    const state = this.stateOf(stream);
    stream.mayReset.add(error);
    if (state === "open" || this.ahead.isReset(stream.id, error)) {
      stream.refused ??= error;
      this.ended += 1;
    }
    this.countReset(state === "open");
  }

  private refuseId(id: number, error: number): void {
    const codes = this.refusedIds.get(id) ?? new Set();
    this.refusedIds.set(id, codes.add(error));
    this.ended += 1;
    this.countReset(true);
  }

  private isIdle(id: number): boolean {
    return id % 2 === 0 || id > this.lastId;
  }

  // ——— frames

  private get unexpected(): (type: number, flags: number, id: number) => boolean {
    return (type, flags, id) => {
      if (!this.settled) return type !== 4 || flags % 2 === 1;
      if (this.block === null) return type === 9;
      return type !== 9 || id !== this.block.id;
    };
  }

  private beginData(id: number, flags: number, length: number): void {
    const isPadded = (flags & 8) !== 0;
    if (isPadded && length === 0) return this.fail(code.protocol);
    if (this.unexpected(0, flags, id) || this.isIdle(id)) return this.fail(code.protocol);
    this.data = { id, length, flags, left: length, pad: isPadded ? -1 : 0 };
    this.receiveWindow -= length;
    if (this.receiveWindow < 0) {
      const isGiven = this.ahead.widens(0);
      if (!isGiven) return this.fail(code.flow);
      if (this.mayFail(code.flow)) return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (!this.refusedIds.has(id)) this.refuseId(id, code.closed);
      return;
    }
    this.beginStreamData(stream, length);
  }

  private beginStreamData(stream: StreamTwin, length: number): void {
    const state = this.stateOf(stream);
    if (state === "closed") {
      // After our own reset what was on its way is not looked at, for a while.
      const isOurs =
        stream.refused !== null || stream.resetAt > 0 || this.ahead.isResetByItself(stream.id);
      if (!isOurs) {
        stream.mayReset.add(code.closed);
        stream.refused = code.closed;
        this.countReset(true);
      } else if (isOurs && this.ended > remembered) stream.mayReset.add(code.closed);
      return;
    }
    if (stream.ended) return this.refuse(stream, code.closed);
    stream.receiveWindow -= length;
    if (stream.receiveWindow >= 0) {
      if (state === "either") stream.mayReset.add(code.closed);
      return;
    }
    const isGiven = this.ahead.widens(stream.id);
    if (isGiven) stream.mayReset.add(code.flow);
    else this.refuse(stream, code.flow);
  }

  private takeData(data: NonNullable<typeof this.data>): boolean {
    const { rest } = this;
    if (data.pad < 0) {
      if (rest.length === 0) return false;
      data.pad = rest.readUInt8(0);
      if (data.pad >= data.length) this.fail(code.protocol);
      data.left -= 1;
      this.rest = rest.subarray(1);
      return true;
    }
    const stream = this.streams.get(data.id);
    const taken = Math.min(data.left, rest.length);
    const wanted = Math.max(0, Math.min(taken, data.left - data.pad));
    if (stream !== undefined && !stream.closed && !stream.ended) {
      stream.body.push(rest.toString("latin1", 0, wanted));
      stream.bodyBytes += wanted;
    }
    data.left -= taken;
    this.rest = rest.subarray(taken);
    if (data.left > 0) return false;
    this.data = null;
    this.endData(stream, data);
    return true;
  }

  private endData(stream: StreamTwin | undefined, data: NonNullable<typeof this.data>): void {
    const ends = data.flags % 2 === 1;
    const bytes = data.length - ((data.flags & 8) === 0 ? 0 : data.pad + 1);
    if (bytes === 0 && !ends) {
      this.empties += 1;
      if (this.empties > this.bounds.emptyMax) this.fail(code.calm);
    }
    if (ends && stream !== undefined && !stream.closed) stream.endedAt = this.step;
  }

  private takeFrame(frame: Frame): void {
    const { type, flags, streamId: id, payload } = frame;
    if (this.unexpected(type, flags, id)) return this.fail(code.protocol);
    switch (type) {
      case 1:
        return this.takeHeaders(frame);
      case 2:
        return this.takePriority(id, payload);
      case 3:
        return this.takeReset(id, payload);
      case 4:
        return this.takeSettings(frame);
      case 5:
        return this.fail(code.protocol);
      case 6:
        return this.takePing(frame);
      case 7:
        if (id !== 0) return this.fail(code.protocol);
        if (payload.length < 8) return this.fail(code.size);
        this.goesAway = true;
        return;
      case 8:
        return this.takeWindowUpdate(id, payload);
      case 9:
        return this.takeContinuation(frame);
      default:
        return this.countPing();
    }
  }

  private countPing(): void {
    this.pings += 1;
    const least = this.bounds.pingsMax + this.dataFrames;
    this.calm(
      { least: this.pings, most: this.pings },
      { least, most: least + this.ahead.dataFrames },
    );
  }

  private takeHeaders({ flags, streamId: id, payload }: Frame): void {
    if (id % 2 === 0) return this.fail(code.protocol);
    let [start, end] = [0, payload.length];
    if ((flags & 8) !== 0) {
      if (end === 0) return this.fail(code.protocol);
      start = 1;
      end -= payload.readUInt8(0);
    }
    let selfish = false;
    if ((flags & 0x20) !== 0) {
      selfish = end - start >= 5 && payload.readUInt32BE(start) % 2 ** 31 === id;
      start += 5;
    }
    if (end < start) return this.fail(code.protocol);
    this.block = { id, flags, pieces: [payload.subarray(start, end)], selfish };
    if ((flags & 4) !== 0) this.endBlock(this.block);
  }

  private takeContinuation({ flags, payload }: Frame): void {
    const block = this.block as NonNullable<typeof this.block>;
    const before = block.pieces.reduce((sum, piece) => sum + piece.length, 0);
    const isLong = before + payload.length > headerLimits.bytesMax + frameBytesMax;
    if (block.pieces.length > continuationsMax || isLong) return this.fail(code.calm);
    block.pieces.push(payload);
    if ((flags & 4) !== 0) this.endBlock(block);
  }

  private endBlock(block: NonNullable<typeof this.block>): void {
    this.block = null;
    const { id, flags, selfish } = block;
    const fields = this.hpack.read(Buffer.concat(block.pieces));
    if (fields === null) return this.fail(code.compression);
    const ends = flags % 2 === 1;
    const stream = this.streams.get(id);
    if (stream !== undefined) {
      const areGood = ends && !selfish && !overflows(fields) && areTrailers(fields);
      return this.takeTrailers(stream, areGood);
    }
    if (!this.isIdle(id)) {
      if (!this.refusedIds.has(id)) return this.fail(code.protocol);
      // Whether it is remembered that it was refused.
      if (this.ended > remembered) this.mayFail(code.protocol);
      return;
    }
    this.lastId = id;
    this.opened += 1;
    const states = [...this.streams.values()].map((other) => this.stateOf(other));
    const most = states.filter((state) => state !== "closed").length;
    const least = states.filter((state) => state === "open").length;
    const isRefused = this.ahead.isReset(id, code.refused);
    const { streamsMax } = this.bounds;
    if (least >= streamsMax || (most >= streamsMax && isRefused)) {
      return this.refuseId(id, code.refused);
    }
    if (selfish) return this.refuseId(id, code.protocol);
    this.open(id, fields, ends);
  }

  private open(id: number, fields: Parameters<typeof verdictOf>[0], ends: boolean): void {
    const verdict = verdictOf(fields, ends);
    const stream = new StreamTwin(
      ...([id, this.begun, verdict, ends ? this.step : 0] as const),
      ...([this.bounds.streamWindowBytes, this.streamSendWindow] as const),
    );
    this.begun += 1;
    this.streams.set(id, stream);
    if (verdict.kind === "malformed") {
      stream.refused = code.protocol;
      stream.mayReset.add(code.protocol);
      this.ended += 1;
      this.countReset(true);
    }
  }

  private takeTrailers(stream: StreamTwin, areGood: boolean): void {
    const state = this.stateOf(stream);
    if (state === "closed") {
      const isOurs =
        stream.refused !== null || stream.resetAt > 0 || this.ahead.isResetByItself(stream.id);
      const isOld = this.ended > remembered;
      if (!isOld) return isOurs ? undefined : this.fail(code.closed);
      if (!this.mayFail(code.protocol)) this.mayFail(code.closed);
      return;
    }
    const error = stream.ended ? code.closed : areGood ? null : code.protocol;
    const isReset = error !== null && this.ahead.isReset(stream.id, error);
    // Only of both sides' end nothing is left that could be refused alone.
    const mayBeOver = state === "either" && stream.ended && !isReset;
    if (mayBeOver && this.mayFail(code.closed)) return;
    if (error === null) stream.endedAt = this.step;
    else this.refuse(stream, error);
  }

  /** An error of a stream that is open, else of the connection. */
  private refuseOr(id: number, error: number): void {
    const stream = this.streams.get(id);
    const state = stream === undefined ? "closed" : this.stateOf(stream);
    if (stream === undefined || state === "closed") return this.fail(error);
    const isReset = this.ahead.isReset(id, error);
    if (state === "open" || isReset || !this.mayFail(error)) this.refuse(stream, error);
  }

  private takePriority(id: number, payload: Buffer): void {
    if (id === 0) return this.fail(code.protocol);
    if (payload.length !== 5) return this.refuseOr(id, code.size);
    if (payload.readUInt32BE(0) % 2 ** 31 === id) return this.refuseOr(id, code.protocol);
    this.priorities += 1;
    if (this.priorities > 100 * (1 + this.opened)) this.fail(code.calm);
  }

  private takeReset(id: number, payload: Buffer): void {
    if (this.isIdle(id)) return this.fail(code.protocol);
    if (payload.length !== 4) return this.fail(code.size);
    const stream = this.streams.get(id);
    if (stream !== undefined && !stream.closed) {
      stream.resetByClientAt = this.step;
      this.ended += 1;
    }
    this.countReset(true);
  }

  private takeSettings({ flags, streamId, payload }: Frame): void {
    if (streamId !== 0) return this.fail(code.protocol);
    if (flags % 2 === 1) return payload.length === 0 ? undefined : this.fail(code.size);
    if (payload.length % 6 !== 0) return this.fail(code.size);
    let initial: number | null = null;
    for (let at = 0; at < payload.length; at += 6) {
      const [name, value] = [payload.readUInt16BE(at), payload.readUInt32BE(at + 2)];
      if ((name === 2 || name === 8) && value > 1) return this.fail(code.protocol);
      if (name === 4 && value > windowMax) return this.fail(code.flow);
      const isFrameSize = value >= frameBytesMax && value < 2 ** 24;
      if (name === 5 && !isFrameSize) return this.fail(code.protocol);
      if (name === 4) initial = value;
    }
    this.settled = true;
    this.unacknowledged.push(initial === null ? 0 : initial - this.streamSendWindow);
    this.settingsCount += 1;
    if (this.settingsCount > this.bounds.settingsMax) return this.fail(code.calm);
    if (initial !== null) this.resize(initial);
  }

  private resize(initial: number): void {
    const difference = initial - this.streamSendWindow;
    this.streamSendWindow = initial;
    for (const stream of this.streams.values()) {
      const state = this.stateOf(stream);
      if (state === "closed") continue;
      stream.sendWindow += difference;
      if (stream.sendWindow <= windowMax) continue;
      const isCertain =
        state === "open" && stream.sendWindow - this.ahead.dataBytes(stream.id) > windowMax;
      if (isCertain) this.fail(code.flow);
      else this.mayFail(code.flow);
    }
  }

  private takePing({ flags, streamId, payload }: Frame): void {
    if (streamId !== 0) return this.fail(code.protocol);
    if (payload.length !== 8) return this.fail(code.size);
    if (flags % 2 === 1) return;
    this.pongs.push(payload.toString("latin1"));
    this.countPing();
  }

  private takeWindowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4) return this.fail(code.size);
    if (id !== 0 && this.isIdle(id)) return this.fail(code.protocol);
    this.windowUpdates += 1;
    const least = 100 + 2 * this.opened + 20 * this.dataFrames;
    const most = least + 20 * this.ahead.dataFrames;
    this.calm({ least: this.windowUpdates, most: this.windowUpdates }, { least, most });
    if (this.failed !== null) return;
    const increment = payload.readUInt32BE(0) % 2 ** 31;
    if (id === 0) return this.widen(increment);
    const stream = this.streams.get(id);
    if (stream === undefined || stream.closed) return;
    if (increment === 0) return this.refuse(stream, code.protocol);
    stream.sendWindow += increment;
    if (stream.sendWindow <= windowMax) return;
    if (stream.sendWindow - this.ahead.dataBytes(id) > windowMax) this.refuse(stream, code.flow);
    else stream.mayReset.add(code.flow);
  }

  private widen(increment: number): void {
    if (increment === 0) return this.fail(code.protocol);
    this.sendWindow += increment;
    if (this.sendWindow <= windowMax) return;
    if (this.sendWindow - this.ahead.dataBytes(0) > windowMax) this.fail(code.flow);
    else this.mayFail(code.flow);
  }
}
