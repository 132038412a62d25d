// What a client sends on a connection of HTTP/2, as a list that can be mutated before it becomes
// bytes, and as the files of the corpus have it.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { frame, preface } from "../../../src/gateway/testing/frames.ts";
import { bytesOf } from "../corpus.ts";
import type { Dice } from "../random.ts";
import type { Field } from "./hpack-twin.ts";
import { HpackWriter } from "./hpack-writer.ts";

export type Item =
  | { readonly kind: "raw"; readonly bytes: Buffer }
  | {
      readonly kind: "frame";
      readonly type: number;
      readonly flags: number;
      readonly streamId: number;
      readonly payload: Buffer;
    }
  | {
      readonly kind: "headers";
      readonly flags: number;
      readonly streamId: number;
      readonly fields: readonly Field[];
      /** Frames that the block is cut into: HEADERS, and CONTINUATION for the rest. */
      readonly pieces: number;
    };

export type Script = readonly Item[];

export interface Http2Seed {
  readonly name: string;
  readonly script: Script;
}

const frameBytesMax = 16_384;
const flag = { endHeaders: 0x4, padded: 0x8, priority: 0x20 };
const hex = (text: string) => Number.parseInt(text, 16);

export const raw = (bytes: Buffer): Item => ({ kind: "raw", bytes });

export const frameItem = (
  type: number,
  streamId: number,
  flags = 0,
  payload: Buffer | string = "",
): Item => {
  const bytes = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
  return { kind: "frame", type, flags, streamId, payload: bytes };
};

function headerFrames(item: Item & { kind: "headers" }, block: Buffer): Buffer {
  const { flags, streamId, pieces } = item;
  const before: Buffer[] = [];
  // Seven bytes of padding; a weight, and a stream that it does not depend on.
  if ((flags & flag.padded) !== 0) before.push(Buffer.from([7]));
  if ((flags & flag.priority) !== 0) before.push(Buffer.from([0, 0, 0, 0, 15]));
  const after = (flags & flag.padded) !== 0 ? Buffer.alloc(7) : Buffer.alloc(0);
  const cut = Math.max(1, Math.min(frameBytesMax - 20, Math.ceil(block.length / pieces)));
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += cut) {
    const isLast = at + cut >= block.length;
    const kept = flags & ~flag.endHeaders;
    const end = isLast ? flag.endHeaders & flags : 0;
    const piece = block.subarray(at, at + cut);
    if (at > 0) frames.push(frame(9, end, streamId, piece));
    else frames.push(frame(1, kept | end, streamId, Buffer.concat([...before, piece, after])));
  }
  return Buffer.concat(frames);
}

/** The bytes; the dice choose among the ways to write a header block. */
export function bytesOfScript(script: Script, dice: Dice): Buffer {
  const writer = new HpackWriter(dice);
  return Buffer.concat(
    script.map((item) => {
      switch (item.kind) {
        case "raw":
          return item.bytes;
        case "frame":
          return frame(item.type, item.flags, item.streamId, item.payload);
        default:
          return headerFrames(item, writer.write(item.fields));
      }
    }),
  );
}

/** `name=value`, the first `=` behind a name's first character. */
function readField(text: string): Field {
  const at = text.indexOf("=", 1);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/**
 * A line of a corpus file: `preface`, `raw BYTES`, `frame TYPE STREAM FLAGS BYTES`
 * or `headers STREAM FLAGS FRAMES NAME=VALUE|…`. Flags are hexadecimal; bytes are written as in
 * the corpus of HTTP/1.
 */
function readLine(line: string): Item[] {
  const [kind = "", ...rest] = line.split(" ");
  const after = (count: number) => bytesOf(rest.slice(count).join(" "));
  const [first = "0", second = "0", third = "0"] = rest;
  switch (kind) {
    case "preface":
      return [raw(preface)];
    case "raw":
      return [raw(Buffer.from(after(0), "latin1"))];
    case "frame":
      return [frameItem(Number(first), Number(second), hex(third), after(3))];
    case "headers": {
      const fields = after(3).split("|").map(readField);
      const [streamId, flags, pieces] = [Number(first), hex(second), Number(third)];
      return [{ kind: "headers", streamId, flags, pieces, fields }];
    }
    default:
      throw new Error(`what is ${JSON.stringify(line)}?`);
  }
}

const readScript = (file: string): Script =>
  file.split("\n").flatMap((line) => (line === "" || line.startsWith("#") ? [] : readLine(line)));

const folder = join(import.meta.dir, "..", "corpus", "http2");

/** In the order of their names, so that a run can be repeated. */
export function loadHttp2Corpus(): readonly Http2Seed[] {
  return readdirSync(folder)
    .sort()
    .map((file) => ({
      name: file.replace(/\.txt$/, ""),
      script: readScript(readFileSync(join(folder, file), "utf8")),
    }));
}
