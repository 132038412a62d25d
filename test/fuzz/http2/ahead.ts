export const code = {
  ...{ none: 0, protocol: 1, internal: 2, flow: 3, closed: 5, size: 6, refused: 7, cancel: 8 },
  ...{ compression: 9, calm: 11 },
} as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** What the gateway sent by the end of a turn, for who asks what it made of that turn's frames. */
export class Ahead {
  private readonly frames: readonly Frame[];

  constructor(frames: readonly Frame[]) {
    this.frames = frames;
  }

  /** The stream's answer ended, or it was reset. */
  ends(id: number): boolean {
    return this.frames.some(({ type, flags, streamId }) => {
      return streamId === id && (type === 3 || (type < 2 && flags % 2 === 1));
    });
  }

  isReset(id: number, error: number): boolean {
    return this.codesOf(id).includes(error);
  }

  /** By itself, not for a frame that came too late. */
  isResetByItself(id: number): boolean {
    return this.codesOf(id).some((error) => error !== code.closed);
  }

  private codesOf(id: number): number[] {
    const resets = this.frames.filter(({ type, streamId }) => type === 3 && streamId === id);
    return resets.map(({ payload }) => payload.readUInt32BE(0));
  }

  /** The connection's error, and the last stream that it names. */
  hasError(error: number, lastId: number): boolean {
    return this.frames.some(({ type, payload }) => {
      return type === 7 && payload.readUInt32BE(0) === lastId && payload.readUInt32BE(4) === error;
    });
  }

  widens(id: number): boolean {
    return this.frames.some(({ type, streamId }) => type === 8 && streamId === id);
  }

  /** Of frames of this type. */
  acknowledgements(wanted: number): number {
    return this.frames.filter(({ type, flags }) => type === wanted && flags % 2 === 1).length;
  }

  /** DATA frames that are not empty. */
  get dataFrames(): number {
    return this.frames.filter(({ type, payload }) => type === 0 && payload.length > 0).length;
  }

  /** @param id 0: of all streams. */
  dataBytes(id: number): number {
    const own = this.frames.filter(
      (frame) => frame.type === 0 && (id === 0 || frame.streamId === id),
    );
    return own.reduce((sum, { payload }) => sum + payload.length, 0);
  }
}
