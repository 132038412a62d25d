// Mutations that know what they mutate: lines, fields, numbers, line ends, chunks; and some that
// do not. What they make is often still a request, and often nearly one.

import type { Seed } from "./corpus.ts";
import type { Dice } from "./random.ts";

const lines = [
  "Content-Length: 0",
  "Content-Length: 5",
  "Content-Length: 41",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: Chunked ",
  "Transfer-Encoding: identity",
  "Connection: close",
  "Connection: keep-alive",
  "Connection: x-gone, Content-Length",
  "Connection: upgrade",
  "Upgrade: websocket",
  "Upgrade: h2c",
  "Expect: 100-continue",
  "TE: trailers",
  "Host: {host}",
  "Host: evil.test",
  "X-Request-Id: 1",
  "X-Forwarded-For: 6.6.6.6",
  "X_Forwarded_For: 6.6.6.6",
  "Content_Length: 7",
  "Accept: application/json",
  "Cookie: a=b",
  "X-Gone: 1",
  " folded",
  "\tfolded",
  "no colon",
  ": no name",
  "GET /smuggled HTTP/1.1",
];
const oddBytes = "\0\r\n \t\x0b\x0c\x08\x1b\x7f\x80\x85\xa0\xff:;,=\"'()/\\@#?%*+-_09aAxX";
const lineEnds = [
  "\n",
  "\r",
  "\r\r\n",
  "\n\r",
  "\0\r\n",
  " \r\n",
  "\t\r\n",
  "",
  "\r\n\r\n",
  "\r\n ",
];
const numbers = [
  ...["0", "1", "00", "-1", "+5", "0x5", "5 ", "5,5", "5.0", "5e0", "05", "000000000000005"],
  ...["9007199254740993", "18446744073709551616", "4294967296", "fffffffffffff", "A", "a;b=c"],
];
const methods = [
  "GET",
  "POST",
  "HEAD",
  "PUT",
  "DELETE",
  "OPTIONS",
  "PATCH",
  "TRACE",
  "get",
  "CONNECT",
];
const targets = [
  ...["/", "/a", "/a?b=c&d", "//", "*", "http://{host}/a", "http://{host}", "http://evil.test/"],
  ...["/%00", "/%0d%0a", "/../..", "/a b", "/\xe9", "a", "", "/#", "/a;b"],
];
const versions = [
  "HTTP/1.1",
  "HTTP/1.0",
  "HTTP/1.1",
  "HTTP/1.2",
  "HTTP/2.0",
  "HTTP/1.1 ",
  "http/1.1",
];

/** Offsets of all CR LF. */
function lineBreaks(text: string): number[] {
  const found: number[] = [];
  for (let at = text.indexOf("\r\n"); at >= 0; at = text.indexOf("\r\n", at + 2)) found.push(at);
  return found;
}

const spliced = (text: string, from: number, to: number, put: string) =>
  text.slice(0, from) + put + text.slice(to);

type Mutation = (text: string, dice: Dice, corpus: readonly Seed[]) => string;

const insertLine: Mutation = (text, dice) => {
  const breaks = lineBreaks(text);
  if (breaks.length === 0) return text;
  const at = dice.pick(breaks) + 2;
  return spliced(text, at, at, `${dice.pick(lines)}\r\n`);
};

/** Right behind a start line, where it is surely a field. */
const insertField: Mutation = (text, dice) => {
  const at = text.indexOf("\r\n");
  return at < 0 ? text : spliced(text, at + 2, at + 2, `${dice.pick(lines)}\r\n`);
};

