// Makes header blocks by every choice that the format allows, as the dice have it.

import { staticTable } from "../../../src/gateway/http2/static-table.ts";
import { integer, text } from "../../../src/gateway/testing/frames.ts";
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

/** One client's encoder. */
export class HpackWriter {
  private readonly dice: Dice;
  private readonly table: Field[] = [];
  private bytesMax = tableBytesMax;

  constructor(dice: Dice) {
    this.dice = dice;
  }

  write(fields: readonly Field[]): Buffer {
    const { dice } = this;
    const pieces: Buffer[] = [];
    while (dice.once(12)) pieces.push(this.resize());
    for (const field of fields) pieces.push(this.one(field));
    return Buffer.concat(pieces);
  }

  private resize(): Buffer {
    const bytesMax = this.dice.pick([0, 64, 100, 1000, tableBytesMax, tableBytesMax]);
    this.bytesMax = bytesMax;
    this.evict();
    return integer(0x20, 5, bytesMax);
  }

  private evict(): void {
    let sum = this.table.reduce((all, field) => all + sizeOf(field), 0);
    while (sum > this.bytesMax) sum -= sizeOf(this.table.pop() as Field);
  }

  private one(field: Field): Buffer {
    const { dice, table } = this;
    const [name, value] = field;
    const own = table.findIndex(([other, its]) => other === name && its === value);
    const whole = staticFields.get(`${name}\0${value}`);
    const index = own >= 0 ? staticTable.length + 1 + own : whole;
    if (index !== undefined && !dice.once(6)) return integer(0x80, 7, index);
    const ownName = table.findIndex(([other]) => other === name);
    const nameIndex = staticNames.get(name) ?? (ownName < 0 ? 0 : staticTable.length + 1 + ownName);
    const isNamed = nameIndex > 0 && !dice.once(6);
    const [flags, bits] = dice.pick([
      [0x40, 6],
      [0x40, 6],
      [0, 4],
      [0x10, 4],
    ] as const);
    const head = integer(flags, bits, isNamed ? nameIndex : 0);
    const nameText = isNamed ? [] : [text(name, dice.once(4))];
    if (flags === 0x40) {
      table.unshift(field);
      this.evict();
    }
    return Buffer.concat([head, ...nameText, text(value, dice.once(4))]);
  }
}
