import { staticTable } from "./static-table.ts";

interface StaticName {
  readonly bytes: Buffer;
  readonly index: number;
}

/** The first index of each name, by the name's length. */
const namesByLength: readonly (readonly StaticName[])[] = Array.from({ length: 28 }, (_, length) =>
  staticTable.flatMap(({ name }, at) => {
    const isFirst = staticTable.findIndex((other) => other.name === name) === at;
    return name.length === length && isFirst ? [{ bytes: Buffer.from(name), index: at + 1 }] : [];
  }),
);

const statusIndex = staticTable.findIndex(({ name }) => name === ":status") + 1;

const wholeStatuses = new Map(
  staticTable.flatMap(({ name, value }, at) =>
    name === ":status" ? ([[Number(value), at + 1]] as const) : [],
  ),
);

/**
 * Encodes header blocks (RFC 7541) without a table of its own and without Huffman's code: names
 * that the static table knows become an index, everything else the bytes as they lie in the
 * app's answer. That takes the least work per answer, and no memory per connection. The first
 * block of a connection says that its table has no room, so that a peer that makes the table
 * smaller later need not be told again (4.2).
 */
export class HpackEncoder {
  /** The block so far is [0, length). */
  buffer: Buffer = Buffer.allocUnsafe(8192);
  length = 0;

  /** @param isFirst of the connection. */
  begin(isFirst: boolean): void {
    this.length = 0;
    if (isFirst) this.putInteger(0x20, 0x1f, 0);
  }

  status(status: number): void {
    this.reserve(16);
    const whole = wholeStatuses.get(status);
    if (whole !== undefined) this.putInteger(0x80, 0x7f, whole);
    else {
      this.putInteger(0, 0x0f, statusIndex);
      this.putInteger(0, 0x7f, 3);
      this.length += this.buffer.write(String(status), this.length, "latin1");
    }
  }

  /** A field as it lies in a message of HTTP/1.1; its name becomes lowercase. */
  field(
    from: Buffer,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    const nameLength = nameEnd - nameStart;
    this.reserve(nameLength + valueEnd - valueStart + 16);
    const index = this.lowerName(from, nameStart, nameLength);
    this.putInteger(0, 0x0f, index);
    if (index === 0) {
      this.putInteger(0, 0x7f, nameLength);
      // Over the length that has just been written: it lay there to be compared.
      this.lowerName(from, nameStart, nameLength);
      this.length += nameLength;
    }
    this.putInteger(0, 0x7f, valueEnd - valueStart);
    this.length += from.copy(this.buffer, this.length, valueStart, valueEnd);
  }

  /** @param name lowercase. */
  text(name: string, value: string): void {
    const bytes = Buffer.from(name + value, "latin1");
    this.field(bytes, 0, name.length, name.length, bytes.length);
  }

  /** Writes the lowercase name at the end, without taking it in; returns its static index or 0. */
  private lowerName(from: Buffer, start: number, length: number): number {
    const { buffer } = this;
    const at = this.length;
    for (let offset = 0; offset < length; offset += 1) {
      const byte = from[start + offset] as number;
      buffer[at + offset] = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
    }
    const names = namesByLength[length];
    if (names === undefined) return 0;
    for (let which = 0; which < names.length; which += 1) {
      const { bytes, index } = names[which] as StaticName;
      let offset = 0;
      while (offset < length && bytes[offset] === buffer[at + offset]) offset += 1;
      if (offset === length) return index;
    }
    return 0;
  }

  /** RFC 7541 5.1. */
  private putInteger(flags: number, mask: number, value: number): void {
    const { buffer } = this;
    if (value < mask) {
      buffer[this.length] = flags | value;
      this.length += 1;
      return;
    }
    buffer[this.length] = flags | mask;
    this.length += 1;
    let rest = value - mask;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
      buffer[this.length] = (rest % 0x80) | 0x80;
      this.length += 1;
    }
    buffer[this.length] = rest;
    this.length += 1;
  }

  private reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(needed * 2);
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }
}
