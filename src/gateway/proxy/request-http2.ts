import { err, ok, type Result } from "../../base/result.ts";
import type { HeaderField } from "../http2/static-table.ts";
import { type FaultAnswer, faultAnswers } from "./faults.ts";
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
  readonly expectsContinue: boolean;
  readonly head: Buffer;
}

/** What the gateway adds to a request. */
export interface AddedToRequest {
  readonly address: string;
  readonly requestId: string;
  /** Made when it is needed. */
  webSocketKey(): string;
}

/** Null: malformed in terms of HTTP/2, which is answered by a reset (RFC 9113 8.1.1). */
export type Http2Fault = FaultAnswer | null;

const method = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** No control bytes, no white space at either end (RFC 9113 8.2.1). */
const fieldValue = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const goodTarget = /^(?:\/[\x21\x22\x24-\x7e\x80-\xff]*|\*)$/;

/** What a request line has besides method and target. */
const versionBytes = "  HTTP/1.1".length;

const refused = (cause: string) => err<Http2Fault>({ status: 400, cause });
const malformed = err<Http2Fault>(null);

/** Per field id: not copied; the gateway writes its own, or HTTP/2 has no such field. */
const notCopied = new Set<number>([
  fieldId.host,
  fieldId.contentLength,
  fieldId.te,
  fieldId.forwarded,
  fieldId.expect,
  // No trailers of a request are passed on.
  fieldId.trailer,
]);

/** Fields that must not occur in HTTP/2 (RFC 9113 8.2.2). */
const connectionFields = new Set<number>([
  fieldId.connection,
  fieldId.transferEncoding,
  fieldId.upgrade,
  fieldId.keepAlive,
  fieldId.hop,
]);

/** What was found out about a field; it stays with those of a table. */
class FieldNote {
  readonly id: number;
  readonly fault: Http2Fault | undefined;
  /** As it goes upstream; empty: it does not. */
  readonly line: string;

  constructor(id: number, fault: Http2Fault | undefined, line: string) {
    this.id = id;
    this.fault = fault;
    this.line = line;
  }
}

function noteOf(field: HeaderField): FieldNote {
  if (field.note instanceof FieldNote) return field.note;
  const note = examine(field.name, field.value);
  field.note = note;
  return note;
}

function examine(name: string, value: string): FieldNote {
  const fault = (cause: string) => new FieldNote(fieldId.other, { status: 400, cause }, "");
  if (!fieldName.test(name) || !fieldValue.test(value)) {
    return new FieldNote(fieldId.other, null, "");
  }
  const bytes = Buffer.from(name);
  const id = identifyField(bytes, 0, bytes.length);
  const isForbidden = connectionFields.has(id) || (id === fieldId.te && value !== "trailers");
  if (isForbidden) return new FieldNote(id, null, "");
  if (name.includes("_")) {
    const seen = identifyUnderscored(bytes, 0, bytes.length);
    if (seen === fieldId.contentLength || seen === fieldId.transferEncoding) {
      return fault("Content-Length or Transfer-Encoding is written with an underscore.");
    }
    if (seen === fieldId.forwarded) return new FieldNote(seen, undefined, "");
  }
  if (id === fieldId.expect && value.toLowerCase() !== "100-continue") {
    const cause = "Only 100-continue is understood as an expectation.";
    return new FieldNote(id, { status: 417, cause }, "");
  }
  const isCopied = !notCopied.has(id) && name !== "cookie";
  return new FieldNote(id, undefined, isCopied ? `${name}: ${value}\r\n` : "");
}

/** The pseudo-header fields, each at most once and before all others (RFC 9113 8.3). */
interface Pseudo {
  method: string | null;
  scheme: string | null;
  authority: string | null;
  path: string | null;
  protocol: string | null;
}

/** The fields that mean something to the gateway, gathered in one walk. */
interface Gathered {
  readonly pseudo: Pseudo;
  lines: string;
  host: string | null;
  length: string | null;
  cookie: string;
  userAgent: string | null;
  accept: string | null;
  acceptsTrailers: boolean;
  expectsContinue: boolean;
}

function putPseudo(pseudo: Pseudo, { name, value }: HeaderField): boolean {
  switch (name) {
    case ":method":
    case ":scheme":
    case ":authority":
    case ":path":
    case ":protocol": {
      const key = name.slice(1) as keyof Pseudo;
      if (pseudo[key] !== null) return false;
      pseudo[key] = value;
      return true;
    }
    default:
      return false;
  }
}

function gather(fields: readonly HeaderField[]): Result<Gathered, Http2Fault> {
  const pseudo = { method: null, scheme: null, authority: null, path: null, protocol: null };
  const all: Gathered = {
    ...{ pseudo, lines: "", host: null, length: null, cookie: "" },
    ...{ userAgent: null, accept: null, acceptsTrailers: false, expectsContinue: false },
  };
  let pseudoOver = false;
  for (const field of fields) {
    if (field.name.charCodeAt(0) === 0x3a) {
      if (pseudoOver || !putPseudo(pseudo, field)) return malformed;
      continue;
    }
    pseudoOver = true;
    const note = noteOf(field);
    if (note.fault !== undefined) return err(note.fault);
    if (note.line !== "") all.lines += note.line;
    if (!putKnown(all, note.id, field)) return malformed;
  }
  // Crumbs of a cookie are put together again (RFC 9113 8.2.3).
  if (all.cookie !== "") all.lines += `cookie: ${all.cookie}\r\n`;
  return ok(all);
}

