import type { IncomingHttpHeaders } from "node:http2";
import { err, ok, type Result } from "../../base/result.ts";
import type { FaultAnswer } from "./faults.ts";
import { fieldId, identifyField, identifyUnderscored } from "./fields.ts";
import { type Framing, hostOf } from "./request.ts";

/** An HTTP/2 request, translated: `head` is what an HTTP/1.1 instance gets. */
export interface Http2Request {
  readonly method: string;
  readonly host: string;
  readonly target: string;
  readonly framing: Framing;
  readonly contentLength: number;
  /** A WebSocket over HTTP/2 (RFC 8441): upstream it is the upgrade of HTTP/1.1. */
  readonly upgrade: "websocket" | null;
  readonly userAgent: string | null;
  readonly accept: string | null;
  readonly acceptsTrailers: boolean;
  readonly head: Buffer;
}

const method = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const badValue = /[^\t\x20-\x7e\x80-\xff]/;
const goodTarget = /^(?:\/[\x21\x22\x24-\x7e\x80-\xff]*|\*)$/;

const malformed = (cause: string) => err<FaultAnswer>({ status: 400, cause });

/** Per field id: not copied; the gateway writes its own, or HTTP/2 has no such field. */
const notCopied = new Set<number>([
  fieldId.host,
  fieldId.contentLength,
  fieldId.te,
  fieldId.forwarded,
  fieldId.expect,
]);

/** Fields that must not occur in HTTP/2 (RFC 9113 8.2.2). */
const connectionFields = new Set<number>([
  fieldId.connection,
  fieldId.transferEncoding,
  fieldId.upgrade,
  fieldId.keepAlive,
  fieldId.hop,
]);

/** Reads and checks a stream's header; nothing passes that would mean more in HTTP/1.1. */
export function readHttp2Request(
  headers: IncomingHttpHeaders,
  ended: boolean,
  added: { readonly address: string; readonly requestId: string; readonly webSocketKey: string },
): Result<Http2Request, FaultAnswer> {
  const upgrade = isWebSocket(headers) ? "websocket" : null;
  const verb = upgrade === null ? (headers[":method"] ?? "") : "GET";
  const target = headers[":path"] ?? "";
  if (verb === "CONNECT") return err({ status: 405, cause: "CONNECT is not served here." });
  if (!method.test(verb)) return malformed("The method is malformed.");
  if (!goodTarget.test(target)) return malformed("The path is malformed.");
  if (target === "*" && verb !== "OPTIONS") return malformed("Only OPTIONS may ask for *.");
  const authority = headers[":authority"] ?? headers.host ?? "";
  if (headers.host !== undefined && headers.host.toLowerCase() !== authority.toLowerCase()) {
    return malformed("The Host header field is not the request's authority.");
  }
  const host = hostOf(authority);
  if (host === null) return malformed("The authority is not a host name with an optional port.");
  const length = readLength(headers["content-length"], ended);
  if (length === null) return malformed("Content-Length is malformed.");
  const fields = copyFields(headers);
  if (!fields.ok) return fields;
  if (upgrade !== null && length > 0) return malformed("A WebSocket request has no body.");
  const framing = framingOf(ended || upgrade !== null, length);
  const lines =
    `${verb} ${target} HTTP/1.1\r\nHost: ${authority}\r\n${fields.value}` +
    (framing === "chunked" ? "Transfer-Encoding: chunked\r\n" : "") +
    (length >= 0 ? `Content-Length: ${length}\r\n` : "");
  const acceptsTrailers = headers.te === "trailers";
  const own =
    `X-Forwarded-For: ${added.address}\r\nX-Forwarded-Proto: https\r\n` +
    `X-Forwarded-Host: ${authority}\r\nX-Request-Id: ${added.requestId}\r\n` +
    (upgrade === null ? "" : upgradeLines(added.webSocketKey)) +
    (acceptsTrailers ? "TE: trailers\r\n" : "");
  return ok({
    method: verb,
    host,
    target,
    framing,
    contentLength: Math.max(0, length),
    upgrade,
    userAgent: headers["user-agent"] ?? null,
    accept: headers.accept ?? null,
    acceptsTrailers,
    head: Buffer.from(`${lines}${own}\r\n`, "latin1"),
  });
}

function isWebSocket(headers: IncomingHttpHeaders): boolean {
  return headers[":method"] === "CONNECT" && headers[":protocol"] === "websocket";
}

function upgradeLines(key: string): string {
  return `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ${key}\r\n`;
}

function framingOf(ended: boolean, length: number): Framing {
  if (ended || length === 0) return "none";
  return length > 0 ? "length" : "chunked";
}

/** Bytes; -1: not said; null: malformed, or a length where the stream has ended. */
function readLength(value: string | undefined, ended: boolean): number | null {
  if (value === undefined) return -1;
  if (!/^[0-9]{1,15}$/.test(value)) return null;
  return ended && Number(value) > 0 ? null : Number(value);
}

function copyFields(headers: IncomingHttpHeaders): Result<string, FaultAnswer> {
  let lines = "";
  for (const name of Object.keys(headers)) {
    if (name.startsWith(":")) continue;
    if (!fieldName.test(name)) return malformed("A header field's name is malformed.");
    const bytes = Buffer.from(name);
    const id = identifyField(bytes, 0, bytes.length);
    if (connectionFields.has(id)) return malformed(`HTTP/2 has no header field ${name}.`);
    if (name.includes("_")) {
      const seen = identifyUnderscored(bytes, 0, bytes.length);
      if (seen === fieldId.contentLength || seen === fieldId.transferEncoding) {
        return malformed("Content-Length or Transfer-Encoding is written with an underscore.");
      }
      if (seen === fieldId.forwarded) continue;
    }
    if (notCopied.has(id)) continue;
    const value = headers[name];
    for (const one of Array.isArray(value) ? value : [value ?? ""]) {
      if (badValue.test(one)) return malformed(`The header field ${name} has control bytes.`);
      lines += `${name}: ${one}\r\n`;
    }
  }
  return ok(lines);
}
