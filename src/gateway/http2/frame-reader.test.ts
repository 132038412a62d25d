import { expect, test } from "bun:test";
import fc from "fast-check";
import { frame, readFrames } from "../testing/frames.ts";
import { FrameReader } from "./frame-reader.ts";
import { errorCode } from "./frames.ts";

interface Seen {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: string;
}

/** The frames in pieces that end at the cuts; DATA without its padding. */
function read(bytes: Buffer, cuts: readonly number[]): Seen[] | number {
  const reader = new FrameReader();
  const seen: Seen[] = [];
  let data = "";
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  for (const end of ends) {
    const piece = Buffer.from(bytes.subarray(from, end));
    from = end;
    for (let position = 0; ; position = reader.position) {
      const step = reader.next(piece, position, piece.length);
      if (step === "fault") return reader.fault;
      if (step === "more") break;
      const { type, flags, streamId, buffer, start } = reader;
      if (step === "dataBegin") data = "";
      if (step === "data") data += buffer.toString("hex", start, reader.end);
      if (step !== "frame") continue;
      const payload = type === 0 ? data : buffer.toString("hex", start, reader.end);
      seen.push({ type, flags, streamId, payload });
    }
  }
  return seen;
}

const anyFrame = fc
  .tuple(
    fc.integer({ min: 0, max: 12 }),
    fc.nat(255),
    fc.nat(0x7fff_ffff),
    fc.uint8Array({ maxLength: 300 }),
  )
  .map(([type, flags, streamId, payload]) => frame(type, flags, streamId, Buffer.from(payload)));

function expected(bytes: Buffer): Seen[] | number {
  const seen: Seen[] = [];
  for (const { type, flags, streamId, payload } of readFrames(bytes)) {
    let own = payload;
    if (type === 0 && (flags & 8) !== 0) {
      const padding = payload[0] ?? 0;
      if (padding >= payload.length) return errorCode.protocolError;
      own = payload.subarray(1, payload.length - padding);
    }
    seen.push({ type, flags, streamId, payload: own.toString("hex") });
  }
  return seen;
}

test("frames are the same wherever reads end", () => {
  const frames = fc.array(anyFrame, { maxLength: 8 });
  fc.assert(
    fc.property(frames, fc.array(fc.nat(3000), { maxLength: 12 }), (list, cuts) => {
      const bytes = Buffer.concat(list);
      expect(read(bytes, cuts)).toEqual(expected(bytes));
    }),
    { numRuns: 500, seed: 1 },
  );
});

test("a frame larger than announced ends the connection at its head", () => {
  for (const type of [0, 1, 9, 200]) {
    const bytes = frame(type, 0, 1, Buffer.alloc(16_385));
    expect(read(bytes.subarray(0, 9), [])).toBe(errorCode.frameSizeError);
    expect(read(frame(type, 0, 1, Buffer.alloc(16_384)), [])).toBeArrayOfSize(1);
  }
});

test("the reserved bit of a stream's id is not looked at", () => {
  const bytes = frame(6, 0, 0x8000_0001, Buffer.alloc(8));
  expect((read(bytes, []) as Seen[])[0]?.streamId).toBe(1);
});
