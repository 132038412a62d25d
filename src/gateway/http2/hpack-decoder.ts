import { decodeHuffman } from "./huffman.ts";
import { HeaderField, staticTable } from "./static-table.ts";

/** What the table of decoded fields may hold, in bytes: HTTP/2's default, never raised. */
const tableBytesMax = 4096;
/** The smallest entry has 32 bytes. */
const tableEntriesMax = tableBytesMax / 32;
/** Continuation bytes of an integer: 28 bits, far beyond any length that is allowed. */
const integerBytesMax = 4;

/** The fields most lately added, newest first; a ring, so that adding moves nothing. */
class DynamicTable {
  private readonly ring: (HeaderField | undefined)[] = new Array(tableEntriesMax);
  private newest = 0;
  private count = 0;
  private bytes = 0;
  private bytesMax = tableBytesMax;

  /** @param index 0: the newest. */
  get(index: number): HeaderField | undefined {
    if (index >= this.count) return undefined;
    return this.ring[(this.newest - index + tableEntriesMax) % tableEntriesMax];
  }

  add(field: HeaderField): void {
    const { size } = field;
    this.shrink(this.bytesMax - size);
    // One that is larger than the whole table empties it, and that is no error.
    if (size > this.bytesMax) return;
    this.newest = (this.newest + 1) % tableEntriesMax;
    this.ring[this.newest] = field;
    this.count += 1;
    this.bytes += size;
  }

  resize(bytesMax: number): void {
    this.bytesMax = bytesMax;
    this.shrink(bytesMax);
  }

  private shrink(target: number): void {
    while (this.bytes > target && this.count > 0) {
      const oldest = (this.newest - this.count + 1 + tableEntriesMax) % tableEntriesMax;
      this.bytes -= (this.ring[oldest] as HeaderField).size;
      this.ring[oldest] = undefined;
      this.count -= 1;
    }
  }
}

export interface HeaderListLimits {
  /** As `SETTINGS_MAX_HEADER_LIST_SIZE` counts: 32 more than its text for each field. */
  readonly bytesMax: number;
  readonly fieldsMax: number;
}

/**
 * Decodes header blocks (RFC 7541). The peer's encoder and this table move in step, so every
 * block of a connection must pass through, also those of streams that nobody wants; one error
 * ends the connection. A list beyond the limits is decoded to its end, but not kept: what a
 * block of a few indices unfolds to is never all in memory.
 */
export class HpackDecoder {
  /** The last list was beyond the limits, and is not whole. */
  overflowed = false;

  private readonly limits: HeaderListLimits;
  private readonly table = new DynamicTable();
  private buffer: Buffer = Buffer.alloc(0);
  private position = 0;
  private end = 0;

  constructor(limits: HeaderListLimits) {
    this.limits = limits;
  }

  /** The fields of the whole block in [start, end); null: it is malformed. */
  decode(buffer: Buffer, start: number, end: number): readonly HeaderField[] | null {
    this.buffer = buffer;
    this.position = start;
    this.end = end;
    this.overflowed = false;
    const fields: HeaderField[] = [];
    let bytes = 0;
    let mayResize = true;
    while (this.position < this.end) {
      const first = buffer[this.position] as number;
      if ((first & 0xe0) === 0x20) {
        if (!mayResize || !this.resize()) return null;
        continue;
      }
      mayResize = false;
      const field = first >= 0x80 ? this.readIndexed() : this.readLiteral(first);
      if (field === null) return null;
      bytes += field.size;
      if (bytes > this.limits.bytesMax || fields.length === this.limits.fieldsMax) {
        this.overflowed = true;
      } else fields.push(field);
    }
    return fields;
  }

  private resize(): boolean {
    const bytesMax = this.readInteger(0x1f);
    if (bytesMax < 0 || bytesMax > tableBytesMax) return false;
    this.table.resize(bytesMax);
    return true;
  }

  private readIndexed(): HeaderField | null {
    const index = this.readInteger(0x7f);
    return index <= 0 ? null : this.lookUp(index);
  }

  private lookUp(index: number): HeaderField | null {
    if (index <= staticTable.length) return staticTable[index - 1] as HeaderField;
    return this.table.get(index - staticTable.length - 1) ?? null;
  }

  private readLiteral(first: number): HeaderField | null {
    const indexed = first >= 0x40;
    const nameIndex = this.readInteger(indexed ? 0x3f : 0x0f);
    if (nameIndex < 0) return null;
    const name = nameIndex === 0 ? this.readString() : (this.lookUp(nameIndex)?.name ?? null);
    if (name === null) return null;
    const value = this.readString();
    if (value === null) return null;
    const field = new HeaderField(name, value);
    if (indexed) this.table.add(field);
    return field;
  }

  /** RFC 7541 5.1; -1: cut off or too large. @param mask the prefix's bits. */
  private readInteger(mask: number): number {
    if (this.position >= this.end) return -1;
    let value = (this.buffer[this.position] as number) & mask;
    this.position += 1;
    if (value < mask) return value;
    for (let taken = 0; taken < integerBytesMax; taken += 1) {
      if (this.position >= this.end) return -1;
      const byte = this.buffer[this.position] as number;
      this.position += 1;
      value += (byte & 0x7f) * 2 ** (7 * taken);
      if (byte < 0x80) return value;
    }
    return -1;
  }

  private readString(): string | null {
    if (this.position >= this.end) return null;
    const isHuffman = (this.buffer[this.position] as number) >= 0x80;
    const length = this.readInteger(0x7f);
    const start = this.position;
    if (length < 0 || length > this.end - start) return null;
    this.position = start + length;
    if (!isHuffman) return this.buffer.toString("latin1", start, this.position);
    const room = Math.ceil((length * 8) / 5);
    if (scratch.length < room) scratch = Buffer.allocUnsafe(room * 2);
    const decoded = decodeHuffman(this.buffer, start, this.position, scratch);
    return decoded < 0 ? null : scratch.toString("latin1", 0, decoded);
  }
}

/** For one string at a time. */
let scratch = Buffer.allocUnsafe(4096);
