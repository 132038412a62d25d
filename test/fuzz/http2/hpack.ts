// HPACK three times over: the gateway's decoder, the naive twin's and nghttp2's read the same
// blocks, of one connection each, and must agree on every field or refuse; what the gateway's
// encoder writes nghttp2 must read.

import { HpackDecoder } from "../../../src/gateway/http2/hpack-decoder.ts";
import { HpackEncoder } from "../../../src/gateway/http2/hpack-encoder.ts";
import { Dice } from "../random.ts";
import type { Sum } from "../requests.ts";
import { type Field, HpackTwin } from "./hpack-twin.ts";
import { HpackWriter } from "./hpack-writer.ts";
import { changeBytes } from "./mutate.ts";
import { Deflater, Inflater } from "./nghttp2.ts";

const limits = { bytesMax: 1e9, fieldsMax: 1e9 };
const names = [
  ...[":method", ":path", ":status", "cookie", "x-a", "x-b", "content-length", "accept", "host"],
  ...["te", "", "X-Upper", "www-authenticate", "x".repeat(300)],
];
const someValues = ["", "GET", "/", "200", "a", "b", "0123456789", "\xff\x80", "\0\r\n"];

function someFields(dice: Dice): Field[] {
  return Array.from({ length: dice.below(8) }, () => {
    const name = dice.pick(names);
    if (!dice.once(3)) return [name, dice.pick(someValues)] as const;
    const length = dice.once(30) ? 5000 : dice.below(30);
    return [
      name,
      Array.from({ length }, () => String.fromCharCode(dice.below(256))).join(""),
    ] as const;
  });
}

/** The fields as the gateway's encoder writes them: it takes a message of HTTP/1. */
function encoded(encoder: HpackEncoder, fields: readonly Field[], isFirst: boolean): Buffer {
  encoder.begin(isFirst);
  for (const [name, value] of fields) {
    if (name === ":status") encoder.status(Number(value));
    else encoder.text(name, value);
  }
  return Buffer.from(encoder.buffer.subarray(0, encoder.length));
}

const asText = (fields: readonly Field[] | null) => JSON.stringify(fields);

/** One connection: blocks of a random writer, now and then with a byte that is not as it was. */
class Connection {
  private readonly decoder = new HpackDecoder(limits);
  private readonly twin = new HpackTwin();
  private readonly inflater = new Inflater();
  private readonly deflater = new Deflater();
  private readonly ours: HpackWriter;
  private readonly dice: Dice;
  private readonly isTheirs: boolean;
  /** Nothing was changed on the way so far: what is read must be what was written. */
  private isPristine = true;

  constructor(dice: Dice) {
    this.dice = dice;
    this.ours = new HpackWriter(dice);
    this.isTheirs = dice.once(3);
  }

  /** False: the connection is over. */
  step(sum: Sum, report: (sent: Buffer, fault: string) => void): boolean {
    const { dice } = this;
    const fields = someFields(dice);
    if (this.isTheirs && dice.once(8)) this.deflater.resize(dice.pick([0, 100, 4096]));
    const whole = this.isTheirs ? this.deflater.write(fields) : this.ours.write(fields);
    const block = dice.once(3) ? changeBytes(whole, dice) : whole;
    this.isPristine &&= block === whole;
    const seen = this.decoder.decode(block, 0, block.length);
    const ours = seen === null ? null : seen.map(({ name, value }) => [name, value] as const);
    const twins = this.twin.read(block);
    const theirs = this.inflater.read(block);
    sum.requests += 1;
    if (ours !== null) sum.forwarded += 1;
    else sum.refused += 1;
    if (asText(ours) !== asText(twins)) report(block, `the twin reads ${asText(twins)}`);
    // An integer with more zeros behind it than we follow may be read or not (RFC 7541 5.1).
    const isPadded = ours === null && theirs !== null && hasLongInteger(block);
    if (asText(ours) !== asText(theirs) && !isPadded) {
      report(block, `nghttp2 reads ${asText(theirs)}, not ${asText(ours)}`);
    }
    const isRead = asText(ours) === asText(fields);
    if (this.isPristine && !isRead) report(block, "it is not what was written");
    return ours !== null && theirs !== null;
  }

  free(): void {
    this.inflater.free();
    this.deflater.free();
  }
}

/** Four bytes of an integer that say that it goes on. */
const hasLongInteger = (block: Buffer): boolean =>
  block.some((_, at) => block.subarray(at, at + 4).every((byte) => byte >= 0x80));

/** Case `index`: a connection to the gateway, and one of the gateway's. */
export function runHpackCase(seed: number, index: number, sum: Sum): void {
  const dice = Dice.of(seed, index);
  const report = (sent: Buffer, fault: string) => {
    sum.findings.push({ index, sent: sent.toString("hex"), faults: [fault] });
  };
  const connection = new Connection(dice);
  const blocks = 1 + dice.below(8);
  for (let block = 0; block < blocks && connection.step(sum, report); block += 1);
  connection.free();
  const encoder = new HpackEncoder();
  const inflater = new Inflater();
  for (let block = 0; block < 2; block += 1) {
    const status = `${200 + dice.below(300)}`;
    const rest = someFields(dice).filter(([name]) => name !== ":status");
    const fields: Field[] = [[":status", status], ...rest.map(lower)];
    const written = encoded(encoder, fields, block === 0);
    const read = inflater.read(written);
    if (asText(read) !== asText(fields)) report(written, `of ours nghttp2 reads ${asText(read)}`);
  }
  inflater.free();
  sum.cases += 1;
}

const lower = ([name, value]: Field): Field => [name.toLowerCase(), value];
