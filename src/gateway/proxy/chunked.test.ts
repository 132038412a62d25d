import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ChunkedDecoder } from "./chunked.ts";
import { ParserPool } from "./head-reader.ts";

const pool = new ParserPool({ startLineBytesMax: 8192, fieldBytesMax: 61_440, fieldsMax: 100 });

interface Outcome {
  readonly step: string;
  readonly data: string;
  readonly used: number;
  readonly trailers: unknown;
}

function decode(text: string, cuts: readonly number[] = []): Outcome {
  const bytes = Buffer.from(text, "latin1");
  const decoder = new ChunkedDecoder(pool);
  const edges = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
  let data = "";
  for (let index = 1; index < edges.length; index += 1) {
    const start = edges[index - 1] as number;
    const piece = Buffer.from(bytes.subarray(start, edges[index]));
    let position = 0;
    for (;;) {
      const step = decoder.next(piece, position, piece.length);
      position = decoder.position;
      if (step === "data") data += piece.toString("latin1", decoder.dataStart, decoder.dataEnd);
      if (step === "done" || step === "fault") {
        const used = step === "done" ? start + position : -1;
        return { step: decoder.fault ?? step, data, used, trailers: decoder.trailers };
      }
      if (step === "more") break;
    }
  }
  return { step: "more", data, used: -1, trailers: decoder.trailers };
}

/** The grammar of RFC 9112 7.1, written down with regular expressions over the whole. */
function naiveDecode(text: string): Outcome {
  let rest = text;
  let data = "";
  const size = /^([0-9a-fA-F]{1,13})(;[\t\x20-\x7e]{0,256})?\r\n/;
  for (;;) {
    const line = size.exec(rest);
    if (line === null) return { step: "no", data, used: -1, trailers: [] };
    rest = rest.slice(line[0].length);
    const length = Number.parseInt(line[1] as string, 16);
    if (length === 0) break;
    if (rest.slice(length, length + 2) !== "\r\n") {
      return { step: "no", data: data + rest.slice(0, length), used: -1, trailers: [] };
    }
    data += rest.slice(0, length);
    rest = rest.slice(length + 2);
  }
  const section = /^((?:[!#$%&'*+.^_`|~0-9a-zA-Z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n/.exec(rest);
  if (section === null) return { step: "no", data, used: -1, trailers: [] };
  const trailers = (section[1] as string)
    .split("\r\n")
    .slice(0, -1)
    .map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "")];
    });
  const used = text.length - rest.length + section[0].length;
  return { step: "done", data, used, trailers };
}

const piece = fc.oneof(
  fc.constantFrom("0\r\n\r\n", "\r\n", "5\r\nhello\r\n", 'a;x="y"\r\n0123456789\r\n', "0\r\n", ";"),
  fc.constantFrom("X-Sum: 1\r\n", "A:b \r\n", "\r", "\n", "00000000000001\r\nx\r\n", "g", " "),
  fc.integer({ min: 1, max: 40 }).map((n) => `${n.toString(16)}\r\n${"d".repeat(n)}\r\n`),
);
const body = fc
  .tuple(
    fc.array(piece, { maxLength: 8 }),
    fc.constantFrom("", "0\r\n\r\n", "0\r\nA: b\r\n\r\nrest"),
  )
  .map(([parts, end]) => parts.join("") + end);

test("agrees with the naive twin on what is a complete body", () => {
  let complete = 0;
  fc.assert(
    fc.property(body, (text) => {
      const expected = naiveDecode(text);
      const seen = decode(text);
      expect(seen.step === "done").toBe(expected.step === "done");
      if (expected.step !== "done") return;
      complete += 1;
      expect(seen).toEqual(expected);
    }),
    { numRuns: 5000, seed: 1 },
  );
  expect(complete).toBeGreaterThan(500);
});

test("any cut gives the same result as the whole", () => {
  fc.assert(
    fc.property(body, fc.array(fc.nat({ max: 150 }), { maxLength: 10 }), (text, cuts) => {
      const inside = cuts.filter((cut) => cut < text.length);
      expect(decode(text, inside)).toEqual(decode(text));
    }),
    { numRuns: 3000, seed: 2 },
  );
});

describe("bad framing", () => {
  const table: readonly (readonly [string, string])[] = [
    ["5\nhello\r\n0\r\n\r\n", "chunkSize"],
    ["5 \r\nhello\r\n0\r\n\r\n", "chunkSize"],
    ["-5\r\nhello\r\n0\r\n\r\n", "chunkSize"],
    ["0x5\r\nhello\r\n0\r\n\r\n", "chunkSize"],
    ["\r\nhello", "chunkSize"],
    ["FFFFFFFFFFFFFFFF\r\n", "chunkSize"],
    ["5\rX", "chunkSize"],
    ["5\r\nhelloX\r\n", "chunkEnd"],
    ["5\r\nhello\n0\r\n\r\n", "chunkEnd"],
    ["5;\nx\r\nhello\r\n", "chunkExtension"],
    [`5;${"x".repeat(257)}\r\nhello\r\n`, "chunkExtension"],
    [`${`1;${"x".repeat(200)}\r\na\r\n`.repeat(100)}`, "chunkExtension"],
    ["0\r\n\n", "trailers"],
    ["0\r\nX : y\r\n\r\n", "trailers"],
    ["0\r\nContent-Length: 5\r\n\r\n", "trailerForbidden"],
    ["0\r\nX-Forwarded-For: 5\r\n\r\n", "trailerForbidden"],
    ["0\r\nHost: x\r\n\r\n", "trailerForbidden"],
  ];
  for (const [text, expected] of table) {
    test(JSON.stringify(text.slice(0, 40)), () => {
      expect(decode(text).step).toBe(expected);
    });
  }
});
