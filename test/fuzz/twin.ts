// The naive twin of the gateway's HTTP/1.1 parser: the same rules, written down once more over
// whole texts (one character is one byte), with regular expressions instead of a state machine.
// It shares no line with the gateway, is slow, and sees all bytes at once.

const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]*/y;
const value = /[\t\x20-\x7e\x80-\xff]*/y;
const requestLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21\x22\x24-\x7e\x80-\xff]+) (.*)$/s;
const statusLine = /^HTTP\/1\.([01]) ([1-5][0-9]{2})(?: .*)?$/s;
const startLineBytesMax = 8192;

/** Bounds of a section of fields. */
export interface Bounds {
  readonly fieldBytesMax: number;
  readonly fieldsMax: number;
}

const usual: Bounds = { fieldBytesMax: 61_440, fieldsMax: 100 };
/** As those must have them to whom the gateway sends some fields of its own. */
export const roomy: Bounds = { fieldBytesMax: 65_536, fieldsMax: 110 };

/** Name as sent, value without white space around it, name in lower case. */
export type Field = readonly [string, string, string];

/** `refused`: with this status; `more`: what is there is right, but not all. */
export type Stop =
  | { readonly kind: "refused"; readonly status: number }
  | { readonly kind: "more" };
type Section = { readonly kind: "fields"; readonly fields: readonly Field[]; readonly end: number };
export type Body = {
  readonly kind: "body";
  readonly body: string;
  readonly trailers: readonly Field[];
  readonly end: number;
};

const more: Stop = { kind: "more" };
const refused = (status: number): Stop => ({ kind: "refused", status });
const bad = refused(400);

function match(pattern: RegExp, text: string, from: number): number {
  pattern.lastIndex = from;
  return from + (pattern.exec(text)?.[0].length ?? 0);
}

function trimmed(text: string, from: number, to: number): string {
  let [start, end] = [from, to];
  while (start < end && (text[start] === " " || text[start] === "\t")) start += 1;
  while (end > start && (text[end - 1] === " " || text[end - 1] === "\t")) end -= 1;
  return text.slice(start, end);
}

/** Field lines and the empty line after them, from `start`. */
export function readSection(whole: string, start: number, bounds: Bounds): Section | Stop {
  const { fieldBytesMax, fieldsMax } = bounds;
  const text = whole.length > start + fieldBytesMax ? whole.slice(0, start + fieldBytesMax) : whole;
  const short = whole.length > text.length ? refused(431) : more;
  const fields: Field[] = [];
  for (let at = start; ; ) {
    const first = text[at];
    if (first === undefined) return short;
    if (first === "\r") {
      if (at + 1 === text.length) return short;
      return text[at + 1] === "\n" ? { kind: "fields", fields, end: at + 2 } : bad;
    }
    if (first === "\n" || first === " " || first === "\t") return bad;
    if (fields.length === fieldsMax) return refused(431);
    const nameEnd = match(token, text, at);
    if (nameEnd === text.length) return short;
    if (nameEnd === at || text[nameEnd] !== ":") return bad;
    const valueEnd = match(value, text, nameEnd + 1);
    if (valueEnd === text.length) return short;
    if (text[valueEnd] !== "\r") return bad;
    const name = text.slice(at, nameEnd);
    // `Content_Length` is the same field to a CGI-like server.
    if (/^(?:content_length|transfer_encoding)$/i.test(name)) return bad;
    if (valueEnd + 1 === text.length) return short;
    if (text[valueEnd + 1] !== "\n") return bad;
    fields.push([name, trimmed(text, nameEnd + 1, valueEnd), name.toLowerCase()]);
    at = valueEnd + 2;
  }
}

export const valuesOf = (fields: readonly Field[], name: string): string[] =>
  fields.filter(([, , key]) => key === name).map(([, field]) => field);

