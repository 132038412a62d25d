/** RFC 9113 6. */
export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const frameFlag = {
  endStream: 0x1,
  ack: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const;

/** RFC 9113 7. */
export const errorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

/** RFC 9113 6.5.2 and RFC 8441 3. */
export const setting = {
  enablePush: 2,
  streamsMax: 3,
  initialWindow: 4,
  frameBytesMax: 5,
  headerListBytesMax: 6,
  enableConnect: 8,
} as const;

export const frameHeadBytes = 9;
/** The largest payload in either direction: the least that every peer takes, and our limit. */
export const frameBytesMax = 16_384;
export const windowBytesMax = 0x7fff_ffff;
export const windowBytesAtFirst = 65_535;
export const streamIdMax = 0x7fff_ffff;

const bufferBytesAtFirst = 1024;

/** Gathers frames, so that all that one turn of the loop brings forth is sent by one call. */
export class FrameWriter {
  length = 0;
  private buffer: Buffer = noBytes;

  /** What was gathered; it is the caller's from now on. */
  take(): Buffer {
    const taken = this.buffer.subarray(0, this.length);
    this.buffer = noBytes;
    this.length = 0;
    return taken;
  }

  data(streamId: number, from: Buffer, start: number, end: number, endStream: boolean): void {
    const flags = endStream ? frameFlag.endStream : 0;
    this.head(end - start, frameType.data, flags, streamId);
    this.length += from.copy(this.buffer, this.length, start, end);
  }

  /** A header block, cut into CONTINUATION frames where it is too long for one. */
  headers(streamId: number, block: Buffer, length: number, endStream: boolean): void {
    let type: number = frameType.headers;
    let start = 0;
    do {
      const end = Math.min(length, start + frameBytesMax);
      const flags =
        (endStream && start === 0 ? frameFlag.endStream : 0) |
        (end === length ? frameFlag.endHeaders : 0);
      this.head(end - start, type, flags, streamId);
      this.length += block.copy(this.buffer, this.length, start, end);
      start = end;
      type = frameType.continuation;
    } while (start < length);
  }

  rstStream(streamId: number, code: number): void {
    this.head(4, frameType.rstStream, 0, streamId);
    this.put32(code);
  }

  settings(pairs: readonly (readonly [number, number])[]): void {
    this.head(pairs.length * 6, frameType.settings, 0, 0);
    for (const [name, value] of pairs) {
      this.length = this.buffer.writeUInt16BE(name, this.length);
      this.put32(value);
    }
  }

  settingsAck(): void {
    this.head(0, frameType.settings, frameFlag.ack, 0);
  }

  /** @param payload eight bytes from `start`. */
  ping(payload: Buffer, start: number, isAck: boolean): void {
    this.head(8, frameType.ping, isAck ? frameFlag.ack : 0, 0);
    this.length += payload.copy(this.buffer, this.length, start, start + 8);
  }

  goaway(lastStreamId: number, code: number, reason: string): void {
    this.head(8 + reason.length, frameType.goaway, 0, 0);
    this.put32(lastStreamId);
    this.put32(code);
    this.length += this.buffer.write(reason, this.length, "latin1");
  }

  windowUpdate(streamId: number, bytes: number): void {
    this.head(4, frameType.windowUpdate, 0, streamId);
    this.put32(bytes);
  }

  private head(payloadBytes: number, type: number, flags: number, streamId: number): void {
    this.reserve(frameHeadBytes + payloadBytes);
    const { buffer, length } = this;
    buffer[length] = payloadBytes >> 16;
    buffer[length + 1] = payloadBytes >> 8;
    buffer[length + 2] = payloadBytes;
    buffer[length + 3] = type;
    buffer[length + 4] = flags;
    this.length = length + 5;
    this.put32(streamId);
  }

  private put32(value: number): void {
    const { buffer, length } = this;
    buffer[length] = value >>> 24;
    buffer[length + 1] = value >>> 16;
    buffer[length + 2] = value >>> 8;
    buffer[length + 3] = value;
    this.length = length + 4;
  }

  private reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.buffer.length) return;
    const room = Math.max(bufferBytesAtFirst, this.buffer.length * 2, needed);
    const grown = Buffer.allocUnsafe(room);
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }
}

const noBytes = Buffer.alloc(0);