const changeLine: Mutation = (text, dice) => {
  const breaks = lineBreaks(text);
  if (breaks.length < 2) return text;
  const index = dice.below(breaks.length - 1);
  const [start, end] = [(breaks[index] as number) + 2, (breaks[index + 1] as number) + 2];
  const line = text.slice(start, end);
  const colon = line.indexOf(":");
  switch (dice.below(6)) {
    case 0:
      return spliced(text, start, end, "");
    case 1:
      return spliced(text, end, end, line);
    case 2:
      return spliced(text, start, end, dice.once(2) ? line.toUpperCase() : line.toLowerCase());
    case 3:
      return spliced(
        text,
        start + colon,
        start + colon + 1,
        dice.pick([" :", "\t:", ": \t ", "::"]),
      );
    case 4:
      return spliced(text, end - 2, end, dice.pick(lineEnds));
    default:
      return colon < 0 ? text : spliced(text, start + colon + 1, end - 2, ` ${dice.pick(numbers)}`);
  }
};

const changeLineEnd: Mutation = (text, dice) => {
  const breaks = lineBreaks(text);
  if (breaks.length === 0) return text;
  const at = dice.pick(breaks);
  return spliced(text, at, at + 2, dice.pick(lineEnds));
};

const changeNumber: Mutation = (text, dice) => {
  const found = [...text.matchAll(/(?<![0-9a-f])[0-9a-f]{1,16}(?=[\r;])/g)];
  if (found.length === 0) return text;
  const one = dice.pick(found);
  const plain = Number.parseInt(one[0], 10);
  const put = dice.once(2) ? dice.pick(numbers) : String(Math.max(0, plain + dice.below(5) - 2));
  return spliced(text, one.index, one.index + one[0].length, put);
};

const changeStart: Mutation = (text, dice) => {
  const starts = [...text.matchAll(/(?<![A-Za-z])[A-Za-z]{1,9} [^ \r\n]{0,99} HTTP\/[0-9.]+/g)];
  if (starts.length === 0) return text;
  const one = dice.pick(starts);
  const [method = "", target = "", version = ""] = one[0].split(" ");
  const parts = [method, target, version];
  const index = dice.below(3);
  parts[index] = dice.pick([methods, targets, versions][index] as readonly string[]);
  return spliced(text, one.index, one.index + one[0].length, parts.join(" "));
};

const changeByte: Mutation = (text, dice) => {
  const at = dice.below(text.length);
  const byte = dice.once(3) ? String.fromCharCode(dice.below(256)) : dice.pick([...oddBytes]);
  switch (dice.below(4)) {
    case 0:
      return spliced(text, at, at, byte);
    case 1:
      return spliced(text, at, at + 1, "");
    case 2: {
      const flipped = text.charCodeAt(at) ^ (1 << dice.below(8));
      return spliced(text, at, at + 1, String.fromCharCode(flipped & 0xff));
    }
    default:
      return spliced(text, at, at + 1, byte);
  }
};

const changeRange: Mutation = (text, dice) => {
  const from = dice.below(text.length);
  const to = Math.min(text.length, from + 1 + dice.below(40));
  switch (dice.below(4)) {
    case 0:
      return text.slice(0, from);
    case 1:
      return spliced(text, from, to, "");
    case 2:
      return spliced(text, to, to, text.slice(from, to));
    default:
      return spliced(text, to, to, text.slice(from, to).repeat(dice.once(50) ? 300 : 3));
  }
};

const splice: Mutation = (text, dice, corpus) => {
  const other = pickSeed(dice, corpus);
  const breaks = lineBreaks(text);
  const at = breaks.length > 0 && dice.once(2) ? dice.pick(breaks) + 2 : dice.below(text.length);
  return text.slice(0, at) + other.slice(dice.below(other.length));
};

/** Still right: an extension, another cut of the same data, a trailer. */
const recut: Mutation = (text, dice) => {
  const chunk = /\r\n([0-9a-f]{1,4})(;[^\r\n]*)?\r\n/.exec(text);
  if (chunk === null) return text;
  const length = Number.parseInt(chunk[1] as string, 16);
  const start = chunk.index + chunk[0].length;
  if (length < 2 || text.length < start + length) {
    return text.replace(/\r\n0\r\n\r\n/, `\r\n0\r\n${dice.pick(lines)}\r\n\r\n`);
  }
  const cut = 1 + dice.below(length - 1);
  const extension = dice.once(3) ? `;${dice.pick(["a", "a=b", 'q="x"', "\x7f", ""])}` : "";
  const first = `${cut.toString(16)}${extension}\r\n${text.slice(start, start + cut)}\r\n`;
  const rest = `${(length - cut).toString(16)}\r\n${text.slice(start + cut)}`;
  return text.slice(0, chunk.index + 2) + first + rest;
};

