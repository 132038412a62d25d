// Mutations of what a client of HTTP/2 sends: of header fields, of frames, of their order, and of
// bytes. What they make is often still a request, and often nearly one.

import { number32, preface } from "../../../src/gateway/testing/frames.ts";
import type { Dice } from "../random.ts";
import type { Field } from "./hpack-twin.ts";
import { bytesOfScript, frameItem, type Http2Seed, type Item, raw, type Script } from "./script.ts";

export const host = "app.test";

const fields: readonly Field[] = [
  ...([
    ["content-length", "0"],
    ["content-length", "5"],
    ["content-length", "05"],
  ] as const),
  ...([
    ["content-length", "41"],
    ["content-length", "-1"],
    ["content-length", "5,5"],
  ] as const),
  ...([
    ["content-length", "9007199254740993"],
    ["content-length", ""],
  ] as const),
  ...([
    ["transfer-encoding", "chunked"],
    ["connection", "close"],
    ["keep-alive", "5"],
  ] as const),
  ...([
    ["upgrade", "h2c"],
    ["proxy-connection", "x"],
    ["te", "trailers"],
  ] as const),
  ...([
    ["te", "gzip"],
    ["te", "trailers, chunked"],
    ["http2-settings", "x"],
  ] as const),
  ...([
    ["host", host],
    ["host", "evil.test"],
    ["host", "APP.test"],
    ["host", ""],
  ] as const),
  ...([
    ["expect", "100-continue"],
    ["expect", "nothing"],
    ["trailer", "x-sum"],
  ] as const),
  ...([
    ["x-request-id", "1"],
    ["x-forwarded-for", "6.6.6.6"],
    ["x_forwarded_for", "6"],
  ] as const),
  ...([
    ["content_length", "7"],
    ["transfer_encoding", "chunked"],
    ["proxy", "x"],
  ] as const),
  ...([
    ["x-a", "b\r\ncontent-length: 5"],
    ["x-a", "b\nx: y"],
    ["x-a", "b\0"],
  ] as const),
  ...([
    ["x-a", " b"],
    ["x-a", "b\t"],
    ["x-a", "b\rc"],
    ["x-a", ""],
    ["x-a", "\x80\xff"],
  ] as const),
  ...([
    ["X-A", "b"],
    ["x a", "b"],
    ["x-a:", "b"],
    ["", "b"],
    ["x\r\ny", "b"],
    ["x\0", "b"],
  ] as const),
  ...([
    ["cookie", "a=b"],
    ["cookie", "c=d"],
    ["cookie", ""],
    ["accept", "application/json"],
  ] as const),
  ...([
    ["user-agent", "fuzz"],
    [":status", "200"],
    [":method", "POST"],
    [":x", "y"],
  ] as const),
  ...([
    [":path", "/b"],
    [":authority", "evil.test"],
    [":protocol", "websocket"],
  ] as const),
  ...([
    [":scheme", "http"],
    ["authorization", "x"],
    ["content-type", "text/plain"],
  ] as const),
];

const pseudoValues: Readonly<Record<string, readonly string[]>> = {
  ":method": [
    ...["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get", "G T", ""],
    ...["GET / HTTP/1.1\r\nx: y\r\n\r\nGET", "GET\0", "PATCH", "PRI"],
  ],
  ":scheme": ["https", "http", "", "HTTPS", "x\r\n"],
  ":path": [
    ...["/", "/a?b=c&d", "//", "*", "", "a", "/a b", "/\xe9", "/%00", "/#", "/a HTTP/1.1\r\nx: y"],
    ...["https://app.test/a", "/\t", "/\0", "/../..", "/{}|\\^`", `/${"p".repeat(9000)}`],
  ],
  ":authority": [
    ...[host, "APP.TEST", "app.test:443", "app.test.", "evil.test", "lost.test", "", "a b"],
    ...["app.test\r\nx: y", "user@app.test", "app.test:99999999", "[::1]", "app.test/x"],
  ],
  ":protocol": ["websocket", "chat", "", "WebSocket"],
};

