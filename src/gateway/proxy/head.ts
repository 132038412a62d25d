import {
  byteClasses,
  carriageReturn,
  colon,
  lineFeed,
  space,
  tab,
  targetByte,
  tokenByte,
  underscore,
  valueByte,
} from "./bytes.ts";
import { fieldId, identifyField, identifyUnderscored } from "./fields.ts";

/** Why the bytes are not a message head. Each has its status and sentence in `faults.ts`. */
export type HeadFault =
  | "method"
  | "target"
  | "version"
  | "statusLine"
  | "startLineTooLong"
  | "lineEnd"
  | "fieldName"
  | "fieldValue"
  | "foldedField"
  | "ambiguousField"
  | "fieldsTooLarge"
  | "tooManyFields";

export interface HeadLimits {
  readonly startLineBytesMax: number;
  readonly fieldBytesMax: number;
  readonly fieldsMax: number;
}

export type HeadKind = "request" | "response" | "trailers";

const state = {
  begin: 0,
  beginLineFeed: 1,
  startLine: 2,
  startLineFeed: 3,
  fieldStart: 4,
  fieldName: 5,
  valueStart: 6,
  value: 7,
  valueLineFeed: 8,
  endLineFeed: 9,
  done: 10,
} as const;

/**
 * A strict, resumable parser of message heads (RFC 9112 2–5) and trailer sections:
 *
 *   begin ─→ startLine ─→ fieldStart ⇄ fieldName ─→ value ─→ … ─→ done
 *     └ one empty line before a request is skipped
 *
 * It walks each byte once, in a buffer that begins with the head and may grow between calls, and
 * keeps offsets only: every verdict depends on the bytes and never on how they were cut. Bare CR
 * or LF, folded lines, spaces around a name, control bytes: all are faults, because peers read
 * them in different ways and the difference is what request smuggling lives on.
 */
export class HeadParser {
  /** Per field: start and end of the name, start and end of the value without white space. */
  readonly spans: Int32Array;
  readonly ids: Uint8Array;
  /** Per id: index of its first field, or -1. */
  readonly firstOf: Int16Array = new Int16Array(fieldId.count);
  /** Per id: how many fields bear it. */
  readonly countOf: Uint8Array = new Uint8Array(fieldId.count);
  fieldCount = 0;
  /** Where the start line begins (after a skipped empty line). */
  startLineStart = 0;
  methodEnd = 0;
  targetStart = 0;
  targetEnd = 0;
  /** The y of HTTP/1.y. */
  minorVersion = 0;
  statusCode = 0;
  /** Offset of the first field line. */
  fieldsStart = 0;
  /** Offset after the empty line, once the head is complete. */
  end = 0;
  fault: HeadFault | null = null;

  private kind: HeadKind = "request";
  private state: number = state.begin;
  private position = 0;
  private lineStart = 0;
  private nameUnderscored = false;
  private readonly limits: HeadLimits;

  constructor(limits: HeadLimits) {
    this.limits = limits;
    this.spans = new Int32Array(limits.fieldsMax * 4);
    this.ids = new Uint8Array(limits.fieldsMax);
  }

  /** Makes ready for a head that begins at `offset` of the buffer to come. */
  reset(kind: HeadKind, offset: number): void {
    this.kind = kind;
    this.state = kind === "trailers" ? state.fieldStart : state.begin;
    this.position = offset;
    this.startLineStart = offset;
    this.fieldsStart = offset;
    this.fieldCount = 0;
    this.statusCode = 0;
    this.fault = null;
    this.firstOf.fill(-1);
    this.countOf.fill(0);
  }

  /**
   * Walks on to `length`. True: the head is complete (`end` is set) or faulty (`fault` is set);
   * false: more bytes are needed.
   */
  parse(buffer: Buffer, length: number): boolean {
    while (this.position < length) {
      if (this.state >= state.fieldStart) {
        if (this.parseFields(buffer, length)) return true;
      } else if (this.parseStart(buffer, length)) return true;
    }
    return false;
  }

  private fail(fault: HeadFault): true {
    this.fault = fault;
    return true;
  }

  private parseStart(buffer: Buffer, length: number): boolean {
    switch (this.state) {
      case state.begin:
        if (buffer[this.position] === carriageReturn && this.kind === "request") {
          if (this.position !== this.startLineStart) return this.fail("method");
          this.position += 1;
          this.state = state.beginLineFeed;
          return false;
        }
        this.startLineStart = this.position;
        this.state = state.startLine;
        return false;
      case state.beginLineFeed:
        if (buffer[this.position] !== lineFeed) return this.fail("lineEnd");
        this.position += 1;
        this.state = state.begin;
        return false;
      case state.startLine:
        return this.scanStartLine(buffer, length);
      default:
        if (buffer[this.position] !== lineFeed) return this.fail("lineEnd");
        this.position += 1;
        this.fieldsStart = this.position;
        this.state = state.fieldStart;
        return false;
    }
  }

