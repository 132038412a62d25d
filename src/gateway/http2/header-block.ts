import type { FrameReader } from "./frame-reader.ts";
import { frameFlag } from "./frames.ts";

/** A header block in more frames than this is an attack (CVE-2024-27316). */
const continuationsMax = 32;

/** A header block, from its HEADERS frame to the frame with END_HEADERS. */
export class HeaderBlock {
  /** Whose block is under way; 0: none is. */
  streamId = 0;
  /** The client says that the stream depends on itself, which nothing can. */
  dependsOnItself = false;
  /** Once it is whole, up to the next frame: where it lies. */
  buffer: Buffer = noBytes;
  start = 0;
  end = 0;

  private readonly bytesMax: number;
  private flags = 0;
  private gathered: Buffer = noBytes;
  private continuations = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  get endsStream(): boolean {
    return (this.flags & frameFlag.endStream) !== 0;
  }

  /** Takes a HEADERS frame. Null: it is malformed; false: more is to come. */
  begin(reader: FrameReader): boolean | null {
    const { flags, buffer } = reader;
    let { start, end } = reader;
    if ((flags & frameFlag.padded) !== 0) {
      if (start === end) return null;
      end -= buffer[start] as number;
      start += 1;
    }
    this.dependsOnItself = false;
    if ((flags & frameFlag.priority) !== 0) {
      this.dependsOnItself = end - start >= 5 && readId(buffer, start) === reader.streamId;
      start += 5;
    }
    if (end < start) return null;
    this.flags = flags;
    this.continuations = 0;
    if ((flags & frameFlag.endHeaders) !== 0) {
      this.buffer = buffer;
      this.start = start;
      this.end = end;
      return true;
    }
    this.streamId = reader.streamId;
    this.end = 0;
    this.gather(buffer, start, end);
    return false;
  }

  /** Takes a CONTINUATION frame. Null: it is too much; false: more is to come. */
  add(reader: FrameReader): boolean | null {
    this.continuations += 1;
    if (this.continuations > continuationsMax) return null;
    if (this.end + reader.length > this.bytesMax) return null;
    this.gather(reader.buffer, reader.start, reader.end);
    if ((reader.flags & frameFlag.endHeaders) === 0) return false;
    this.streamId = 0;
    this.buffer = this.gathered;
    this.start = 0;
    this.gathered = noBytes;
    return true;
  }

  /** Forgets where the last block lay. */
  release(): void {
    this.buffer = noBytes;
  }

  private gather(buffer: Buffer, start: number, end: number): void {
    const length = this.end + end - start;
    if (length > this.gathered.length) {
      const grown = Buffer.allocUnsafe(length * 2);
      this.gathered.copy(grown, 0, 0, this.end);
      this.gathered = grown;
    }
    buffer.copy(this.gathered, this.end, start, end);
    this.end = length;
  }
}

/** A stream's id or a window's increment; the bit before it is reserved and ignored. */
export function readId(buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) % 0x8000_0000;
}

const noBytes = Buffer.alloc(0);