const small = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x7f, 0xff];
const windows = [
  ...[1, 1, 5, 5, 100, 100, 1000, 65_535, 65_535, 1_000_000, 1_000_000, 0x8000_0001],
  ...[0, 0x7fff_0000, 0x7fff_ffff, 0xffff_ffff],
];

const streamWindows = [0, 1, 5, 100, 65_535, 65_535, 1_000_000, 0x7fff_ffff, 0x8000_0000];

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n";

/** Requests by hand: what clients of today send, with bodies of all sizes. */
function requestItems(dice: Dice, streamId: number): Item[] {
  const method = dice.pick(["GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS"]);
  const hasBody = method === "POST" || method === "PUT" || dice.once(10);
  const body = dice.once(200) ? smuggled.repeat(1000) : smuggled.slice(0, dice.below(60));
  const list: Field[] = [
    [":method", method],
    [":scheme", "https"],
    [":authority", host],
    [":path", `/w${dice.below(1000)}`],
  ];
  if (dice.once(3)) list.push(["user-agent", "fuzz"]);
  if (dice.once(4)) list.push(["accept", "*/*"], ["cookie", "a=b"], ["cookie", "c=d"]);
  if (dice.once(8)) list.push(["te", "trailers"]);
  if (dice.once(8)) list.push(["x-odd", `v${dice.below(9)}`]);
  if (hasBody && dice.once(2)) list.push(["content-length", `${body.length}`]);
  const extra = dice.once(8) ? 0x8 : 0;
  const priority = dice.once(8) ? 0x20 : 0;
  const flags = 4 | extra | priority;
  const pieces = dice.once(8) ? 1 + dice.below(4) : 1;
  const head = (ends: boolean): Item => ({
    ...{ kind: "headers", streamId, pieces, fields: list },
    flags: ends ? flags | 1 : flags,
  });
  if (!hasBody) return [head(true)];
  const items = [head(false)];
  const withTrailers = dice.once(6);
  let at = 0;
  while (at < body.length) {
    const length = Math.min(16_384, body.length - at, 1 + dice.below(dice.once(2) ? 60 : 9000));
    const isLast = at + length === body.length && !withTrailers && dice.once(2);
    items.push(data(dice, streamId, body.slice(at, at + length), isLast));
    at += length;
    if (isLast) return items;
  }
  if (withTrailers) {
    items.push({ kind: "headers", streamId, flags: 5, pieces: 1, fields: [["x-sum", "1"]] });
  } else items.push(frameItem(0, streamId, 1));
  return items;
}

function data(dice: Dice, streamId: number, text: string, ends: boolean): Item {
  const flags = ends ? 1 : 0;
  if (text.length > 16_000 || !dice.once(6)) return frameItem(0, streamId, flags, text);
  const padding = dice.below(200);
  return frameItem(
    0,
    streamId,
    flags | 8,
    String.fromCharCode(padding) + text + "\0".repeat(padding),
  );
}

/** Mostly such that are allowed. */
const settingsOf = (name: number): readonly number[] =>
  name === 5 ? [16_384, 16_384, 0xff_ffff, 0, 0x100_0000] : name === 4 ? streamWindows : windows;

function settingsItem(dice: Dice): Item {
  const pairs = Array.from({ length: dice.below(4) }, () => {
    const pair = Buffer.alloc(6);
    const name = dice.pick([1, 2, 3, 4, 4, 5, 6, 8, 9]);
    pair.writeUInt16BE(name, 0);
    const value = name === 2 || name === 8 ? dice.below(2) : dice.pick(settingsOf(name));
    pair.writeUInt32BE(value, 2);
    return pair;
  });
  return frameItem(4, 0, 0, Buffer.concat(pairs));
}

