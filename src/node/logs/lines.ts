const newline = 10;
/** A longer line is shown in pieces. */
const lineBytesMax = 16 * 1024;

export interface RawLine {
  readonly text: string;
  /** Offset in the file just after the line and its newline. */
  readonly end: number;
}

/**
 * Splits bytes that begin at `offset` of a file into lines. An unfinished last line is left
 * out, unless `withLast`. Invalid UTF-8 shows as U+FFFD.
 */
export function splitLines(bytes: Uint8Array, offset: number, withLast: boolean): RawLine[] {
  const decoder = new TextDecoder();
  const lines: RawLine[] = [];
  let start = 0;
  while (start < bytes.length) {
    const found = bytes.indexOf(newline, start);
    const stop = found === -1 ? bytes.length : found;
    if (stop - start > lineBytesMax) {
      const piece = start + lineBytesMax;
      lines.push({ text: decoder.decode(bytes.subarray(start, piece)), end: offset + piece });
      start = piece;
      continue;
    }
    if (found === -1 && !withLast) break;
    const text = decoder.decode(bytes.subarray(start, stop));
    const end = found === -1 ? stop : stop + 1;
    lines.push({ text: text.endsWith("\r") ? text.slice(0, -1) : text, end: offset + end });
    start = end;
  }
  return lines;
}
