import type { Http2Stream } from "./stream.ts";

/** How a stream came to its end. */
export const closedBy = { end: 1, us: 2, peer: 3 } as const;

export type ClosedBy = (typeof closedBy)[keyof typeof closedBy];

/** So many streams are remembered after their end, for the frames that were on their way. */
const rememberedMax = 128;

/** A connection's streams: those that are open, and how the last ones ended. */
export class StreamTable {
  /** The greatest id that a request came with. */
  lastId = 0;
  private readonly open = new Map<number, Http2Stream>();
  private readonly closedIds = new Uint32Array(rememberedMax);
  private readonly closedHow = new Uint8Array(rememberedMax);
  private next = 0;

  get size(): number {
    return this.open.size;
  }

  get(id: number): Http2Stream | undefined {
    return this.open.get(id);
  }

  all(): IterableIterator<Http2Stream> {
    return this.open.values();
  }

  add(stream: Http2Stream): void {
    this.open.set(stream.id, stream);
  }

  remove(id: number, by: ClosedBy): void {
    this.open.delete(id);
    this.closedIds[this.next] = id;
    this.closedHow[this.next] = by;
    this.next = (this.next + 1) % rememberedMax;
  }

  /** No request has come with this id; also of ids that no client may use. */
  isIdle(id: number): boolean {
    return id > this.lastId || id % 2 === 0;
  }

  /** Null: it never was, or that is too long ago. */
  closedBy(id: number): ClosedBy | null {
    const at = this.closedIds.lastIndexOf(id);
    return at < 0 ? null : (this.closedHow[at] as ClosedBy);
  }
}