/** A frame of any kind, for some stream that may exist. */
function oddItem(dice: Dice, streamId: number): Item {
  const id = dice.once(20) ? dice.pick([0, 1, 2, 3, streamId + 2, 0x7fff_ffff]) : streamId;
  switch (dice.below(20)) {
    case 0:
    case 1:
    case 2:
      return frameItem(3, id, 0, number32(dice.pick(small)));
    case 3:
    case 4:
    case 5:
      return frameItem(8, dice.once(3) ? 0 : id, 0, number32(dice.pick(windows)));
    case 6:
    case 7:
      return settingsItem(dice);
    case 8:
    case 9:
      return frameItem(6, 0, dice.below(2), dice.once(3) ? "draining" : "pingping");
    case 10:
      return frameItem(
        2,
        id,
        0,
        Buffer.concat([number32(dice.pick([0, id, 3])), Buffer.from([9])]),
      );
    case 11:
    case 12:
    case 13:
    case 14:
      return frameItem(0, id, dice.below(2), "x".repeat(dice.pick([0, 0, 1, 5, 300])));
    case 15:
      return frameItem(7, 0, 0, Buffer.concat([number32(0), number32(dice.pick(small))]));
    case 16:
      return frameItem(9, id, dice.pick([0, 4]), dice.once(2) ? "" : "\x82");
    case 17:
      return frameItem(dice.pick([5, 10, 12, 16, 255]), id, dice.below(256), "payload");
    default:
      return { kind: "headers", streamId: id, flags: 5, pieces: 1, fields: [dice.pick(fields)] };
  }
}

const putAt = <Value>(list: readonly Value[], at: number, drop: number, ...put: Value[]): Value[] =>
  list.toSpliced(at, drop, ...put);

function changeFields(list: readonly Field[], dice: Dice): readonly Field[] {
  const at = dice.below(list.length);
  const field = list[at];
  if (field === undefined || dice.once(3))
    return putAt(list, dice.below(list.length + 1), 0, dice.pick(fields));
  const [name, value] = field;
  const values = pseudoValues[name];
  switch (dice.below(6)) {
    case 0:
      return putAt(list, at, 1);
    case 1:
      return putAt(list, at, 0, field);
    case 2:
      return putAt(putAt(list, at, 1), dice.below(list.length), 0, field);
    case 3:
      return putAt(list, at, 1, [name, value.slice(0, 50).repeat(dice.pick([0, 2, 40, 2000]))]);
    case 4:
      return dice.once(30)
        ? Array.from({ length: 30 }, () => list).flat()
        : putAt(list, at, 1, [name.toUpperCase(), value]);
    default:
      if (values !== undefined) return putAt(list, at, 1, [name, dice.pick(values)]);
      return putAt(list, at, 1, [name, value + dice.pick(["\r\n", "\n", "\0", " ", "\x7f", "x"])]);
  }
}

export function changeBytes(bytes: Buffer, dice: Dice): Buffer {
  const at = dice.below(bytes.length + 1);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  const byte = Buffer.from([dice.once(2) ? dice.pick(small) : dice.below(256)]);
  switch (dice.below(5)) {
    case 0:
      return Buffer.concat([before, byte, after]);
    case 1:
      return Buffer.concat([before, after.subarray(1)]);
    case 2:
      return Buffer.concat([before, byte, after.subarray(1)]);
    case 3: {
      const flipped = ((after[0] ?? 0) ^ (1 << dice.below(8))) & 0xff;
      return Buffer.concat([before, Buffer.from([flipped]), after.subarray(1)]);
    }
    default:
      return dice.once(2) ? Buffer.from(before) : Buffer.concat([bytes, after]);
  }
}

/** Mostly a header: what is wrong with other frames ends most connections at once. */
function pickItem(script: Script, dice: Dice): number {
  const at = dice.below(script.length);
  return script[at]?.kind === "headers" || dice.once(8) ? at : dice.below(script.length);
}

