import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { buildRequestHead } from "./build.ts";
import { HeadReader, ParserPool } from "./head-reader.ts";
import { readRequest } from "./request.ts";
import { readResponse } from "./response.ts";

const pool = new ParserPool({ startLineBytesMax: 8192, fieldBytesMax: 61_440, fieldsMax: 100 });

/** Feeds `bytes` cut at `cuts`; returns what a caller would see, as text. */
function readCut(kind: "request" | "response", bytes: Buffer, cuts: readonly number[]): string {
  const reader = new HeadReader(pool);
  const edges = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
  for (let index = 1; index < edges.length; index += 1) {
    // A copy, so that offsets that stray into neighbouring bytes would show.
    const from = edges[index - 1] as number;
    const piece = Buffer.from(bytes.subarray(from, edges[index]));
    if (piece.length === 0 || !reader.read(kind, piece, 0, piece.length)) continue;
    const { parser, buffer } = reader;
    if (parser === null || buffer === null) throw new Error("no parser after a verdict");
    if (parser.fault !== null) {
      const { fault } = parser;
      reader.release();
      return `fault ${fault}`;
    }
    const fields = Array.from({ length: parser.fieldCount }, (_, field) => [
      parser.fieldName(field, buffer),
      parser.fieldValue(field, buffer),
      parser.ids[field],
    ]);
    const facts =
      kind === "request"
        ? readRequest(parser, buffer)
        : readResponse(parser, buffer, { method: "GET", upgrade: null });
    const rest = reader.length - parser.end + bytes.length - (edges[index] as number);
    reader.release();
    return JSON.stringify({ fields, facts, rest });
  }
  reader.release();
  return "more";
}

const read = (kind: "request" | "response", text: string) =>
  readCut(kind, Buffer.from(text, "latin1"), []);

function verdict(text: string): string {
  const seen = read("request", text);
  if (!seen.startsWith("{")) return seen;
  const { facts } = JSON.parse(seen);
  return facts.ok ? "ok" : facts.error;
}

const get = (lines: string) => `GET / HTTP/1.1\r\n${lines}\r\n`;

