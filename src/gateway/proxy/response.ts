import { err, ok, type Result } from "../../base/result.ts";
import { fieldId } from "./fields.ts";
import type { HeadFault, HeadParser } from "./head.ts";
import { type Framing, readConnection, readLength } from "./request.ts";

/** What the gateway understood of a response's head. */
export interface ResponseFacts {
  readonly status: number;
  readonly framing: Framing;
  /** Bytes, when framing is `length`. */
  readonly contentLength: number;
  /** The upstream connection can serve another request afterwards. */
  readonly keepAlive: boolean;
  /** Seconds from Keep-Alive: timeout=N, or null. */
  readonly keepAliveSeconds: number | null;
  /** The protocol switched to, when status is 101. */
  readonly upgrade: string | null;
  readonly nominated: readonly string[];
}

export type ResponseFault =
  | HeadFault
  | "lengthMalformed"
  | "lengthTwice"
  | "lengthAndCoding"
  | "codingTwice"
  | "codingUnknown"
  | "codingInOldVersion"
  | "switchUnasked";

/** Reads and checks a complete response head; the body's framing depends on the request. */
export function readResponse(
  parser: HeadParser,
  buffer: Buffer,
  request: { readonly method: string; readonly upgrade: string | null },
): Result<ResponseFacts, ResponseFault> {
  const status = parser.statusCode;
  const connection = readConnection(parser, buffer);
  if (status === 101 && (request.upgrade === null || !connection.upgrade)) {
    return err("switchUnasked");
  }
  const codings = parser.countOf[fieldId.transferEncoding] as number;
  const lengths = parser.countOf[fieldId.contentLength] as number;
  let framing: Framing = "close";
  let contentLength = 0;
  if (codings > 0) {
    if (lengths > 0) return err("lengthAndCoding");
    if (codings > 1) return err("codingTwice");
    if (parser.minorVersion === 0) return err("codingInOldVersion");
    const coding = parser.valueOf(fieldId.transferEncoding, buffer);
    if (coding?.toLowerCase() !== "chunked") return err("codingUnknown");
    framing = "chunked";
  } else if (lengths > 0) {
    if (lengths > 1) return err("lengthTwice");
    const length = readLength(parser, buffer);
    if (!length.ok) return err("lengthMalformed");
    contentLength = length.value;
    framing = contentLength === 0 ? "none" : "length";
  }
  if (request.method === "HEAD" || status < 200 || status === 204 || status === 304) {
    framing = "none";
  }
  const persists = parser.minorVersion === 1 ? !connection.close : connection.keepAlive;
  return ok({
    status,
    framing,
    contentLength,
    // After a switch the connection is the tunnel's for good.
    keepAlive: persists && framing !== "close" && status !== 101,
    keepAliveSeconds: readKeepAliveSeconds(parser, buffer),
    upgrade: status === 101 ? parser.valueOf(fieldId.upgrade, buffer) : null,
    nominated: connection.nominated,
  });
}

function readKeepAliveSeconds(parser: HeadParser, buffer: Buffer): number | null {
  const value = parser.valueOf(fieldId.keepAlive, buffer);
  if (value === null) return null;
  const match = /(?:^|[\s,])timeout=(\d{1,6})/i.exec(value);
  return match === null ? null : Number(match[1]);
}
