// A strict client's view of a connection of HTTP/2: what the gateway sends must be right by
// itself (RFC 9113), and be what the client's frames ask for.

import { code, type Frame } from "./ahead.ts";
import { type Field, HpackTwin } from "./hpack-twin.ts";
import { type Http2Bounds, InputTwin } from "./input-twin.ts";
import type { StreamTwin } from "./stream-twin.ts";

const frameBytesMax = 16_384;
const ofConnection =
  /^(?:connection|transfer-encoding|upgrade|keep-alive|proxy-connection|http2-settings|te)$/;
const goodName = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const badValue = /[\0-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$/;

const named = (fields: readonly Field[], name: string): string | undefined =>
  fields.find(([other]) => other === name)?.[1];

export class Http2Twin extends InputTwin {
  readonly faults: string[] = [];
  /** The gateway has said why it ends the connection; -1: it has not. */
  goaway = -1;
  /** The client has gone silent: the gateway's patience ends, and it may say so. */
  silent = false;
  /** The app may break off its answers, or answer before the request is there. */
  appIsRude = false;
  private readonly outgoing = new HpackTwin();
  private pending = "";
  private frames: Frame[] = [];
  private headerBlock: { id: number; flags: number; pieces: Buffer[] } | null = null;
  private sawSettings = false;

  constructor(bounds: Http2Bounds) {
    super(bounds);
  }

  private fault(text: string): void {
    if (this.faults.length < 10) this.faults.push(text);
  }

  /** Bytes from the gateway. */
  sent(text: string): void {
    this.pending += text;
    let at = 0;
    const { pending } = this;
    const byte = (offset: number) => pending.charCodeAt(at + offset);
    while (pending.length - at >= 9) {
      const length = byte(0) * 0x1_0000 + byte(1) * 0x100 + byte(2);
      if (length > frameBytesMax) {
        this.fault(`a frame of ${length} bytes`);
        at = pending.length;
        break;
      }
      if (pending.length - at < 9 + length) break;
      const streamId = byte(5) * 0x100_0000 + byte(6) * 0x1_0000 + byte(7) * 0x100 + byte(8);
      const payload = Buffer.from(pending.slice(at + 9, at + 9 + length), "latin1");
      this.frames.push({ type: byte(3), flags: byte(4), streamId, payload });
      at += 9 + length;
    }
    this.pending = pending.slice(at);
  }

  /** Judges what has happened since the last call: these bytes of the client's, and the rest. */
  observe(chunk: Buffer | null): void {
    const { frames } = this;
    this.frames = [];
    this.step += 1;
    if (chunk !== null && this.failed === null && this.goaway <= 0) this.take(chunk, frames);
    this.noteMismatches();
    for (const frame of frames) this.judge(frame);
  }

  private noteMismatches(): void {
    for (const stream of this.streams.values()) {
      if (!stream.mismatched || stream.mayReset.has(code.protocol)) continue;
      stream.mayReset.add(code.protocol);
      this.resets.most += 1;
    }
  }

  private judge(frame: Frame): void {
    const { type, flags, streamId: id, payload } = frame;
    if (this.goaway > 0) return this.fault(`type ${type} after the connection's error`);
    if (!this.sawSettings && type !== 4) this.fault("SETTINGS do not come first");
    if (this.headerBlock !== null && (type !== 9 || id !== this.headerBlock.id)) {
      this.fault(`type ${type} within a header block`);
    }
    switch (type) {
      case 0:
        return this.judgeData(frame);
      case 1:
        this.headerBlock = { id, flags, pieces: [payload] };
        return this.judgeBlock(flags);
      case 3:
        return this.judgeReset(id, payload.readUInt32BE(0));
      case 4:
        return this.judgeSettings(frame);
      case 6:
        return this.judgePing(frame);
      case 7:
        return this.judgeGoaway(payload);
      case 8:
        return this.judgeWindowUpdate(id, payload.readUInt32BE(0));
      case 9:
        if (this.headerBlock === null) return this.fault("CONTINUATION of nothing");
        this.headerBlock.pieces.push(payload);
        return this.judgeBlock(flags);
      default:
        this.fault(`type ${type}`);
    }
  }

  /** The stream that a frame of an answer may come on; null: there is none. */
  private answering(id: number, what: string): StreamTwin | null {
    const stream = this.streams.get(id);
    if (stream === undefined) this.fault(`${what} on stream ${id}, which never was`);
    else if (stream.resetAt > 0) this.fault(`${what} on stream ${id} after its reset`);
    else if (stream.answeredAt > 0) this.fault(`${what} on stream ${id} after its end`);
    else if (stream.resetByClientAt > 0 && stream.resetByClientAt < this.step) {
      this.fault(`${what} on stream ${id}, which the client has reset`);
    } else return stream;
    return null;
  }

  private judgeBlock(flags: number): void {
    const block = this.headerBlock as NonNullable<typeof this.headerBlock>;
    if ((flags & 4) === 0) return;
    this.headerBlock = null;
    const fields = this.outgoing.read(Buffer.concat(block.pieces));
    if (fields === null) return this.fault("a header block that cannot be read");
    const stream = this.answering(block.id, "HEADERS");
    if (stream === null) return;
    const ends = block.flags % 2 === 1;
    if (stream.status === 0) this.judgeHead(stream, fields, ends);
    else if (!ends || fields.some(([name]) => name.startsWith(":"))) {
      this.fault(`trailers of stream ${block.id}: ${JSON.stringify(fields)}`);
    }
    if (ends) this.endAnswer(stream);
  }

  private judgeHead(stream: StreamTwin, fields: readonly Field[], ends: boolean): void {
    const [first, ...rest] = fields;
    const bad = rest.find(
      ([name, value]) => !goodName.test(name) || badValue.test(value) || ofConnection.test(name),
    );
    const isStatus = first?.[0] === ":status" && /^[1-5][0-9]{2}$/.test(first[1]);
    if (bad !== undefined || !isStatus) this.fault(`an answer's head: ${JSON.stringify(fields)}`);
    const status = Number(first?.[1]);
    if (stream.verdict.kind === "malformed") this.fault("an answer to what is malformed");
    if (status < 200) {
      stream.interims += 1;
      if (ends || status === 101) this.fault(`an interim answer with ${status}, end ${ends}`);
      return;
    }
    stream.status = status;
    stream.fields = rest;
  }

  private judgeData({ flags, streamId: id, payload }: Frame): void {
    const stream = this.answering(id, "DATA");
    if (stream === null) return;
    // The empty one at the end is none to the gateway.
    if (payload.length > 0) this.dataFrames += 1;
    this.sendWindow -= payload.length;
    stream.sendWindow -= payload.length;
    if (stream.status === 0) this.fault(`DATA on stream ${id} before its head`);
    if ((flags & 8) !== 0) this.fault("padding");
    // A narrower window holds from its acknowledgement on.
    const slack = this.unacknowledged.reduce((sum, change) => sum + Math.max(0, -change), 0);
    if (payload.length > 0 && (this.sendWindow < 0 || stream.sendWindow + slack < 0)) {
      this.fault(`DATA on stream ${id} beyond the window`);
    }
    stream.answer.push(payload.toString("latin1"));
    stream.answerBytes += payload.length;
    if (flags % 2 === 1) this.endAnswer(stream);
  }

  private endAnswer(stream: StreamTwin): void {
    stream.answeredAt = this.step;
    const length = named(stream.fields, "content-length");
    if (stream.status === 0) this.fault(`stream ${stream.id} ends without an answer`);
    const { verdict } = stream;
    const isBodiless = stream.status === 304 || stream.status === 204;
    // The head's own method decides, also where the request was refused later.
    const isHead =
      verdict.kind === "forward" ? verdict.method === "HEAD" : stream.answerBytes === 0;
    if (isHead && stream.answerBytes > 0) this.fault("an answer to HEAD with a body");
    if (length === undefined || isHead || isBodiless) return;
    if (stream.answerBytes === Number(length)) return;
    this.fault(`stream ${stream.id}: ${stream.answerBytes} bytes where it says ${length}`);
  }

  private judgeReset(id: number, error: number): void {
    const codes = this.refusedIds.get(id);
    if (codes?.has(error) === true) return void this.resetIds.add(id);
    const stream = this.streams.get(id);
    if (stream === undefined) return this.fault(`RST_STREAM on ${id}, which never was`);
    if (stream.resetAt > 0) return this.fault(`a second reset of stream ${id}`);
    const isHalf = stream.endedAt === 0 || stream.endedAt === this.step;
    const isEarly = error === code.none && stream.answeredAt > 0 && isHalf;
    const isBroken = error === code.internal && (this.appIsRude || this.silent);
    const isLate = error === code.cancel && this.silent;
    if (!isEarly && !isBroken && !isLate && !stream.mayReset.has(error)) {
      this.fault(`stream ${id} is reset with ${error}`);
    }
    stream.resetAt = this.step;
    stream.resetCode = error;
  }

  private judgeSettings({ flags, streamId, payload }: Frame): void {
    if (streamId !== 0) this.fault("SETTINGS on a stream");
    if (flags % 2 === 0) {
      if (this.sawSettings) this.fault("SETTINGS again");
      this.sawSettings = true;
      return;
    }
    const known = this.unacknowledged.shift();
    if (known === undefined || payload.length > 0) this.fault("an acknowledgement");
  }

  private judgePing({ flags, payload }: Frame): void {
    if (flags % 2 === 0) {
      if (!this.silent) this.fault("a PING nobody needs");
      return;
    }
    const wanted = this.pongs.shift();
    if (payload.toString("latin1") !== wanted) this.fault("an answer to no PING");
  }

  private judgeGoaway(payload: Buffer): void {
    const [last, error] = [payload.readUInt32BE(0), payload.readUInt32BE(4)];
    this.goaway = Math.max(this.goaway, error);
    if (error === code.none) {
      if (!this.silent) this.fault("GOAWAY without need");
      return;
    }
    const { resets, bounds } = this;
    const isCalmed = error === code.calm && resets.most > bounds.resetsMax;
    if (error !== this.failed && !isCalmed) {
      this.fault(`GOAWAY with ${error}, not ${this.failed}`);
    }
    if (last !== this.lastId) this.fault(`GOAWAY names ${last}, not ${this.lastId}`);
    this.failed ??= error;
  }

  private judgeWindowUpdate(id: number, increment: number): void {
    if (increment === 0 || increment > 0x7fff_ffff) return this.fault("WINDOW_UPDATE by nothing");
    const { bounds } = this;
    if (id === 0) {
      this.receiveWindow += increment;
      if (this.receiveWindow > bounds.connectionWindowBytes) {
        this.fault(`a connection's window of ${this.receiveWindow}`);
      }
      return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined || stream.resetAt > 0) return this.fault(`a window for ${id}`);
    stream.receiveWindow += increment;
    if (stream.receiveWindow > bounds.streamWindowBytes) {
      this.fault(`stream ${id} has a window of ${stream.receiveWindow}`);
    }
  }

  /** Something that was asked for whole is not answered, though the windows allow it. */
  get isWaiting(): boolean {
    for (const stream of this.streams.values()) {
      if (stream.whole && !stream.closed && this.mayFlow(stream)) return true;
    }
    return false;
  }

  private mayFlow({ sendWindow, verdict }: StreamTwin): boolean {
    const isTunnel = verdict.kind === "forward" && verdict.upgrade;
    return !isTunnel && sendWindow > 0 && this.sendWindow > 0;
  }

  /** At the end, when nothing moves any more and the windows are wide. */
  conclude(finished: boolean): void {
    if (this.failed !== null) {
      if (this.goaway !== this.failed) this.fault(`no GOAWAY with ${this.failed}`);
      if (!finished) this.fault("the connection stays open after its error");
      return;
    }
    if (this.pending !== "" || this.headerBlock !== null) this.fault("half a frame is left");
    // A client's GOAWAY ends the connection once its streams are done.
    const isOver = this.goesAway && this.openCount === 0;
    if (finished !== isOver) this.fault(finished ? "it ended too soon" : "it ended not");
    if (finished) return;
    if (this.pongs.length > 0) this.fault("a PING has no answer");
    if (this.unacknowledged.length > 0) this.fault("SETTINGS are not acknowledged");
    for (const id of this.refusedIds.keys()) {
      if (!this.resetIds.has(id)) this.fault(`stream ${id} is not refused`);
    }
    let waiting = 0;
    for (const stream of this.streams.values()) {
      this.concludeStream(stream);
      if (!stream.closed) waiting += stream.bodyBytes;
    }
    // What is not kept for anybody must have been given back, half a window at most held back.
    const held = this.bounds.connectionWindowBytes - this.receiveWindow;
    if (held > this.bounds.connectionWindowBytes / 2 + waiting) {
      this.fault(`${held} bytes of the connection's window are lost`);
    }
  }

  private concludeStream(stream: StreamTwin): void {
    const { id, refused, resetAt, answeredAt } = stream;
    const isDone = resetAt > 0 || stream.resetByClientAt > 0;
    if (refused !== null && resetAt === 0) this.fault(`stream ${id} is not reset with ${refused}`);
    if (isDone || refused !== null) return;
    if (stream.mismatched && answeredAt === 0) this.fault(`stream ${id} is not refused`);
    if (stream.verdict.kind === "page" && stream.status !== stream.verdict.status) {
      this.fault(`stream ${id}: status ${stream.status}, not ${stream.verdict.status}`);
    }
    if (stream.verdict.kind === "page" && answeredAt === 0) this.fault(`no page on ${id}`);
    if (stream.whole && this.mayFlow(stream) && answeredAt === 0) {
      this.fault(`stream ${id} is never answered`);
    }
  }
}
