import { err, ok, type Result } from "../../base/result.ts";
import type { RequestFault } from "./faults.ts";
import { fieldId } from "./fields.ts";
import type { HeadParser } from "./head.ts";

/** How the end of a body is known (RFC 9112 6.3). `close` only in responses. */
export type Framing = "none" | "length" | "chunked" | "close";

/** What the gateway understood of a request's head. */
export interface RequestFacts {
  readonly method: string;
  /** Origin form: path and query, or `*`. */
  readonly target: string;
  /** The Host field as sent. */
  readonly authority: string;
  /** Lowercase, without port and without a last dot. */
  readonly host: string;
  readonly minorVersion: number;
  readonly framing: Framing;
  /** Bytes, when framing is `length`. */
  readonly contentLength: number;
  /** The client is able and willing to send more requests on this connection. */
  readonly keepAlive: boolean;
  readonly expectsContinue: boolean;
  /** The protocol asked for by Upgrade, lowercase; h2c is never passed on. */
  readonly upgrade: string | null;
  readonly acceptsTrailers: boolean;
  /** Field names listed in Connection, lowercase, beyond `close`, `keep-alive`, `upgrade`. */
  readonly nominated: readonly string[];
}

/** Reads and checks a complete request head. */
export function readRequest(
  parser: HeadParser,
  buffer: Buffer,
): Result<RequestFacts, RequestFault> {
  const method = readMethod(parser, buffer);
  if (method === "CONNECT") return err("connect");
  const authority = readAuthority(parser, buffer);
  if (!authority.ok) return authority;
  const host = hostOf(authority.value);
  if (host === null) return err("hostMalformed");
  const target = readTarget(parser, buffer, method, authority.value);
  if (!target.ok) return target;
  const framing = readFraming(parser, buffer);
  if (!framing.ok) return framing;
  const connection = readConnection(parser, buffer);
  const upgrade = readUpgrade(parser, buffer, connection);
  const hasBody = framing.value > 0 || framing.value === chunkedLength;
  if (upgrade !== null && hasBody) return err("upgradeWithBody");
  const expects = parser.valueOf(fieldId.expect, buffer);
  if (expects !== null && expects.toLowerCase() !== "100-continue") return err("expectation");
  return ok({
    method,
    target: target.value,
    authority: authority.value,
    host,
    minorVersion: parser.minorVersion,
    framing: framing.value === chunkedLength ? "chunked" : framing.value > 0 ? "length" : "none",
    contentLength: Math.max(0, framing.value),
    keepAlive: parser.minorVersion === 1 ? !connection.close : connection.keepAlive,
    expectsContinue: expects !== null && hasBody && parser.minorVersion === 1,
    upgrade,
    acceptsTrailers: readsTrailers(parser, buffer),
    nominated: connection.nominated,
  });
}

function readMethod(parser: HeadParser, buffer: Buffer): string {
  const start = parser.startLineStart;
  // The commonest method needs no new string.
  if (
    parser.methodEnd - start === 3 &&
    buffer[start] === 0x47 &&
    buffer[start + 1] === 0x45 &&
    buffer[start + 2] === 0x54
  ) {
    return "GET";
  }
  return buffer.toString("latin1", start, parser.methodEnd);
}

function readAuthority(parser: HeadParser, buffer: Buffer): Result<string, RequestFault> {
  const count = parser.countOf[fieldId.host] as number;
  if (count > 1) return err("hostTwice");
  const value = parser.valueOf(fieldId.host, buffer);
  if (value === null) return err("hostMissing");
  return ok(value);
}

