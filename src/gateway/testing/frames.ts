import { huffmanCodes } from "../http2/huffman.ts";

/** HTTP/2 frames made and read by hand, as plainly as can be: the tests' own idea of them. */
export const preface: Buffer = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Buffer | readonly number[] = [],
): Buffer {
  const body = Buffer.from(payload as Buffer);
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, body]);
}

export const settings = (...pairs: readonly (readonly [number, number])[]): Buffer =>
  frame(4, 0, 0, Buffer.concat(pairs.map(([name, value]) => setting(name, value))));

function setting(name: number, value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUInt16BE(name, 0);
  bytes.writeUInt32BE(value, 2);
  return bytes;
}

export function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

export const windowUpdate = (streamId: number, increment: number): Buffer =>
  frame(8, 0, streamId, number32(increment));

export const headers = (
  streamId: number,
  fields: readonly (readonly [string, string])[],
  flags = 5,
): Buffer => frame(1, flags, streamId, block(fields));

/** Literals that are not indexed, nothing else. */
export function block(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(
    fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])),
  );
}

/** A string of HPACK. */
export function text(value: string, isHuffman = false): Buffer {
  const bytes = isHuffman ? huffman(value) : Buffer.from(value, "latin1");
  return Buffer.concat([integer(isHuffman ? 0x80 : 0, 7, bytes.length), bytes]);
}

/** RFC 7541 5.1. */
export function integer(flags: number, prefixBits: number, value: number): Buffer {
  const most = 2 ** prefixBits - 1;
  if (value < most) return Buffer.from([flags | value]);
  const bytes = [flags | most];
  let rest = value - most;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...bytes, rest]);
}

const codes = new Map(
  huffmanCodes().map(({ symbol, code, bits }) => [symbol, code.toString(2).padStart(bits, "0")]),
);

/** By strings of zeros and ones. */
export function huffman(value: string): Buffer {
  const bits = [...Buffer.from(value, "latin1")].map((byte) => codes.get(byte) ?? "").join("");
  const padded = bits.padEnd(Math.ceil(bits.length / 8) * 8, "1");
  return Buffer.from((padded.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Whole frames, one after the other. */
export function readFrames(bytes: Buffer): SeenFrame[] {
  const seen: SeenFrame[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    seen.push({
      type: bytes.readUInt8(at + 3),
      flags: bytes.readUInt8(at + 4),
      streamId: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, end),
    });
    at = end;
  }
  return seen;
}