  /** Finds the end of the start line, then reads it at once. */
  private scanStartLine(buffer: Buffer, length: number): boolean {
    const limit = this.startLineStart + this.limits.startLineBytesMax;
    const bound = Math.min(length, limit);
    let position = this.position;
    while (position < bound && (byteClasses[buffer[position] as number] as number) & valueByte) {
      position += 1;
    }
    this.position = position;
    if (position === length && position <= limit) return false;
    if (buffer[position] !== carriageReturn) {
      if (position === limit) return this.fail("startLineTooLong");
      return this.fail(buffer[position] === lineFeed ? "lineEnd" : this.startLineFault());
    }
    const fault =
      this.kind === "request"
        ? this.readRequestLine(buffer, position)
        : this.readStatusLine(buffer, position);
    if (fault !== null) return this.fail(fault);
    this.position = position + 1;
    this.state = state.startLineFeed;
    return false;
  }

  private startLineFault(): HeadFault {
    return this.kind === "request" ? "target" : "statusLine";
  }

  private readRequestLine(buffer: Buffer, end: number): HeadFault | null {
    let position = this.startLineStart;
    while ((byteClasses[buffer[position] as number] as number) & tokenByte) position += 1;
    if (position === this.startLineStart || buffer[position] !== space) return "method";
    this.methodEnd = position;
    position += 1;
    this.targetStart = position;
    while ((byteClasses[buffer[position] as number] as number) & targetByte) position += 1;
    if (position === this.targetStart || buffer[position] !== space) return "target";
    this.targetEnd = position;
    return this.readVersion(buffer, position + 1, end);
  }

  /** `HTTP/1.0` or `HTTP/1.1` in [start, end). */
  private readVersion(buffer: Buffer, start: number, end: number): HeadFault | null {
    if (
      end - start !== 8 ||
      buffer[start] !== 0x48 ||
      buffer[start + 1] !== 0x54 ||
      buffer[start + 2] !== 0x54 ||
      buffer[start + 3] !== 0x50 ||
      buffer[start + 4] !== 0x2f ||
      buffer[start + 5] !== 0x31 ||
      buffer[start + 6] !== 0x2e
    ) {
      return "version";
    }
    const minor = (buffer[start + 7] as number) - 0x30;
    if (minor !== 0 && minor !== 1) return "version";
    this.minorVersion = minor;
    return null;
  }

  /** `HTTP/1.1 200 OK`; the reason may be empty, and its space too, as many servers have it. */
  private readStatusLine(buffer: Buffer, end: number): HeadFault | null {
    const start = this.startLineStart;
    if (end - start < 12) return "statusLine";
    if (this.readVersion(buffer, start, start + 8) !== null) return "version";
    if (buffer[start + 8] !== space) return "statusLine";
    let code = 0;
    for (let index = start + 9; index < start + 12; index += 1) {
      const digit = (buffer[index] as number) - 0x30;
      if (digit < 0 || digit > 9) return "statusLine";
      code = code * 10 + digit;
    }
    if (end > start + 12 && buffer[start + 12] !== space) return "statusLine";
    if (code < 100 || code > 599) return "statusLine";
    this.statusCode = code;
    return null;
  }

  private parseFields(buffer: Buffer, length: number): boolean {
    const limit = this.fieldsStart + this.limits.fieldBytesMax;
    if (this.position >= limit) return this.fail("fieldsTooLarge");
    const bound = Math.min(length, limit);
    switch (this.state) {
      case state.fieldStart:
        return this.startField(buffer);
      case state.fieldName:
        return this.scanName(buffer, bound);
      case state.valueStart:
        return this.skipWhite(buffer, bound);
      case state.value:
        return this.scanValue(buffer, bound);
      case state.valueLineFeed:
        if (buffer[this.position] !== lineFeed) return this.fail("lineEnd");
        this.position += 1;
        this.state = state.fieldStart;
        return false;
      default:
        if (buffer[this.position] !== lineFeed) return this.fail("lineEnd");
        this.position += 1;
        this.end = this.position;
        this.state = state.done;
        return true;
    }
  }

