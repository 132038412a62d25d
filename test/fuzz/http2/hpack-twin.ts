// The naive twin of the gateway's HPACK decoder (RFC 7541): a list for the table, bits one by one
// for Huffman's code. Of the gateway it has the two tables of the RFC's appendices alone, and
// nghttp2 is asked about those (`hpack.test.ts`).

import { huffmanCodes } from "../../../src/gateway/http2/huffman.ts";
import { staticTable } from "../../../src/gateway/http2/static-table.ts";

export type Field = readonly [name: string, value: string];

const tableBytesMax = 4096;
/** Continuation bytes of an integer. RFC 7541 5.1 leaves the limit to who decodes. */
const continuationsMax = 4;
const endOfString = 256;

const symbols = new Map(
  huffmanCodes().map(({ symbol, code, bits }) => [bits * 2 ** 30 + code, symbol]),
);

/** Null: malformed. */
function readHuffman(bytes: Uint8Array): string | null {
  let text = "";
  let [code, bits] = [0, 0];
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit -= 1) {
      code = code * 2 + ((byte >> bit) & 1);
      bits += 1;
      const symbol = symbols.get(bits * 2 ** 30 + code);
      if (symbol === undefined) continue;
      if (symbol === endOfString) return null;
      text += String.fromCharCode(symbol);
      [code, bits] = [0, 0];
    }
  }
  return bits < 8 && code === 2 ** bits - 1 ? text : null;
}

class Malformed extends Error {}

/** Reads the header blocks of one direction of a connection. */
export class HpackTwin {
  private readonly table: Field[] = [];
  private bytesMax = tableBytesMax;
  private bytes: Uint8Array = new Uint8Array();
  private at = 0;

  /** Null: malformed, and the connection with it. */
  read(block: Uint8Array): readonly Field[] | null {
    this.bytes = block;
    this.at = 0;
    try {
      return this.fields();
    } catch (error) {
      if (error instanceof Malformed) return null;
      throw error;
    }
  }

  private fields(): Field[] {
    const fields: Field[] = [];
    while (this.at < this.bytes.length) {
      const first = this.bytes[this.at] as number;
      if (first >= 0x80) fields.push(this.entry(this.integer(7)));
      else if (first >= 0x40) {
        const field = this.literal(6);
        this.table.unshift(field);
        this.evict();
        fields.push(field);
      } else if (first >= 0x20) {
        // Only before the first field of a block (RFC 7541 4.2).
        if (fields.length > 0) throw new Malformed();
        this.bytesMax = this.integer(5);
        if (this.bytesMax > tableBytesMax) throw new Malformed();
        this.evict();
      } else fields.push(this.literal(4));
    }
    return fields;
  }

  private evict(): void {
    const sum = () =>
      this.table.reduce((all, [name, value]) => all + name.length + value.length + 32, 0);
    while (this.table.length > 0 && sum() > this.bytesMax) this.table.pop();
  }

  private entry(index: number): Field {
    const known = staticTable[index - 1];
    if (known !== undefined) return [known.name, known.value];
    const own = this.table[index - 1 - staticTable.length];
    if (index === 0 || own === undefined) throw new Malformed();
    return own;
  }

  private literal(prefixBits: number): Field {
    const index = this.integer(prefixBits);
    const name = index === 0 ? this.text() : this.entry(index)[0];
    return [name, this.text()];
  }

  private byte(): number {
    const byte = this.bytes[this.at];
    if (byte === undefined) throw new Malformed();
    this.at += 1;
    return byte;
  }

  private integer(prefixBits: number): number {
    const most = 2 ** prefixBits - 1;
    const first = this.byte() % 2 ** prefixBits;
    if (first < most) return first;
    let value = most;
    for (let index = 0; index < continuationsMax; index += 1) {
      const byte = this.byte();
      value += (byte % 128) * 128 ** index;
      if (byte < 128) return value;
    }
    throw new Malformed();
  }

  private text(): string {
    const isHuffman = (this.bytes[this.at] ?? 0) >= 128;
    const length = this.integer(7);
    const bytes = this.bytes.subarray(this.at, this.at + length);
    if (bytes.length < length) throw new Malformed();
    this.at += length;
    if (!isHuffman) return Buffer.from(bytes).toString("latin1");
    const text = readHuffman(bytes);
    if (text === null) throw new Malformed();
    return text;
  }
}
