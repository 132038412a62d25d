import { expect, test } from "bun:test";
import fc from "fast-check";
import { LineWriter, lineBytesMax } from "./lines.ts";
import type { AccessRecord } from "./record.ts";

const text = fc.oneof(
  fc.constantFrom(
    "GET",
    "/",
    "hello.localhost",
    "a".repeat(100),
    '"',
    "\\",
    "\u0000",
    "\xe9",
    "😀",
  ),
  fc.string({ unit: "binary", maxLength: 60 }),
);
const count = fc.oneof(fc.nat(12), fc.nat(), fc.constant(Number.MAX_SAFE_INTEGER));

const records: fc.Arbitrary<AccessRecord> = fc.record({
  at: fc.nat(3),
  requestId: fc.stringMatching(/^[a-z0-9-]{1,40}$/),
  app: fc.option(fc.constantFrom("default/a", "default/b")),
  instance: fc.option(fc.constantFrom("i1", "i2")),
  method: fc.constantFrom("GET", "POST"),
  host: fc.oneof(fc.constantFrom("a.test", "b.test"), text),
  path: text,
  status: count,
  bytesIn: count,
  bytesOut: count,
  durationMs: count,
  upstreamMs: fc.option(count),
  wakeMs: count,
  client: fc.constantFrom("127.0.0.1", "::1"),
  protocol: fc.constantFrom("HTTP/1.0", "HTTP/1.1", "HTTP/2"),
  userAgent: fc.option(text),
});

test("a line is what JSON.stringify makes of its record, and no longer than foretold", () => {
  const lines = new LineWriter();
  const buffer = Buffer.alloc(20_000);
  fc.assert(
    fc.property(records, fc.nat(9), (record, start) => {
      const end = lines.write(record, buffer, start);
      expect(buffer.toString("utf8", start, end)).toBe(`${JSON.stringify(record)}\n`);
      expect(end - start).toBeLessThanOrEqual(lineBytesMax(record));
    }),
    { numRuns: 5000, seed: 7 },
  );
});