  private startField(buffer: Buffer): boolean {
    const byte = buffer[this.position];
    if (byte === carriageReturn) {
      this.position += 1;
      this.state = state.endLineFeed;
      return false;
    }
    if (byte === lineFeed) return this.fail("lineEnd");
    if (byte === space || byte === tab) return this.fail("foldedField");
    if (this.fieldCount === this.limits.fieldsMax) return this.fail("tooManyFields");
    this.lineStart = this.position;
    this.nameUnderscored = false;
    this.state = state.fieldName;
    return false;
  }

  private scanName(buffer: Buffer, bound: number): boolean {
    let position = this.position;
    while (position < bound) {
      const byte = buffer[position] as number;
      if (((byteClasses[byte] as number) & tokenByte) === 0) break;
      if (byte === underscore) this.nameUnderscored = true;
      position += 1;
    }
    this.position = position;
    if (position === bound) return false;
    if (buffer[position] !== colon || position === this.lineStart) return this.fail("fieldName");
    const slot = this.fieldCount * 4;
    this.spans[slot] = this.lineStart;
    this.spans[slot + 1] = position;
    this.position = position + 1;
    this.state = state.valueStart;
    return false;
  }

  private skipWhite(buffer: Buffer, bound: number): boolean {
    let position = this.position;
    while (position < bound && (buffer[position] === space || buffer[position] === tab)) {
      position += 1;
    }
    this.position = position;
    if (position === bound) return false;
    this.spans[this.fieldCount * 4 + 2] = position;
    this.state = state.value;
    return false;
  }

  private scanValue(buffer: Buffer, bound: number): boolean {
    let position = this.position;
    while (position < bound && (byteClasses[buffer[position] as number] as number) & valueByte) {
      position += 1;
    }
    this.position = position;
    if (position === bound) return false;
    if (buffer[position] !== carriageReturn) {
      return this.fail(buffer[position] === lineFeed ? "lineEnd" : "fieldValue");
    }
    this.position = position + 1;
    this.state = state.valueLineFeed;
    return this.endField(buffer, position);
  }

  private endField(buffer: Buffer, valueEnd: number): boolean {
    const slot = this.fieldCount * 4;
    const valueStart = this.spans[slot + 2] as number;
    let end = valueEnd;
    while (end > valueStart && (buffer[end - 1] === space || buffer[end - 1] === tab)) end -= 1;
    this.spans[slot + 3] = end;
    const nameStart = this.spans[slot] as number;
    const nameEnd = this.spans[slot + 1] as number;
    let id = identifyField(buffer, nameStart, nameEnd);
    if (this.nameUnderscored) {
      const seen = identifyUnderscored(buffer, nameStart, nameEnd);
      // `Content_Length` is another field here, and the same one to a CGI-like server.
      if (seen === fieldId.contentLength || seen === fieldId.transferEncoding) {
        return this.fail("ambiguousField");
      }
      id = seen === fieldId.forwarded ? seen : fieldId.other;
    }
    this.ids[this.fieldCount] = id;
    if (this.countOf[id] === 0) this.firstOf[id] = this.fieldCount;
    this.countOf[id] = (this.countOf[id] as number) + 1;
    this.fieldCount += 1;
    return false;
  }

  /** The value of the first field with this id, or null. */
  valueOf(id: number, buffer: Buffer): string | null {
    const index = this.firstOf[id] as number;
    return index < 0 ? null : this.fieldValue(index, buffer);
  }

  fieldValue(index: number, buffer: Buffer): string {
    const slot = index * 4;
    return buffer.toString(
      "latin1",
      this.spans[slot + 2] as number,
      this.spans[slot + 3] as number,
    );
  }

  /** The values of all fields with this lowercase name, in order. */
  valuesNamed(name: string, buffer: Buffer): readonly string[] {
    const values: string[] = [];
    for (let index = 0; index < this.fieldCount; index += 1) {
      const slot = index * 4;
      const length = (this.spans[slot + 1] as number) - (this.spans[slot] as number);
      if (length !== name.length || this.fieldName(index, buffer).toLowerCase() !== name) continue;
      values.push(this.fieldValue(index, buffer));
    }
    return values;
  }

  /** Offset of the line after a field's. */
  lineAfter(index: number): number {
    return index + 1 < this.fieldCount ? (this.spans[index * 4 + 4] as number) : this.end - 2;
  }

  fieldName(index: number, buffer: Buffer): string {
    const slot = index * 4;
    return buffer.toString("latin1", this.spans[slot] as number, this.spans[slot + 1] as number);
  }
}