/** False: what may come once came twice. */
function putKnown(all: Gathered, id: number, { name, value }: HeaderField): boolean {
  switch (id) {
    case fieldId.host:
      if (all.host !== null) return false;
      all.host = value;
      return true;
    case fieldId.contentLength:
      if (all.length !== null && all.length !== value) return false;
      all.length = value;
      return true;
    case fieldId.userAgent:
      all.userAgent ??= value;
      return true;
    case fieldId.accept:
      all.accept ??= value;
      return true;
    case fieldId.te:
      all.acceptsTrailers = true;
      return true;
    case fieldId.expect:
      all.expectsContinue = true;
      return true;
    default:
      if (name === "cookie") all.cookie += all.cookie === "" ? value : `; ${value}`;
      return true;
  }
}

/**
 * Reads and checks a stream's header; nothing passes that would mean more in HTTP/1.1.
 *
 * @param startLineBytesMax of the line that goes upstream, which HTTP/2 has no limit for.
 */
export function readHttp2Request(
  fields: readonly HeaderField[],
  ended: boolean,
  added: AddedToRequest,
  startLineBytesMax: number,
): Result<Http2Request, Http2Fault> {
  const gathered = gather(fields);
  if (!gathered.ok) return gathered;
  const all = gathered.value;
  const { pseudo } = all;
  const isConnect = pseudo.method === "CONNECT";
  if (isConnect && pseudo.protocol === null) {
    return err({ status: 405, cause: "CONNECT is not served here." });
  }
  if (!isConnect && pseudo.protocol !== null) return malformed;
  if (isConnect && pseudo.protocol !== "websocket") {
    return err({ status: 501, cause: "Only websocket is understood as a protocol to connect by." });
  }
  const verb = isConnect ? "GET" : pseudo.method;
  const target = pseudo.path;
  if (verb === null || target === null || target === "" || pseudo.scheme === null) return malformed;
  if (!method.test(verb)) return refused("The method is malformed.");
  if (!goodTarget.test(target)) return refused("The path is malformed.");
  if (target === "*" && verb !== "OPTIONS") return refused("Only OPTIONS may ask for *.");
  if (verb.length + target.length + versionBytes > startLineBytesMax) {
    return err(faultAnswers.startLineTooLong);
  }
  const authority = pseudo.authority ?? all.host ?? "";
  if (all.host !== null && all.host.toLowerCase() !== authority.toLowerCase()) {
    return refused("The Host header field is not the request's authority.");
  }
  const host = hostOf(authority);
  if (host === null) return refused("The authority is not a host name with an optional port.");
  const length = readLength(all.length, ended);
  if (length === null) return malformed;
  if (isConnect && length > 0) return refused("A WebSocket request has no body.");
  const framing = framingOf(ended || isConnect, length);
  const upgrade = isConnect ? "websocket" : null;
  return ok({
    ...{ method: verb, host, target, framing, upgrade },
    contentLength: Math.max(0, length),
    userAgent: all.userAgent,
    accept: all.accept,
    acceptsTrailers: all.acceptsTrailers,
    expectsContinue: all.expectsContinue && framing !== "none",
    head: makeHead(verb, target, authority, all, framing, length, upgrade !== null, added),
  });
}

function makeHead(
  verb: string,
  target: string,
  authority: string,
  all: Gathered,
  framing: Framing,
  length: number,
  isUpgrade: boolean,
  added: AddedToRequest,
): Buffer {
  const framed =
    framing === "chunked"
      ? "Transfer-Encoding: chunked\r\n"
      : length >= 0 && !isUpgrade
        ? `Content-Length: ${length}\r\n`
        : "";
  return Buffer.from(
    `${verb} ${target} HTTP/1.1\r\nHost: ${authority}\r\n${all.lines}${framed}` +
      `X-Forwarded-For: ${added.address}\r\nX-Forwarded-Proto: https\r\n` +
      `X-Forwarded-Host: ${authority}\r\nX-Request-Id: ${added.requestId}\r\n` +
      (isUpgrade ? upgradeLines(added.webSocketKey()) : "") +
      (all.acceptsTrailers ? "TE: trailers\r\n\r\n" : "\r\n"),
    "latin1",
  );
}

function upgradeLines(key: string): string {
  return `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ${key}\r\n`;
}

function framingOf(ended: boolean, length: number): Framing {
  if (ended || length === 0) return "none";
  return length > 0 ? "length" : "chunked";
}

/** Bytes; -1: not said; null: malformed, or a length where the stream has ended. */
function readLength(value: string | null, ended: boolean): number | null {
  if (value === null) return -1;
  if (!/^[0-9]{1,15}$/.test(value)) return null;
  return ended && Number(value) > 0 ? null : Number(value);
}

/** Whether a request's trailers may be there at all; passed on they are not. */
export function acceptsRequestTrailers(fields: readonly HeaderField[]): boolean {
  return fields.every((field) => {
    const { id, fault, line } = noteOf(field);
    const isAllowed = id === fieldId.other || id === fieldId.userAgent || id === fieldId.accept;
    // Framing, routing and authorization belong in the header; so do pseudo-header fields.
    return fault === undefined && isAllowed && line !== "";
  });
}
