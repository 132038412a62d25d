import { type HeadKind, type HeadLimits, HeadParser } from "./head.ts";

/** Parsers wait here between heads, so that an idle connection holds none. */
export class ParserPool {
  private readonly spare: HeadParser[] = [];
  private readonly limits: HeadLimits;

  constructor(limits: HeadLimits) {
    this.limits = limits;
  }

  take(): HeadParser {
    return this.spare.pop() ?? new HeadParser(this.limits);
  }

  give(parser: HeadParser): void {
    if (this.spare.length < 64) this.spare.push(parser);
  }
}

/**
 * Reads one head from chunks. A head that lies whole in one chunk, which is nearly every head, is
 * parsed where it lies; only one that was cut is gathered into a buffer.
 */
export class HeadReader {
  parser: HeadParser | null = null;
  /** After `read` said true: the buffer the parser's offsets point into, and its filled length. */
  buffer: Buffer | null = null;
  length = 0;
  private gathered: Buffer | null = null;
  private gatheredLength = 0;
  private readonly pool: ParserPool;

  constructor(pool: ParserPool) {
    this.pool = pool;
  }

  /** Bytes of an unfinished head have been seen. */
  get begun(): boolean {
    return this.gathered !== null;
  }

  /** How many bytes of an unfinished head are gathered. */
  get gatheredBytes(): number {
    return this.gatheredLength;
  }

  /** True: complete or faulty, see `parser`; call `release` when its offsets are used up. */
  read(kind: HeadKind, chunk: Buffer, offset: number, limit: number): boolean {
    if (this.gathered === null) {
      const parser = this.pool.take();
      this.parser = parser;
      parser.reset(kind, offset);
      if (parser.parse(chunk, limit)) {
        this.buffer = chunk;
        this.length = limit;
        return true;
      }
      parser.reset(kind, 0);
      this.gathered = Buffer.allocUnsafe(Math.max(1024, (limit - offset) * 2));
      this.gatheredLength = 0;
    }
    return this.gather(chunk, offset, limit);
  }

  private gather(chunk: Buffer, offset: number, limit: number): boolean {
    const length = this.gatheredLength + limit - offset;
    let gathered = this.gathered as Buffer;
    if (length > gathered.length) {
      const grown = Buffer.allocUnsafe(length * 2);
      gathered.copy(grown, 0, 0, this.gatheredLength);
      gathered = grown;
      this.gathered = grown;
    }
    chunk.copy(gathered, this.gatheredLength, offset, limit);
    this.gatheredLength = length;
    if (!(this.parser as HeadParser).parse(gathered, length)) return false;
    this.buffer = gathered;
    this.length = length;
    return true;
  }

  /** Gives the parser back and forgets the buffer. */
  release(): void {
    if (this.parser !== null) this.pool.give(this.parser);
    this.parser = null;
    this.buffer = null;
    this.gathered = null;
    this.gatheredLength = 0;
  }
}
