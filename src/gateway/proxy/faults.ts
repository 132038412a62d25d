import type { HeadFault } from "./head.ts";

export type RequestFault =
  | HeadFault
  | "hostMissing"
  | "hostTwice"
  | "hostMalformed"
  | "hostMismatch"
  | "connect"
  | "targetForm"
  | "lengthMalformed"
  | "lengthTwice"
  | "lengthAndCoding"
  | "codingTwice"
  | "codingUnknown"
  | "codingInOldVersion"
  | "expectation"
  | "upgradeWithBody"
  | ChunkFault;

export type ChunkFault =
  | "chunkSize"
  | "chunkExtension"
  | "chunkEnd"
  | "trailers"
  | "trailerForbidden";

export interface FaultAnswer {
  readonly status: number;
  /** What is wrong, where, and how to mend it, for the person who reads the page. */
  readonly cause: string;
}

const bad = (cause: string): FaultAnswer => ({ status: 400, cause });

/** What a client is told about each fault. */
export const faultAnswers: Readonly<Record<RequestFault, FaultAnswer>> = {
  method: bad("The request line does not begin with a method and one space."),
  target: bad("The request target has bytes that must be percent-encoded."),
  version: {
    status: 505,
    cause: "The request line does not end with HTTP/1.1 or HTTP/1.0.",
  },
  statusLine: bad("The status line is malformed."),
  startLineTooLong: {
    status: 414,
    cause: "The request line is longer than 8 KiB. Send long data in the body.",
  },
  lineEnd: bad("A line of the head does not end with CR LF."),
  fieldName: bad(
    "A header field's name is empty, has other than token characters, or has no colon.",
  ),
  fieldValue: bad("A header field's value has control bytes."),
  foldedField: bad("A header field is continued on a second line, which HTTP no longer allows."),
  ambiguousField: bad("Content-Length or Transfer-Encoding is written with an underscore."),
  fieldsTooLarge: { status: 431, cause: "The header fields are larger than 60 KiB together." },
  tooManyFields: { status: 431, cause: "The request has more than 100 header fields." },
  hostMissing: bad("The request has no Host header field."),
  hostTwice: bad("The request has more than one Host header field."),
  hostMalformed: bad("The Host header field is not a host name with an optional port."),
  hostMismatch: bad("The host in the request target is not the one in the Host header field."),
  connect: { status: 405, cause: "CONNECT is not served here: this is no forward proxy." },
  targetForm: bad("The request target must begin with / (or be * for OPTIONS)."),
  lengthMalformed: bad("Content-Length is not a number of at most 15 digits."),
  lengthTwice: bad("The request has more than one Content-Length header field."),
  lengthAndCoding: bad("The request has both Content-Length and Transfer-Encoding."),
  codingTwice: bad("The request has more than one Transfer-Encoding header field."),
  codingUnknown: { status: 501, cause: "Only chunked is understood as a transfer coding." },
  codingInOldVersion: bad("Transfer-Encoding is not part of HTTP/1.0."),
  expectation: { status: 417, cause: "Only 100-continue is understood as an expectation." },
  upgradeWithBody: bad("A request that asks for an upgrade must have no body."),
  chunkSize: bad("A chunk's size is not a hexadecimal number, or is too large."),
  chunkExtension: bad("A chunk's extensions are malformed or too long."),
  chunkEnd: bad("A chunk does not end with CR LF where its size says."),
  trailers: bad("The trailer section is malformed or too large."),
  trailerForbidden: bad("The trailer section has a field that is only allowed in the header."),
};
