import type { HpackEncoder } from "../http2/hpack-encoder.ts";
import { fieldId } from "./fields.ts";
import type { HeadParser } from "./head.ts";
import type { RequestFacts } from "./request.ts";
import type { ResponseFacts } from "./response.ts";

/** Per field id: never copied from a request to the upstream one. */
const droppedFromRequest = flags([
  fieldId.connection,
  fieldId.upgrade,
  fieldId.te,
  fieldId.keepAlive,
  fieldId.hop,
  fieldId.forwarded,
  // No trailers of a request are passed on.
  fieldId.trailer,
]);

const droppedFromResponse = flags([
  fieldId.connection,
  fieldId.upgrade,
  fieldId.keepAlive,
  fieldId.hop,
  fieldId.cost,
]);

function flags(ids: readonly number[]): Uint8Array {
  const set = new Uint8Array(fieldId.count);
  for (const id of ids) set[id] = 1;
  return set;
}

/**
 * The head sent upstream: the client's bytes with the dropped fields cut out and the gateway's
 * own put at the end. Runs of kept lines are copied whole.
 *
 * @param added complete lines, each ending with CR LF, and then the name of the id's field.
 */
export function buildRequestHead(
  parser: HeadParser,
  buffer: Buffer,
  facts: RequestFacts,
  added: string,
  requestId: string,
): Buffer {
  const sent = parser.targetEnd - parser.targetStart;
  const keepsLine = facts.minorVersion === 1 && sent === facts.target.length;
  const line = keepsLine ? "" : `${facts.method} ${facts.target} HTTP/1.1\r\n`;
  let hops = "\r\n";
  if (facts.upgrade !== null) hops += `Connection: Upgrade\r\nUpgrade: ${facts.upgrade}\r\n`;
  if (facts.acceptsTrailers) hops += "TE: trailers\r\n";
  hops += "\r\n";
  const kept = parser.end - 2 - (keepsLine ? parser.startLineStart : parser.fieldsStart);
  const own = added.length + requestId.length + hops.length;
  const out = Buffer.allocUnsafe(line.length + kept + own);
  let offset = keepsLine
    ? buffer.copy(out, 0, parser.startLineStart, parser.fieldsStart)
    : out.write(line, 0, "latin1");
  offset = copyFields(parser, buffer, out, offset, droppedFromRequest, facts.nominated);
  offset += out.write(added, offset, "latin1");
  offset += out.write(requestId, offset, "latin1");
  offset += out.write(hops, offset, "latin1");
  // Mostly no field is dropped and it is filled exactly; a view of it would cost as much again.
  return offset === out.length ? out : out.subarray(0, offset);
}

/** Copies the lines of kept fields; returns the offset after them. */
function copyFields(
  parser: HeadParser,
  buffer: Buffer,
  out: Buffer,
  start: number,
  dropped: Uint8Array,
  nominated: readonly string[],
): number {
  let offset = start;
  let runStart = parser.fieldsStart;
  for (let index = 0; index < parser.fieldCount; index += 1) {
    const drop =
      dropped[parser.ids[index] as number] === 1 ||
      (nominated.length > 0 && nominated.includes(parser.fieldName(index, buffer).toLowerCase()));
    if (!drop) continue;
    const lineStart = parser.spans[index * 4] as number;
    if (lineStart > runStart) offset += buffer.copy(out, offset, runStart, lineStart);
    runStart = parser.lineAfter(index);
  }
  const fieldsEnd = parser.end - 2;
  if (fieldsEnd > runStart) offset += buffer.copy(out, offset, runStart, fieldsEnd);
  return offset;
}

/** True when nothing of the head must change, so that its bytes can be passed on as they lie. */
export function isUnchanged(parser: HeadParser, facts: ResponseFacts): boolean {
  if (parser.minorVersion === 0 || facts.nominated.length > 0) return false;
  for (let id = 0; id < fieldId.count; id += 1) {
    if (droppedFromResponse[id] === 1 && (parser.countOf[id] as number) > 0) return false;
  }
  return true;
}

/**
 * The head sent to an HTTP/1 client.
 *
 * @param added complete lines, each ending with CR LF, without the empty one.
 * @param keepsCoding false: the body is passed on decoded, so Transfer-Encoding goes.
 */
export function buildResponseHead(
  parser: HeadParser,
  buffer: Buffer,
  facts: ResponseFacts,
  added: string,
  keepsCoding: boolean,
): Buffer {
  const extra = `${added}\r\n`;
  const out = Buffer.allocUnsafe(parser.end - parser.startLineStart + extra.length + 2);
  const statusStart = parser.startLineStart + 8;
  let offset = out.write("HTTP/1.1", 0, "latin1");
  offset += buffer.copy(out, offset, statusStart, parser.fieldsStart);
  const dropped = keepsCoding ? droppedFromResponse : droppedWithCoding;
  offset = copyFields(parser, buffer, out, offset, dropped, facts.nominated);
  offset += out.write(extra, offset, "latin1");
  return out.subarray(0, offset);
}

const droppedWithCoding = droppedFromResponse.slice();
droppedWithCoding[fieldId.transferEncoding] = 1;

const notInHttp2 = droppedWithCoding.slice();
// Of the connection, and in an answer malformed (RFC 9113 8.2.2): clients reset the stream.
notInHttp2[fieldId.te] = 1;

/** The answer's head as a header block of HTTP/2; a switch to a tunnel is a 200 there. */
export function encodeResponseHead(
  parser: HeadParser,
  buffer: Buffer,
  facts: ResponseFacts,
  encoder: HpackEncoder,
): void {
  const { spans } = parser;
  const isTunnel = facts.status === 101;
  encoder.status(isTunnel ? 200 : facts.status);
  for (let index = 0; index < parser.fieldCount; index += 1) {
    if (notInHttp2[parser.ids[index] as number] === 1) continue;
    if (facts.nominated.length > 0 || isTunnel) {
      const name = parser.fieldName(index, buffer).toLowerCase();
      // The latter is part of HTTP/1.1's handshake only.
      if (facts.nominated.includes(name) || (isTunnel && name === "sec-websocket-accept")) continue;
    }
    const slot = index * 4;
    encoder.field(
      buffer,
      spans[slot] as number,
      spans[slot + 1] as number,
      spans[slot + 2] as number,
      spans[slot + 3] as number,
    );
  }
}