const notInTrailers = new RegExp(
  "^(?:host|content-length|transfer-encoding|connection|upgrade|expect|te|keep-alive|trailer|" +
    "proxy-connection|http2-settings|forwarded|x-request-id|x-real-ip|proxy|x-forwarded-.+|" +
    "authorization|cookie|set-cookie|content-type|content-encoding|content-range|" +
    "proxy-authorization)$",
);

/** Lower-case names that only the gateway may send, also as a CGI server would see them. */
export const pretended = (name: string): boolean =>
  /^(?:forwarded|x[-_]request[-_]id|x[-_]real[-_]ip|proxy|x[-_]forwarded[-_].+)$/.test(name);

const forbiddenTrailer = ([, , name]: Field): boolean =>
  name.includes("_") ? pretended(name) : notInTrailers.test(name);

export function readChunked(text: string, start: number): Body | Stop {
  let body = "";
  let extensions = 0;
  for (let at = start; ; ) {
    const size = /[0-9a-fA-F]*/y;
    const sizeEnd = match(size, text, at);
    if (sizeEnd - at > 13) return bad;
    if (sizeEnd === text.length) return more;
    if (sizeEnd === at) return bad;
    let lineEnd = sizeEnd;
    if (text[sizeEnd] === ";") {
      lineEnd = match(/[\t\x20-\x7e]*/y, text, sizeEnd + 1);
      const length = lineEnd - sizeEnd - 1;
      extensions += length;
      if (length > 256 || extensions > 16_384) return bad;
    }
    if (lineEnd === text.length) return more;
    if (text[lineEnd] !== "\r") return bad;
    if (lineEnd + 1 === text.length) return more;
    if (text[lineEnd + 1] !== "\n") return bad;
    const length = Number.parseInt(text.slice(at, sizeEnd), 16);
    const dataStart = lineEnd + 2;
    if (length === 0) {
      const section = readSection(text, dataStart, usual);
      if (section.kind === "more") return more;
      if (section.kind === "refused" || section.fields.some(forbiddenTrailer)) return bad;
      return { kind: "body", body, trailers: section.fields, end: section.end };
    }
    const dataEnd = dataStart + length;
    body += text.slice(dataStart, dataEnd);
    if (dataEnd >= text.length) return more;
    if (text[dataEnd] !== "\r") return bad;
    if (dataEnd + 1 === text.length) return more;
    if (text[dataEnd + 1] !== "\n") return bad;
    at = dataEnd + 2;
  }
}

function readLength(text: string, start: number, length: number): Body | Stop {
  const end = start + length;
  if (end > text.length) return more;
  return { kind: "body", body: text.slice(start, end), trailers: [], end };
}

export interface Request {
  readonly method: string;
  /** In origin form. */
  readonly target: string;
  readonly host: string;
  readonly minorVersion: number;
  readonly fields: readonly Field[];
  readonly framing: "none" | "length" | "chunked";
  readonly contentLength: number;
  readonly keepAlive: boolean;
  readonly upgrade: string | null;
  readonly expects: boolean;
  readonly nominated: readonly string[];
  /** Where the body begins. */
  readonly headEnd: number;
}

export type Head = { readonly kind: "head"; readonly request: Request } | Stop;

/** The start line at `from`; `readLine` says what is wrong with it, by a status. */
function readStartLine(
  text: string,
  from: number,
  readLine: (line: string) => number | null,
): { readonly kind: "line"; readonly line: string; readonly end: number } | Stop {
  const end = match(value, text, from);
  if (end === text.length) return end - from > startLineBytesMax ? refused(414) : more;
  if (end - from > startLineBytesMax) return refused(414);
  if (text[end] !== "\r") return end - from === startLineBytesMax ? refused(414) : bad;
  const line = text.slice(from, end);
  const fault = readLine(line);
  if (fault !== null) return refused(fault);
  if (end + 1 === text.length) return more;
  return text[end + 1] === "\n" ? { kind: "line", line, end: end + 2 } : bad;
}

function requestLineFault(line: string): number | null {
  const parts = requestLine.exec(line);
  if (parts === null) return 400;
  return /^HTTP\/1\.[01]$/.test(parts[3] as string) ? null : 505;
}