const mutations: readonly Mutation[] = [
  ...[insertLine, insertField, insertField, changeLine, changeLine, changeLineEnd, changeNumber],
  ...[changeStart, changeStart, changeByte, changeByte, changeRange, splice, recut, recut],
];

/** A request that is right in every way, of a random shape. */
function wellFormed(dice: Dice): string {
  const method = dice.pick(["GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"]);
  const fields = Array.from({ length: dice.below(4) }, () => `${dice.pick(harmless)}\r\n`).join("");
  const head = `${method} /w${dice.below(1000)} HTTP/1.1\r\nHost: {host}\r\n${fields}`;
  const smuggled = "GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n";
  const body = dice.once(600) ? smuggled.repeat(1000) : smuggled.slice(0, dice.below(60));
  switch (dice.below(3)) {
    case 0:
      return `${head}\r\n`;
    case 1:
      return `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
    default: {
      const chunk = body === "" ? "" : `${body.length.toString(16)}\r\n${body}\r\n`;
      return `${head}Transfer-Encoding: chunked\r\n\r\n${chunk}0\r\n\r\n`;
    }
  }
}

const harmless = [
  ...["User-Agent: fuzz", "Accept: */*", "Cookie: a=b", "X-Odd:\t  x \t", "Connection: keep-alive"],
  ...["X-Empty:", "Connection: X-Gone", "X-Gone: 1", "TE: trailers", "X_Under: score"],
];

/** Seeds at the limits are large, and the time they cost is better spent on small ones. */
function pickSeed(dice: Dice, corpus: readonly Seed[]): string {
  const seed = dice.pick(corpus);
  return seed.text.length > 4000 && !dice.once(20) ? pickSeed(dice, corpus) : seed.text;
}

/** One client's bytes: a seed or a well-formed request, mutated, often with another behind it. */
export function mutatedStream(dice: Dice, corpus: readonly Seed[]): string {
  let text = dice.once(3) ? wellFormed(dice) : pickSeed(dice, corpus);
  const times = dice.pick([0, 1, 1, 1, 2, 2, 3, 5]);
  for (let round = 0; round < times && text.length > 0; round += 1) {
    text = dice.pick(mutations)(text, dice, corpus);
  }
  if (dice.once(3)) text = wellFormed(dice) + text;
  if (dice.once(2)) text += wellFormed(dice);
  return text;
}

/** An answer of the corpus, mutated. */
export function mutatedAnswer(dice: Dice, corpus: readonly Seed[]): string {
  let text = pickSeed(dice, corpus);
  const times = dice.pick([0, 1, 1, 2, 3]);
  for (let round = 0; round < times && text.length > 0; round += 1) {
    text = dice.pick(mutations)(text, dice, corpus);
  }
  return text;
}

const readBytesMax = 4096;

/** Cuts as a network might: nowhere, anywhere, or between any two bytes. */
export function cutAnywhere(bytes: Buffer, dice: Dice): Buffer[] {
  if (bytes.length === 0) return [];
  if (bytes.length < 400 && dice.once(20)) {
    return Array.from(bytes, (_, at) => Buffer.from(bytes.subarray(at, at + 1)));
  }
  const cuts = dice.pick([0, 0, 1, 1, 2, 4]);
  const edges = Array.from({ length: cuts }, () => dice.below(bytes.length)).sort((a, b) => a - b);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const edge of [...edges, bytes.length]) {
    // What is large takes many reads.
    for (; edge - from > readBytesMax; from += readBytesMax) {
      pieces.push(Buffer.from(bytes.subarray(from, from + readBytesMax)));
    }
    if (edge > from) pieces.push(Buffer.from(bytes.subarray(from, edge)));
    from = edge;
  }
  return pieces;
}