const plainAuthority = /^(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/i;

/** The host of an authority: lowercase, no port, no last dot; null when malformed. */
export function hostOf(authority: string): string | null {
  if (authority.length > 300 || !plainAuthority.test(authority)) return null;
  const closing = authority.lastIndexOf("]");
  const portAt = authority.indexOf(":", closing + 1);
  let host = portAt < 0 ? authority : authority.slice(0, portAt);
  if (host.endsWith(".")) host = host.slice(0, -1);
  return host === "" ? null : host.toLowerCase();
}

const absoluteForm = /^https?:\/\/([^/?]*)(.*)$/i;

/** The target in origin form; an absolute one must name the same authority as Host. */
function readTarget(
  parser: HeadParser,
  buffer: Buffer,
  method: string,
  authority: string,
): Result<string, RequestFault> {
  const target = buffer.toString("latin1", parser.targetStart, parser.targetEnd);
  if (target.charCodeAt(0) === 0x2f) return ok(target);
  if (target === "*" && method === "OPTIONS") return ok(target);
  const parts = absoluteForm.exec(target);
  if (parts === null) return err("targetForm");
  if ((parts[1] as string).toLowerCase() !== authority.toLowerCase()) return err("hostMismatch");
  const rest = parts[2] as string;
  if (rest === "") return ok(method === "OPTIONS" ? "*" : "/");
  return ok(rest.startsWith("/") ? rest : `/${rest}`);
}

/** Stands for "chunked" where a length is returned. */
const chunkedLength = -1;

function readFraming(parser: HeadParser, buffer: Buffer): Result<number, RequestFault> {
  const codings = parser.countOf[fieldId.transferEncoding] as number;
  const lengths = parser.countOf[fieldId.contentLength] as number;
  if (codings === 0 && lengths === 0) return ok(0);
  if (codings > 0 && lengths > 0) return err("lengthAndCoding");
  if (codings > 1) return err("codingTwice");
  if (lengths > 1) return err("lengthTwice");
  if (codings === 1) {
    if (parser.minorVersion === 0) return err("codingInOldVersion");
    const coding = parser.valueOf(fieldId.transferEncoding, buffer);
    return coding?.toLowerCase() === "chunked" ? ok(chunkedLength) : err("codingUnknown");
  }
  return readLength(parser, buffer);
}

/** At most fifteen digits: no sign, no list, no white space. */
export function readLength(parser: HeadParser, buffer: Buffer): Result<number, RequestFault> {
  const slot = (parser.firstOf[fieldId.contentLength] as number) * 4;
  const start = parser.spans[slot + 2] as number;
  const end = parser.spans[slot + 3] as number;
  if (end === start || end - start > 15) return err("lengthMalformed");
  let length = 0;
  for (let index = start; index < end; index += 1) {
    const digit = (buffer[index] as number) - 0x30;
    if (digit < 0 || digit > 9) return err("lengthMalformed");
    length = length * 10 + digit;
  }
  return ok(length);
}

export interface ConnectionOptions {
  close: boolean;
  keepAlive: boolean;
  upgrade: boolean;
  nominated: readonly string[];
}

const noOptions: ConnectionOptions = {
  close: false,
  keepAlive: false,
  upgrade: false,
  nominated: [],
};
const keepAliveOption: ConnectionOptions = { ...noOptions, keepAlive: true };
const closeOption: ConnectionOptions = { ...noOptions, close: true };

/** Never removed because a peer lists them in Connection: framing and routing rest on them. */
const neverNominated = new Set(["host", "content-length", "transfer-encoding", "te", ""]);

export function readConnection(parser: HeadParser, buffer: Buffer): ConnectionOptions {
  const count = parser.countOf[fieldId.connection] as number;
  if (count === 0) return noOptions;
  if (count === 1) {
    const value = parser.valueOf(fieldId.connection, buffer) as string;
    if (value === "keep-alive" || value === "Keep-Alive") return keepAliveOption;
    if (value === "close") return closeOption;
  }
  const options: ConnectionOptions = { ...noOptions };
  const nominated: string[] = [];
  for (let index = 0; index < parser.fieldCount; index += 1) {
    if (parser.ids[index] !== fieldId.connection) continue;
    for (const part of parser.fieldValue(index, buffer).toLowerCase().split(",")) {
      const option = part.trim();
      if (option === "close") options.close = true;
      else if (option === "keep-alive") options.keepAlive = true;
      else if (option === "upgrade") options.upgrade = true;
      else if (!neverNominated.has(option)) nominated.push(option);
    }
  }
  options.nominated = nominated;
  return options;
}

/** h2c is refused by silence: a tunnel would carry requests the gateway never saw. */
function readUpgrade(
  parser: HeadParser,
  buffer: Buffer,
  connection: ConnectionOptions,
): string | null {
  if (!connection.upgrade || parser.minorVersion === 0) return null;
  if (parser.countOf[fieldId.upgrade] !== 1) return null;
  const protocol = (parser.valueOf(fieldId.upgrade, buffer) as string).toLowerCase();
  return /^h2c?\b/.test(protocol) || protocol === "" || protocol.includes(",") ? null : protocol;
}

function readsTrailers(parser: HeadParser, buffer: Buffer): boolean {
  const value = parser.valueOf(fieldId.te, buffer);
  return value !== null && /(?:^|[\s,])trailers(?:$|[\s,;])/i.test(value);
}