describe("requests that peers read in different ways are refused", () => {
  const table: readonly (readonly [string, string, string])[] = [
    ["plain", get("Host: a\r\n"), "ok"],
    ["one empty line first", `\r\n${get("Host: a\r\n")}`, "ok"],
    ["two empty lines first", `\r\n\r\n${get("Host: a\r\n")}`, "fault method"],
    ["two Hosts", get("Host: a\r\nHost: a\r\n"), "hostTwice"],
    ["no Host", get("X: a\r\n"), "hostMissing"],
    ["no Host in 1.0", "GET / HTTP/1.0\r\n\r\n", "hostMissing"],
    ["Host with user", get("Host: a@b\r\n"), "hostMalformed"],
    ["Host with comma", get("Host: a,b\r\n"), "hostMalformed"],
    ["Host with path", get("Host: a/b\r\n"), "hostMalformed"],
    ["empty Host", get("Host: \r\n"), "hostMalformed"],
    ["Host with port name", get("Host: a:http\r\n"), "hostMalformed"],
    ["IPv6 Host", get("Host: [::1]:80\r\n"), "ok"],
    ["absolute, same", "GET http://A:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n", "ok"],
    ["absolute, other", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", "hostMismatch"],
    ["absolute, user", "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n", "hostMismatch"],
    ["other scheme", "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "targetForm"],
    ["no slash", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "targetForm"],
    ["star", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "ok"],
    ["star GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "targetForm"],
    ["CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "connect"],
    ["fragment", "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n", "fault target"],
    ["two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "fault target"],
    ["space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "fault version"],
    ["tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "fault method"],
    ["NUL in target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", "fault target"],
    ["HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "fault version"],
    ["HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "fault version"],
    ["lower case http", "GET / http/1.1\r\nHost: a\r\n\r\n", "fault version"],
    ["no version", "GET /\r\n\r\n", "fault target"],
    ["TLS hello", "\x16\x03\x01\x02\x00\x01\x00", "fault target"],
    ["bare LF line", "GET / HTTP/1.1\nHost: a\n\n", "fault lineEnd"],
    ["bare LF in fields", get("Host: a\nX: b\r\n"), "fault lineEnd"],
    ["bare CR in value", get("Host: a\r\nX: b\rc\r\n"), "fault lineEnd"],
    ["NUL in value", get("Host: a\r\nX: b\0\r\n"), "fault fieldValue"],
    ["DEL in value", get("Host: a\r\nX: b\x7f\r\n"), "fault fieldValue"],
    ["obs-text in value", get("Host: a\r\nX: \xe9\r\n"), "ok"],
    ["space before colon", get("Host : a\r\n"), "fault fieldName"],
    ["no colon", get("Host: a\r\nfoo\r\n"), "fault fieldName"],
    ["empty name", get("Host: a\r\n: x\r\n"), "fault fieldName"],
    ["folded", get("Host: a\r\nX: b\r\n c\r\n"), "fault foldedField"],
    ["folded first", get(" Host: a\r\n"), "fault foldedField"],
    ["length twice", get("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n"), "lengthTwice"],
    ["length list", get("Host: a\r\nContent-Length: 1, 1\r\n"), "lengthMalformed"],
    ["length plus", get("Host: a\r\nContent-Length: +1\r\n"), "lengthMalformed"],
    ["length hex", get("Host: a\r\nContent-Length: 0x1\r\n"), "lengthMalformed"],
    ["length empty", get("Host: a\r\nContent-Length:\r\n"), "lengthMalformed"],
    ["length huge", get("Host: a\r\nContent-Length: 9999999999999999\r\n"), "lengthMalformed"],
    ["length underscore", get("Host: a\r\nContent_Length: 1\r\n"), "fault ambiguousField"],
    ["coding underscore", get("Host: a\r\nTransfer_Encoding: x\r\n"), "fault ambiguousField"],
    [
      "length and coding",
      get("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
      "lengthAndCoding",
    ],
    [
      "coding twice",
      get("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
      "codingTwice",
    ],
    ["coding other", get("Host: a\r\nTransfer-Encoding: xchunked\r\n"), "codingUnknown"],
    ["coding list", get("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"), "codingUnknown"],
    [
      "coding vertical tab",
      get("Host: a\r\nTransfer-Encoding: \x0bchunked\r\n"),
      "fault fieldValue",
    ],
    ["coding spaced", get("Host: a\r\nTransfer-Encoding:  Chunked \r\n"), "ok"],
    [
      "coding in 1.0",
      "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
      "codingInOldVersion",
    ],
    ["expectation", get("Host: a\r\nExpect: magic\r\n"), "expectation"],
    [
      "upgrade with body",
      get("Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n"),
      "upgradeWithBody",
    ],
    ["long line", `GET /${"a".repeat(8192)} HTTP/1.1\r\n`, "fault startLineTooLong"],
    ["large fields", get(`Host: a\r\nX: ${"a".repeat(61_440)}\r\n`), "fault fieldsTooLarge"],
    ["many fields", get(`Host: a\r\n${"X: y\r\n".repeat(100)}`), "fault tooManyFields"],
    ["hundred fields", get(`Host: a\r\n${"X: y\r\n".repeat(99)}`), "ok"],
  ];
  for (const [name, text, expected] of table) {
    test(name, () => {
      expect(verdict(text)).toBe(expected);
    });
  }
});

test("a start line of exactly the limit is read", () => {
  const path = `/${"a".repeat(8192 - "GET / HTTP/1.1".length)}`;
  expect(verdict(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`)).toBe("ok");
});

test("any cut of the bytes gives the same verdict as the whole", () => {
  const pieces = fc.constantFrom(
    ..."\r\n|\r|\n| |\t|:|Host: a\r\n|Content-Length: 3\r\n|Transfer-Encoding: chunked\r\n".split(
      "|",
    ),
    ..."X: y\r\n|GET / HTTP/1.1\r\n|\0|é|HTTP/1.1 200 OK\r\n|\r\n\r\n|Connection: a, close\r\n".split(
      "|",
    ),
  );
  const body = fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join(""));
  const start = fc.constantFrom("GET / HTTP/1.1\r\n", "POST /é?q HTTP/1.0\r\n", "", "\r\n");
  fc.assert(
    fc.property(
      fc.tuple(start, body, fc.constantFrom("\r\n", "")),
      fc.array(fc.nat({ max: 120 }), { maxLength: 12 }),
      fc.constantFrom("request" as const, "response" as const),
      (parts, cuts, kind) => {
        const text =
          kind === "response"
            ? parts.join("").replace(/^GET.*\r\n/, "HTTP/1.1 200 A\r\n")
            : parts.join("");
        const bytes = Buffer.from(text, "latin1");
        const inside = cuts.filter((cut) => cut < bytes.length);
        expect(readCut(kind, bytes, inside)).toBe(readCut(kind, bytes, []));
      },
    ),
    { numRuns: 3000, seed: 3 },
  );
});

function rebuilt(text: string, added = "X-Request-Id: "): string {
  const buffer = Buffer.from(text, "latin1");
  const reader = new HeadReader(pool);
  reader.read("request", buffer, 0, buffer.length);
  const { parser } = reader;
  if (parser === null || parser.fault !== null) throw new Error(`fault ${parser?.fault}`);
  const facts = readRequest(parser, buffer);
  if (!facts.ok) throw new Error(facts.error);
  return buildRequestHead(parser, buffer, facts.value, added, "r1").toString("latin1");
}

describe("the head sent upstream", () => {
  test("is the client's bytes, without hop-by-hop and pretended fields", () => {
    const text =
      "GET /a%2F?b=c%20&&d HTTP/1.1\r\nhOST: a.test:80\r\nX-Odd:   \xe9  x \r\n" +
      "Connection: keep-alive, X-Gone, Host\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nProxy: evil\r\n" +
      "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Anything: 1\r\nForwarded: for=x\r\n" +
      "X-Request-ID: 1\r\nX-Real-Ip: 1\r\nTE: trailers, gzip\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n";
    expect(rebuilt(text, "X-Forwarded-For: 1.2.3.4\r\nX-Request-Id: ")).toBe(
      "GET /a%2F?b=c%20&&d HTTP/1.1\r\nhOST: a.test:80\r\nX-Odd:   \xe9  x \r\n" +
        "Cookie: a=b\r\nCookie: c=d\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: r1\r\n" +
        "TE: trailers\r\n\r\n",
    );
  });

  test("has the origin form and HTTP/1.1", () => {
    expect(rebuilt("GET http://A/x HTTP/1.1\r\nHost: a\r\n\r\n")).toBe(
      "GET /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n",
    );
    expect(rebuilt("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n")).toBe(
      "GET /?x HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n",
    );
    expect(rebuilt("GET /x HTTP/1.0\r\nHost: a\r\n\r\n")).toBe(
      "GET /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n",
    );
  });

  test("carries a WebSocket upgrade, and never h2c", () => {
    const ask = (protocol: string) =>
      `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;
    expect(rebuilt(ask("WebSocket"))).toContain("Connection: Upgrade\r\nUpgrade: websocket");
    expect(rebuilt(ask("h2c"))).toBe("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r1\r\n\r\n");
    expect(rebuilt(ask("websocket, h2c"))).not.toContain("Upgrade");
  });
});

describe("responses", () => {
  const verdictOf = (text: string) => {
    const seen = read("response", text);
    if (!seen.startsWith("{")) return seen;
    const { facts } = JSON.parse(seen);
    return facts.ok ? `${facts.value.status} ${facts.value.framing}` : facts.error;
  };
  const table: readonly (readonly [string, string])[] = [
    ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "200 length"],
    ["HTTP/1.1 200\r\n\r\n", "200 close"],
    ["HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "204 none"],
    ["HTTP/1.0 200 OK\r\n\r\n", "200 close"],
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 chunked"],
    ["HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "codingInOldVersion"],
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "codingUnknown"],
    ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "lengthTwice"],
    [
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      "lengthAndCoding",
    ],
    ["HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "switchUnasked"],
    ["HTTP/1.1 20 OK\r\n\r\n", "fault statusLine"],
    ["HTTP/1.1 2000 OK\r\n\r\n", "fault statusLine"],
    ["HTTP/1.1 600 OK\r\n\r\n", "fault statusLine"],
    ["HTTP/2 200 OK\r\n\r\n", "fault version"],
    ["HTTP/1.1 200 OK\nA: b\n\n", "fault lineEnd"],
    ["ICY 200 OK\r\n\r\n", "fault statusLine"],
  ];
  for (const [text, expected] of table) {
    test(JSON.stringify(text), () => {
      expect(verdictOf(text)).toBe(expected);
    });
  }

  test("that switch protocols leave no connection for further requests", () => {
    const text = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    const buffer = Buffer.from(text);
    const reader = new HeadReader(pool);
    reader.read("response", buffer, 0, buffer.length);
    const facts = readResponse(reader.parser as never, buffer, { method: "GET", upgrade: "x" });
    expect(facts.ok && facts.value.keepAlive).toBe(false);
  });
});
