import {
  byteClasses,
  carriageReturn,
  extensionByte,
  hexDigit,
  lineFeed,
  semicolon,
} from "./bytes.ts";
import type { ChunkFault } from "./faults.ts";
import { fieldId } from "./fields.ts";
import type { HeadParser } from "./head.ts";
import { HeadReader, type ParserPool } from "./head-reader.ts";

/** Hexadecimal digits of a chunk's size; thirteen stay within a double's integers. */
const sizeDigitsMax = 13;
const extensionBytesMax = 256;
/** All extensions of a body: they cost work and carry nothing. */
const extensionBytesTotalMax = 16_384;

const state = {
  sizeFirst: 0,
  size: 1,
  extension: 2,
  sizeLineFeed: 3,
  data: 4,
  dataReturn: 5,
  dataLineFeed: 6,
  trailerFirst: 7,
  lastLineFeed: 8,
  trailers: 9,
  done: 10,
} as const;

export type ChunkStep = "more" | "data" | "done" | "fault";

/**
 * A strict, resumable decoder of the chunked coding (RFC 9112 7.1):
 *
 *   size ─→ extension? ─→ data ─→ size … ─→ size 0 ─→ trailers? ─→ done
 *
 * It copies nothing: `next` says which range of the buffer is data.
 */
export class ChunkedDecoder {
  /** After "data": its range in the buffer. */
  dataStart = 0;
  dataEnd = 0;
  /** Where to go on: one past the last byte used. */
  position = 0;
  /** Where the trailer section begins, if it was reached in the last buffer walked. */
  sectionStart = 0;
  fault: ChunkFault | null = null;
  /** After "done": name and value of each trailer field. */
  trailers: readonly (readonly [string, string])[] = [];

  private state: number = state.sizeFirst;
  private remaining = 0;
  private digits = 0;
  private extensionBytes = 0;
  private extensionBytesTotal = 0;
  private readonly trailerReader: HeadReader;

  constructor(pool: ParserPool) {
    this.trailerReader = new HeadReader(pool);
  }

  /** Walks over framing from `from` to the next data, the end, or `limit`. */
  next(buffer: Buffer, from: number, limit: number): ChunkStep {
    this.position = from;
    while (this.position < limit) {
      if (this.state === state.data) return this.takeData(limit);
      if (this.state === state.trailers) return this.readTrailers(buffer, limit);
      const fault = this.step(buffer[this.position] as number);
      if (fault !== null) {
        this.fault = fault;
        return "fault";
      }
      if (this.state === state.done) return "done";
    }
    return "more";
  }

  /** The last chunk's line is over: nothing but trailers and the empty line can follow. */
  get inSection(): boolean {
    return this.state >= state.trailerFirst;
  }

  get done(): boolean {
    return this.state === state.done;
  }

  private takeData(limit: number): ChunkStep {
    const length = Math.min(this.remaining, limit - this.position);
    this.dataStart = this.position;
    this.dataEnd = this.position + length;
    this.position = this.dataEnd;
    this.remaining -= length;
    if (this.remaining === 0) this.state = state.dataReturn;
    return "data";
  }

  /** Takes one byte of framing; only `trailerFirst` may leave it to the trailer section. */
  private step(byte: number): ChunkFault | null {
    this.position += 1;
    switch (this.state) {
      case state.sizeFirst:
      case state.size:
        return this.stepSize(byte);
      case state.extension:
        return this.stepExtension(byte);
      case state.sizeLineFeed:
        if (byte !== lineFeed) return "chunkSize";
        this.state = this.remaining === 0 ? state.trailerFirst : state.data;
        this.sectionStart = this.position;
        return null;
      case state.dataReturn:
        this.state = state.dataLineFeed;
        return byte === carriageReturn ? null : "chunkEnd";
      case state.dataLineFeed:
        this.state = state.sizeFirst;
        this.digits = 0;
        return byte === lineFeed ? null : "chunkEnd";
      case state.trailerFirst:
        if (byte === carriageReturn) this.state = state.lastLineFeed;
        else {
          this.position -= 1;
          this.state = state.trailers;
        }
        return null;
      default:
        this.state = state.done;
        return byte === lineFeed ? null : "trailers";
    }
  }

  private stepSize(byte: number): ChunkFault | null {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      if (this.state === state.sizeFirst) this.remaining = 0;
      this.state = state.size;
      this.digits += 1;
      if (this.digits > sizeDigitsMax) return "chunkSize";
      this.remaining = this.remaining * 16 + digit;
      return null;
    }
    if (this.state === state.sizeFirst) return "chunkSize";
    if (byte === carriageReturn) {
      this.state = state.sizeLineFeed;
      return null;
    }
    if (byte !== semicolon) return "chunkSize";
    this.state = state.extension;
    this.extensionBytes = 0;
    return null;
  }

  private stepExtension(byte: number): ChunkFault | null {
    if (byte === carriageReturn) {
      this.state = state.sizeLineFeed;
      return null;
    }
    this.extensionBytes += 1;
    this.extensionBytesTotal += 1;
    const tooLong =
      this.extensionBytes > extensionBytesMax || this.extensionBytesTotal > extensionBytesTotalMax;
    if (tooLong || ((byteClasses[byte] as number) & extensionByte) === 0) return "chunkExtension";
    return null;
  }

  private readTrailers(buffer: Buffer, limit: number): ChunkStep {
    const reader = this.trailerReader;
    const before = reader.gatheredBytes;
    const start = this.position;
    if (!reader.read("trailers", buffer, start, limit)) {
      this.position = limit;
      return "more";
    }
    const parser = reader.parser as HeadParser;
    const whole = reader.buffer as Buffer;
    if (parser.fault !== null) this.fault = "trailers";
    else if (hasForbidden(parser)) this.fault = "trailerForbidden";
    else {
      this.trailers = Array.from({ length: parser.fieldCount }, (_, index) => [
        parser.fieldName(index, whole),
        parser.fieldValue(index, whole),
      ]);
      // In a gathered section offsets count from its first byte.
      this.position = whole === buffer ? parser.end : start + parser.end - before;
      this.state = state.done;
    }
    reader.release();
    return this.fault === null ? "done" : "fault";
  }
}

/** Framing, routing and authorization belong in the header: a peer could merge them late. */
function hasForbidden(parser: HeadParser): boolean {
  for (let index = 0; index < parser.fieldCount; index += 1) {
    const id = parser.ids[index] as number;
    if (id !== fieldId.other && id !== fieldId.userAgent && id !== fieldId.accept) return true;
  }
  return false;
}
