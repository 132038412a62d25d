// Readers of requests with the weaknesses of servers that were smuggled through. What the gateway
// passes on must end at the same byte for all of them: then no back end, whichever of these it
// resembles, can see another request in it.

export interface Personality {
  readonly name: string;
  /** What ends a line of a head or a chunk's size. */
  readonly lineEnd: RegExp;
  /** Which of the two counts when both are there. */
  readonly prefers: "coding" | "length";
  readonly length: "first" | "last";
  /** The name of a field as it is compared. */
  readonly nameOf: (sent: string) => string;
  readonly isChunked: (coding: string) => boolean;
}

const lower = (sent: string) => sent.toLowerCase();

/** RFC 9112 as the strictest read it; the others differ from it in what they forgive. */
const plain: Personality = {
  name: "plain",
  lineEnd: /\r\n/g,
  prefers: "coding",
  length: "first",
  nameOf: lower,
  isChunked: (coding) => coding.toLowerCase() === "chunked",
};

export const personalities: readonly Personality[] = [
  plain,
  {
    ...plain,
    name: "line feeds end lines, the length wins",
    lineEnd: /\r?\n/g,
    prefers: "length",
    length: "last",
  },
  {
    ...plain,
    name: "carriage returns end lines, names are trimmed, codings guessed",
    lineEnd: /\r\n|\r|\n/g,
    nameOf: (sent) => sent.trim().toLowerCase(),
    isChunked: (coding) => /chunked/i.test(coding),
  },
  {
    ...plain,
    name: "names as a CGI server has them, control bytes dropped",
    lineEnd: /\r*\n/g,
    nameOf: (sent) =>
      sent
        .replace(/[^!-~]/g, "")
        .replaceAll("_", "-")
        .toLowerCase(),
    isChunked: (coding) => /chunked\W*$/i.test(coding),
    length: "last",
  },
];

/** No name of framing is shorter, and no reader makes one longer. */
const shortest = "content-length".length;

/** The end of the first request in `text` as this reader sees it; -1: it waits for more. */
export function endFor(reader: Personality, text: string): number {
  const { lineEnd } = reader;
  const fields: (readonly [string, string])[] = [];
  let at = 0;
  for (let isFirst = true; ; isFirst = false) {
    lineEnd.lastIndex = at;
    const ending = lineEnd.exec(text);
    if (ending === null) return -1;
    const line = text.slice(at, ending.index);
    at = lineEnd.lastIndex;
    if (line === "") break;
    const colon = line.indexOf(":");
    if (isFirst || colon < shortest) continue;
    fields.push([reader.nameOf(line.slice(0, colon)), line.slice(colon + 1).trim()]);
  }
  const codings = fields.filter(([name]) => name === "transfer-encoding");
  const lengths = fields.filter(([name]) => name === "content-length").map(([, value]) => value);
  const isChunked = codings.some(([, coding]) => reader.isChunked(coding));
  const length = reader.length === "first" ? lengths[0] : lengths.at(-1);
  if (isChunked && (reader.prefers === "coding" || length === undefined)) {
    return chunksEnd(reader, text, at);
  }
  const end = at + (length === undefined ? 0 : Number.parseInt(length, 10));
  return end <= text.length ? end : -1;
}

function chunksEnd({ lineEnd }: Personality, text: string, start: number): number {
  for (let at = start; ; ) {
    lineEnd.lastIndex = at;
    const ending = lineEnd.exec(text);
    if (ending === null) return -1;
    const length = Number.parseInt(text.slice(at, ending.index), 16);
    at = lineEnd.lastIndex;
    if (Number.isNaN(length)) return -1;
    if (length > 0) {
      lineEnd.lastIndex = at + length;
      const closing = lineEnd.exec(text);
      if (closing?.index !== at + length) return -1;
      at = lineEnd.lastIndex;
      continue;
    }
    for (let line = " "; line !== ""; ) {
      lineEnd.lastIndex = at;
      const last = lineEnd.exec(text);
      if (last === null) return -1;
      line = text.slice(at, last.index);
      at = lineEnd.lastIndex;
    }
    return at;
  }
}
