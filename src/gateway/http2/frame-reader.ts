import { errorCode, frameBytesMax, frameFlag, frameHeadBytes, frameType } from "./frames.ts";

/**
 * What `next` came upon: the head of a DATA frame, a piece of its data, the end of a frame of
 * any type (its payload is whole unless it is DATA), an error, or nothing before more bytes come.
 */
export type FrameStep = "more" | "dataBegin" | "data" | "frame" | "fault";

const noBytes = Buffer.alloc(0);

const state = { head: 0, payload: 1, padLength: 2, data: 3, padding: 4 } as const;

/**
 * Cuts bytes into frames (RFC 9113 4.1), however they were cut before:
 *
 *   head ─→ payload ─→ head            (gathered only where a read ended within it)
 *     └─→ padLength? ─→ data ─→ padding? ─→ head   (DATA: passed on as it comes)
 */
export class FrameReader {
  type = 0;
  flags = 0;
  streamId = 0;
  /** Of the payload, padding and all. */
  length = 0;
  /** After "frame", for all but DATA: the payload. After "data": a piece. */
  buffer: Buffer = noBytes;
  start = 0;
  end = 0;
  /** Where to go on: one past the last byte used. */
  position = 0;
  /** After "fault": for the whole connection. */
  fault = 0;

  private state: number = state.head;
  private readonly head = Buffer.alloc(frameHeadBytes);
  private headSeen = 0;
  private gathered: Buffer | null = null;
  private gatheredBytes = 0;
  private dataLeft = 0;
  private paddingLeft = 0;

  /** Part of a frame other than DATA has come. */
  get begun(): boolean {
    return this.headSeen > 0 || this.state === state.payload;
  }

  /** Forgets the last read; what was gathered stays. */
  release(): void {
    this.buffer = noBytes;
  }

  next(buffer: Buffer, from: number, limit: number): FrameStep {
    this.position = from;
    for (;;) {
      switch (this.state) {
        case state.head: {
          const step = this.readHead(buffer, limit);
          if (step !== null) return step;
          break;
        }
        case state.payload:
          return this.readPayload(buffer, limit);
        case state.padLength:
          if (this.position === limit) return "more";
          if (!this.readPadLength(buffer[this.position] as number)) return "fault";
          break;
        case state.data:
          if (this.dataLeft > 0) return this.readData(buffer, limit);
          this.state = state.padding;
          break;
        default:
          return this.skipPadding(limit);
      }
    }
  }

  private readHead(buffer: Buffer, limit: number): FrameStep | null {
    const missing = frameHeadBytes - this.headSeen;
    const taken = Math.min(missing, limit - this.position);
    if (taken === frameHeadBytes) this.parseHead(buffer, this.position);
    else {
      buffer.copy(this.head, this.headSeen, this.position, this.position + taken);
      this.headSeen += taken;
    }
    this.position += taken;
    if (taken < missing) return "more";
    if (taken < frameHeadBytes) this.parseHead(this.head, 0);
    this.headSeen = 0;
    if (this.length > frameBytesMax) {
      this.fault = errorCode.frameSizeError;
      return "fault";
    }
    if (this.type !== frameType.data) {
      this.state = state.payload;
      return null;
    }
    const isPadded = (this.flags & frameFlag.padded) !== 0;
    if (isPadded && this.length === 0) {
      this.fault = errorCode.protocolError;
      return "fault";
    }
    this.state = isPadded ? state.padLength : state.data;
    this.dataLeft = this.length;
    this.paddingLeft = 0;
    return "dataBegin";
  }

  private parseHead(bytes: Buffer, at: number): void {
    const byte = (offset: number) => bytes[at + offset] as number;
    this.length = byte(0) * 0x1_0000 + byte(1) * 0x100 + byte(2);
    this.type = byte(3);
    this.flags = byte(4);
    // The first bit is reserved and ignored.
    this.streamId = (byte(5) & 0x7f) * 0x100_0000 + byte(6) * 0x1_0000 + byte(7) * 0x100 + byte(8);
  }

  private readPayload(buffer: Buffer, limit: number): FrameStep {
    const available = limit - this.position;
    const missing = this.length - this.gatheredBytes;
    if (this.gathered === null && available >= this.length) {
      this.buffer = buffer;
      this.start = this.position;
      this.end = this.position + this.length;
      this.position = this.end;
      this.state = state.head;
      return "frame";
    }
    this.gathered ??= Buffer.allocUnsafe(this.length);
    const taken = Math.min(missing, available);
    buffer.copy(this.gathered, this.gatheredBytes, this.position, this.position + taken);
    this.position += taken;
    this.gatheredBytes += taken;
    if (taken < missing) return "more";
    this.buffer = this.gathered;
    this.start = 0;
    this.end = this.length;
    this.gathered = null;
    this.gatheredBytes = 0;
    this.state = state.head;
    return "frame";
  }

  private readPadLength(padding: number): boolean {
    // The length of the padding is a byte of the payload itself.
    if (padding >= this.length) {
      this.fault = errorCode.protocolError;
      return false;
    }
    this.position += 1;
    this.dataLeft = this.length - 1 - padding;
    this.paddingLeft = padding;
    this.state = state.data;
    return true;
  }

  private readData(buffer: Buffer, limit: number): FrameStep {
    const taken = Math.min(this.dataLeft, limit - this.position);
    if (taken === 0) return "more";
    this.buffer = buffer;
    this.start = this.position;
    this.end = this.position + taken;
    this.position = this.end;
    this.dataLeft -= taken;
    return "data";
  }

  private skipPadding(limit: number): FrameStep {
    const taken = Math.min(this.paddingLeft, limit - this.position);
    this.position += taken;
    this.paddingLeft -= taken;
    if (this.paddingLeft > 0) return "more";
    this.state = state.head;
    return "frame";
  }
}