export function readRequestHead(text: string, from: number, bounds: Bounds = usual): Head {
  let start = from;
  if (text[start] === "\r") {
    if (start + 1 === text.length) return more;
    if (text[start + 1] !== "\n" || text[start + 2] === "\r") return bad;
    start += 2;
  }
  const line = readStartLine(text, start, requestLineFault);
  if (line.kind !== "line") return line;
  const section = readSection(text, line.end, bounds);
  if (section.kind !== "fields") return section;
  const [, method = "", sent = "", version = ""] = requestLine.exec(line.line) ?? [];
  return readFacts(method, sent, Number(version.at(-1)), section);
}

/** The host in an authority, as it is compared; null: it is none. */
export function hostNamed(authority: string): string | null {
  const named = /^([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/i.exec(authority);
  const host = (named?.[1] ?? "").toLowerCase().replace(/\.$/, "");
  return authority.length > 300 || host === "" ? null : host;
}

function readFacts(method: string, sent: string, minorVersion: number, section: Section): Head {
  const { fields } = section;
  if (method === "CONNECT") return refused(405);
  const hosts = valuesOf(fields, "host");
  const authority = hosts[0] ?? "";
  const host = hostNamed(authority);
  if (hosts.length !== 1 || host === null) return bad;
  const target = originForm(method, sent, authority);
  if (target === null) return bad;
  const framing = framingOf(fields, minorVersion);
  if (typeof framing !== "number") return framing;
  const options = valuesOf(fields, "connection").flatMap((list) =>
    list.split(",").map((option) => option.trim().toLowerCase()),
  );
  const upgrades = valuesOf(fields, "upgrade").map((protocol) => protocol.toLowerCase());
  const wanted = upgrades.length === 1 && options.includes("upgrade") && minorVersion === 1;
  const passes = wanted && !/^h2c?\b|^$|,/.test(upgrades[0] as string);
  if (passes && framing !== 0) return bad;
  const expect = valuesOf(fields, "expect")[0];
  if (expect !== undefined && expect.toLowerCase() !== "100-continue") return refused(417);
  const kept = minorVersion === 1 ? !options.includes("close") : options.includes("keep-alive");
  const request: Request = {
    ...{ method, target, host, minorVersion, fields, headEnd: section.end },
    framing: framing === -1 ? "chunked" : framing > 0 ? "length" : "none",
    contentLength: Math.max(0, framing),
    keepAlive: kept,
    upgrade: passes ? (upgrades[0] as string) : null,
    expects: expect !== undefined && framing !== 0 && minorVersion === 1,
    nominated: options,
  };
  return { kind: "head", request };
}

function originForm(method: string, sent: string, authority: string): string | null {
  if (sent.startsWith("/")) return sent;
  if (sent === "*") return method === "OPTIONS" ? sent : null;
  const parts = /^https?:\/\/([^/?]*)(.*)$/is.exec(sent);
  if (parts === null || parts[1]?.toLowerCase() !== authority.toLowerCase()) return null;
  const rest = parts[2] as string;
  if (rest === "") return method === "OPTIONS" ? "*" : "/";
  return rest.startsWith("?") ? `/${rest}` : rest;
}

/** -1: chunked. */
function framingOf(fields: readonly Field[], minorVersion: number): number | Stop {
  const codings = valuesOf(fields, "transfer-encoding");
  const lengths = valuesOf(fields, "content-length");
  if (codings.length + lengths.length > 1) return bad;
  if (codings.length === 1) {
    if (minorVersion === 0) return bad;
    return codings[0]?.toLowerCase() === "chunked" ? -1 : refused(501);
  }
  if (lengths.length === 0) return 0;
  return /^[0-9]{1,15}$/.test(lengths[0] as string) ? Number(lengths[0]) : bad;
}

export function readRequestBody(text: string, request: Request): Body | Stop {
  if (request.framing === "chunked") return readChunked(text, request.headEnd);
  return readLength(text, request.headEnd, request.contentLength);
}

const dropped = /^(?:connection|upgrade|te|trailer|keep-alive|proxy-connection|http2-settings)$/;
const neverNominated = /^(?:host|content-length|transfer-encoding|te|close|keep-alive|upgrade|)$/;

/** The client's fields that may go on to the app, in order. */
export function passedOn(request: Request): readonly Field[] {
  return request.fields.filter(([, , name]) => {
    if (dropped.test(name) || pretended(name)) return false;
    return neverNominated.test(name) || !request.nominated.includes(name);
  });
}

export interface Answer {
  readonly status: number;
  readonly fields: readonly Field[];
  readonly framing: "none" | "length" | "chunked" | "close";
  readonly body: string;
  readonly trailers: readonly Field[];
  readonly minorVersion: number;
  readonly end: number;
}

/** `more`: with the final answer's head, once that is there, and the body so far. */
export type AnswerRead =
  | { readonly kind: "answer"; readonly answer: Answer; readonly interims: readonly number[] }
  | { readonly kind: "malformed"; readonly inBody: boolean; readonly interims: readonly number[] }
  | { readonly kind: "more"; readonly head: Answer | null; readonly interims: readonly number[] };

const interimMax = 32;

/** What a back end answered to one request, or what a client was answered. */
export function readAnswer(
  text: string,
  start: number,
  request: { readonly method: string; readonly upgrade: string | null },
  bounds: Bounds = usual,
): AnswerRead {
  const interims: number[] = [];
  for (let from = start; ; ) {
    const line = readStartLine(text, from, (found) => (statusLine.test(found) ? null : 400));
    if (line.kind === "more") return { kind: "more", head: null, interims };
    if (line.kind === "refused") return { kind: "malformed", inBody: false, interims };
    const section = readSection(text, line.end, bounds);
    if (section.kind === "more") return { kind: "more", head: null, interims };
    if (section.kind === "refused") return { kind: "malformed", inBody: false, interims };
    const head = answerHead(line.line, section, request);
    if (head === null) return { kind: "malformed", inBody: false, interims };
    if (head.status < 200 && head.status !== 101) {
      if (interims.length === interimMax) return { kind: "malformed", inBody: false, interims };
      interims.push(head.status);
      from = head.end;
      continue;
    }
    const body = readAnswerBody(text, head, Number(valuesOf(head.fields, "content-length")[0]));
    if (body.kind === "refused") return { kind: "malformed", inBody: true, interims };
    if (body.kind === "more") return { kind: "more", head, interims };
    const { trailers, end } = body;
    return { kind: "answer", answer: { ...head, body: body.body, trailers, end }, interims };
  }
}

function answerHead(
  line: string,
  section: Section,
  request: { readonly method: string; readonly upgrade: string | null },
): Answer | null {
  const [, minor = "", code = ""] = statusLine.exec(line) ?? [];
  const status = Number(code);
  const { fields } = section;
  const options = valuesOf(fields, "connection").join(",").toLowerCase().split(",");
  const upgrades = options.some((option) => option.trim() === "upgrade");
  if (status === 101 && (request.upgrade === null || !upgrades)) return null;
  const framing = framingOf(fields, Number(minor));
  if (typeof framing !== "number") return null;
  const given = valuesOf(fields, "content-length").length === 1;
  const bodiless = request.method === "HEAD" || status < 200 || status === 204 || status === 304;
  return {
    ...{ status, fields, body: "", trailers: [], end: section.end, minorVersion: Number(minor) },
    framing: bodiless
      ? "none"
      : framing === -1
        ? "chunked"
        : framing > 0
          ? "length"
          : given
            ? "none"
            : "close",
  };
}

function readAnswerBody(text: string, head: Answer, length: number): Body | Stop {
  switch (head.framing) {
    case "none":
      return readLength(text, head.end, 0);
    case "length":
      return readLength(text, head.end, length);
    case "chunked":
      return readChunked(text, head.end);
    default:
      // Only the end of the connection ends it.
      return readLength(text, head.end, text.length - head.end);
  }
}