function changeItem(item: Item, dice: Dice): Item {
  switch (item.kind) {
    case "raw":
      return raw(changeBytes(item.bytes, dice));
    case "headers":
      if (!dice.once(8)) return { ...item, fields: changeFields(item.fields, dice) };
      if (dice.once(3)) return { ...item, pieces: dice.pick([1, 2, 3, 8, 40]) };
      break;
    default:
      if (dice.once(8)) return { ...item, type: dice.pick(small) };
      if (item.type === 0 && dice.once(2)) return { ...item, flags: item.flags ^ 1 };
      if (dice.once(2)) return { ...item, payload: changeBytes(item.payload, dice) };
  }
  if (dice.once(2)) return { ...item, flags: item.flags ^ dice.pick([1, 1, 4, 8, 0x20, 0x40]) };
  const ids = [0, 1, 2, 3, 5, 7, item.streamId + 2, item.streamId + 100, 0x7fff_ffff];
  return dice.once(3) ? { ...item, streamId: dice.pick(ids) } : item;
}

function changeOrder(script: Script, dice: Dice, corpus: readonly Http2Seed[]): Script {
  // Without its first two items nothing is understood.
  const first = dice.once(20) ? 0 : Math.min(2, script.length);
  const at = first + dice.below(script.length + 1 - first);
  const item = script[at];
  const streamId = item === undefined || item.kind === "raw" ? 1 : item.streamId;
  switch (dice.below(7)) {
    case 0:
      return putAt(script, at, 1);
    case 1:
      return item === undefined ? script : putAt(script, at, 0, item);
    case 2:
      return item === undefined
        ? script
        : putAt(putAt(script, at, 1), dice.below(script.length), 0, item);
    case 3: {
      const other = dice.pick(corpus).script;
      return [...script.slice(0, at), ...other.slice(dice.below(other.length))];
    }
    case 4:
      // A flood of the same.
      if (!dice.once(20)) return putAt(script, at, 0, oddItem(dice, streamId));
      return putAt(script, at, 0, ...Array.from({ length: 260 }, () => oddItem(dice, streamId)));
    default:
      return putAt(script, at, 0, oddItem(dice, streamId));
  }
}

/** Items of several streams, as clients mix them: each stream's own keep their order. */
function interleaved(lists: Item[][], dice: Dice): Item[] {
  const mixed: Item[] = [];
  // Streams are opened in order of their ids.
  let opened = 0;
  while (lists.some((list) => list.length > 0)) {
    const open = lists.slice(0, opened).filter((list) => list.length > 0);
    if (open.length === 0 || (opened < lists.length && dice.once(2))) {
      mixed.push(...(lists[opened]?.splice(0, 1) ?? []));
      opened += 1;
    } else mixed.push(...dice.pick(open).splice(0, 1));
  }
  return mixed;
}

/** A connection that is right in every way. */
function wellFormedScript(dice: Dice): Script {
  const count = 2 + dice.below(dice.once(30) ? 120 : 7);
  const lists = Array.from({ length: count }, (_, at) => requestItems(dice, 1 + 2 * at));
  const start = dice.once(3) ? settingsItem(dice) : frameItem(4, 0);
  return [raw(preface), start, ...interleaved(lists, dice), frameItem(4, 0, 1)];
}

/** Seeds at the limits are large, and the time they cost is better spent on small ones. */
function pickSeed(dice: Dice, corpus: readonly Http2Seed[]): Script {
  const { script } = dice.pick(corpus);
  return script.length > 60 && !dice.once(20) ? pickSeed(dice, corpus) : script;
}

/** One client's bytes. */
export function mutatedConnection(dice: Dice, corpus: readonly Http2Seed[]): Buffer {
  let script = dice.once(3) ? pickSeed(dice, corpus) : wellFormedScript(dice);
  const times = dice.pick([0, 1, 1, 2, 2, 3, 4, 6]);
  for (let round = 0; round < times; round += 1) {
    if (dice.once(3) || script.length === 0) script = changeOrder(script, dice, corpus);
    else {
      const at = pickItem(script, dice);
      script = putAt(script, at, 1, changeItem(script[at] as Item, dice));
    }
  }
  let bytes = bytesOfScript(script, dice);
  if (dice.once(8)) bytes = changeBytes(bytes, dice);
  return bytes;
}
