// Makes header blocks by every choice that the format allows, as the dice have it. They are texts
// on the way, one character for a byte: that is quickest.

import { staticTable } from "../../../src/gateway/http2/static-table.ts";
import { huffman } from "../../../src/gateway/testing/frames.ts";
import type { Dice } from "../random.ts";
import type { Field } from "./hpack-twin.ts";

const tableBytesMax = 4096;
const sizeOf = ([name, value]: Field) => name.length + value.length + 32;

/** The names of the static table, to their first index. */
const staticNames = new Map<string, number>();
const staticFields = new Map<string, number>();
for (const [at, { name, value }] of staticTable.entries()) {
  if (!staticNames.has(name)) staticNames.set(name, at + 1);
  staticFields.set(`${name}\0${value}`, at + 1);
}

/** RFC 7541 5.1. */
function integer(flags: number, prefixBits: number, value: number): string {
  const most = 2 ** prefixBits - 1;
  if (value < most) return String.fromCharCode(flags | value);
  let text = String.fromCharCode(flags | most);
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128))
    text += String.fromCharCode((rest % 128) + 128);
  return text + String.fromCharCode(rest);
}

/** What was written by Huffman's code lately: the plain way to write it is slow. */
const written = new Map<string, string>();
const writtenMax = 5000;

function huffmanText(value: string): string {
  const known = written.get(value);
  if (known !== undefined) return known;
  const bytes = huffman(value).toString("latin1");
  const whole = integer(0x80, 7, bytes.length) + bytes;
  if (written.size === writtenMax) written.clear();
  if (value.length < 100) written.set(value, whole);
  return whole;
}

const literals = [
  [0x40, 6],
  [0x40, 6],
  [0, 4],
  [0x10, 4],
] as const;
const sizes = [0, 64, 100, 1000, tableBytesMax, tableBytesMax];

/** One client's encoder. */
export class HpackWriter {
  private readonly dice: Dice;
  private readonly table: Field[] = [];
  private bytesMax = tableBytesMax;

  constructor(dice: Dice) {
    this.dice = dice;
  }

  write(fields: readonly Field[]): Buffer {
    let block = "";
    while (this.dice.once(12)) block += this.resize();
    for (const field of fields) block += this.one(field);
    return Buffer.from(block, "latin1");
  }

  private resize(): string {
    this.bytesMax = this.dice.pick(sizes);
    this.evict();
    return integer(0x20, 5, this.bytesMax);
  }

  private evict(): void {
    let sum = 0;
    for (const field of this.table) sum += sizeOf(field);
    while (sum > this.bytesMax) sum -= sizeOf(this.table.pop() as Field);
  }

  private one(field: Field): string {
    const { dice, table } = this;
    const [name, value] = field;
    let [own, ownName] = [-1, -1];
    for (let at = table.length - 1; at >= 0; at -= 1) {
      const [other, its] = table[at] as Field;
      if (other !== name) continue;
      ownName = at;
      if (its === value) own = at;
    }
    const whole = staticFields.get(`${name}\0${value}`);
    const index = own >= 0 ? staticTable.length + 1 + own : whole;
    if (index !== undefined && !dice.once(6)) return integer(0x80, 7, index);
    const nameIndex = staticNames.get(name) ?? (ownName < 0 ? 0 : staticTable.length + 1 + ownName);
    const isNamed = nameIndex > 0 && !dice.once(6);
    const [flags, bits] = dice.pick(literals);
    const head = isNamed
      ? integer(flags, bits, nameIndex)
      : integer(flags, bits, 0) + this.text(name);
    if (flags === 0x40) {
      table.unshift(field);
      this.evict();
    }
    return head + this.text(value);
  }

  private text(value: string): string {
    return this.dice.once(4) ? huffmanText(value) : integer(0, 7, value.length) + value;
  }
}
