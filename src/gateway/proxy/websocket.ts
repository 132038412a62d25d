/** A close frame from the server: 1001, going away (RFC 6455 5.5.1, 7.4.1). */
export const goingAwayFrame: Buffer = Buffer.from([0x88, 0x02, 0x03, 0xe9]);

/**
 * Follows the frames of one direction of a WebSocket, so that a frame of our own can be put
 * between two of theirs (RFC 6455 5.2):
 *
 *   first byte ─→ length byte ─→ extended length? ─→ mask? ─→ payload ─→ first byte …
 */
export class FrameTracker {
  /** Bytes of the present frame's header seen; 0: between frames. */
  private headerSeen = 0;
  private headerLength = 2;
  private payload = 0;
  private extended = 0;

  /** Nothing of a frame has been passed on yet. */
  get atBoundary(): boolean {
    return this.headerSeen === 0 && this.payload === 0;
  }

  /** Walks to the end of [start, end), or to the first boundary when asked to stop there. */
  advance(buffer: Uint8Array, start: number, end: number, stopAtBoundary: boolean): number {
    let position = start;
    while (position < end) {
      if (this.headerSeen === this.headerLength) {
        const length = Math.min(this.payload, end - position);
        this.payload -= length;
        position += length;
        if (this.payload > 0) return position;
        this.headerSeen = 0;
        this.headerLength = 2;
        if (stopAtBoundary) return position;
      } else {
        this.stepHeader(buffer[position] as number);
        position += 1;
        if (this.headerSeen === this.headerLength && this.payload === 0) {
          this.headerSeen = 0;
          this.headerLength = 2;
          if (stopAtBoundary) return position;
        }
      }
    }
    return position;
  }

  private stepHeader(byte: number): void {
    this.headerSeen += 1;
    if (this.headerSeen === 1) return;
    if (this.headerSeen === 2) {
      const length = byte & 0x7f;
      this.extended = length === 126 ? 2 : length === 127 ? 8 : 0;
      this.headerLength = 2 + this.extended + ((byte & 0x80) === 0 ? 0 : 4);
      this.payload = this.extended === 0 ? length : 0;
      return;
    }
    if (this.headerSeen <= 2 + this.extended) this.payload = this.payload * 256 + byte;
  }
}
