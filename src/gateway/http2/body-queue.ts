const chunkEnd = "\r\n";
const lastChunkEnd = "\r\n0\r\n\r\n";
/** Room before a block's data for a chunk's size line, and after it for its end. */
const headroom = 16;
const tailroom = lastChunkEnd.length;
const blockBytesMax = 65_536;
const blockBytesMin = 1024;

/** Data is [start, end) of the buffer; before and after it is room for a chunk's framing. */
export interface BodyBlock {
  readonly buffer: Buffer;
  start: number;
  end: number;
}

/**
 * Bytes of a request's body between the client's frames and the instance. They are copied
 * together, so that a body in many small frames becomes few writes and little memory; how much
 * can wait is bounded by the window the client was given.
 */
export class BodyQueue {
  bytes = 0;
  private blocks: BodyBlock[] = [];

  append(from: Buffer, start: number, end: number): void {
    let position = start;
    while (position < end) {
      const block = this.room(end - position);
      const taken = Math.min(end - position, block.buffer.length - tailroom - block.end);
      from.copy(block.buffer, block.end, position, position + taken);
      block.end += taken;
      position += taken;
    }
    this.bytes += end - start;
  }

  take(): BodyBlock | null {
    const block = this.blocks.shift();
    if (block === undefined) return null;
    this.bytes -= block.end - block.start;
    return block;
  }

  clear(): void {
    this.blocks = [];
    this.bytes = 0;
  }

  /** A block with room for at least a byte. */
  private room(wanted: number): BodyBlock {
    const last = this.blocks[this.blocks.length - 1];
    if (last === undefined) return this.add(wanted);
    const capacity = last.buffer.length - tailroom;
    if (last.end < capacity) return last;
    const used = last.end - last.start;
    if (used >= blockBytesMax) return this.add(wanted);
    // Small blocks grow, so that many small pieces lie in one.
    const grown = makeBlock(Math.min(blockBytesMax, Math.max(used * 2, used + wanted)));
    grown.end += last.buffer.copy(grown.buffer, grown.start, last.start, last.end);
    this.blocks[this.blocks.length - 1] = grown;
    return grown;
  }

  private add(wanted: number): BodyBlock {
    const block = makeBlock(Math.min(blockBytesMax, Math.max(blockBytesMin, wanted)));
    this.blocks.push(block);
    return block;
  }
}

function makeBlock(capacity: number): BodyBlock {
  const buffer = Buffer.allocUnsafe(headroom + capacity + tailroom);
  return { buffer, start: headroom, end: headroom };
}

/** Makes a block's data one chunk of HTTP/1.1's chunked coding, where it lies. */
export function frameAsChunk(block: BodyBlock, isLast: boolean): void {
  const size = `${(block.end - block.start).toString(16)}\r\n`;
  block.start -= size.length;
  block.buffer.write(size, block.start, "latin1");
  block.end += block.buffer.write(isLast ? lastChunkEnd : chunkEnd, block.end, "latin1");
}
