import { expect, test } from "bun:test";
import fc from "fast-check";
import { FrameTracker } from "./websocket.ts";

function frame(payloadLength: number, masked: boolean): Buffer {
  const mask = masked ? 0x80 : 0;
  const header =
    payloadLength < 126
      ? [0x82, mask | payloadLength]
      : payloadLength < 65_536
        ? [0x82, mask | 126, payloadLength >> 8, payloadLength & 255]
        : [0x82, mask | 127, 0, 0, 0, 0, 0, payloadLength >> 16, (payloadLength >> 8) & 255];
  if (payloadLength >= 65_536) header.push(payloadLength & 255);
  const body = Buffer.alloc(payloadLength, 0x81);
  return Buffer.concat([Buffer.from(header), Buffer.alloc(masked ? 4 : 0, 0xff), body]);
}

test("knows the boundaries of frames of every size, however the bytes are cut", () => {
  const frames = fc.array(
    fc.tuple(fc.constantFrom(0, 1, 125, 126, 300, 65_535, 65_536, 70_000), fc.boolean()),
    { minLength: 1, maxLength: 5 },
  );
  fc.assert(
    fc.property(frames, fc.array(fc.integer({ min: 1, max: 40_000 })), (sizes, steps) => {
      const pieces = sizes.map(([length, masked]) => frame(length, masked));
      const bytes = Buffer.concat(pieces);
      const boundaries = new Set<number>([0]);
      let offset = 0;
      for (const piece of pieces) {
        offset += piece.length;
        boundaries.add(offset);
      }
      const tracker = new FrameTracker();
      let position = 0;
      for (let step = 0; position < bytes.length; step += 1) {
        const next = Math.min(bytes.length, position + (steps[step % (steps.length || 1)] ?? 7000));
        expect(tracker.advance(bytes, position, next, false)).toBe(next);
        position = next;
        expect(tracker.atBoundary).toBe(boundaries.has(position));
      }
    }),
    { numRuns: 300, seed: 1 },
  );
});

test("stops where the present frame ends", () => {
  const bytes = Buffer.concat([frame(10, false), frame(0, false), frame(5, false)]);
  const tracker = new FrameTracker();
  tracker.advance(bytes, 0, 4, false);
  expect(tracker.advance(bytes, 4, bytes.length, true)).toBe(12);
  expect(tracker.advance(bytes, 12, bytes.length, true)).toBe(14);
  expect(tracker.atBoundary).toBe(true);
});
