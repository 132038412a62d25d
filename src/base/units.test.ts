import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatBytes, formatDurationMs, parseBytes, parseCores, parseDurationMs } from "./units.ts";

function value(
  parsed: { ok: true; value: number } | { ok: false; error: string },
): number | string {
  return parsed.ok ? parsed.value : parsed.error;
}

test("amounts of memory are binary multiples", () => {
  expect(value(parseBytes("64M"))).toBe(64 * 1024 ** 2);
  expect(value(parseBytes("1.5G"))).toBe(1.5 * 1024 ** 3);
  expect(value(parseBytes(" 512MiB "))).toBe(512 * 1024 ** 2);
  expect(value(parseBytes("2k"))).toBe(2048);
  expect(value(parseBytes("1048576"))).toBe(1_048_576);
  expect(value(parseBytes("12B"))).toBe(12);
  for (const text of ["", "M", "-1M", "1P", "1e3", "0x10", "1M2"]) {
    expect(value(parseBytes(text))).toContain("is not an amount of memory");
  }
});

test("cores are numbers or thousandths, above none", () => {
  expect(value(parseCores("2"))).toBe(2);
  expect(value(parseCores("0.25"))).toBe(0.25);
  expect(value(parseCores("250m"))).toBe(0.25);
  for (const text of ["", "0", "0m", "-1", "two", "1c"]) {
    expect(value(parseCores(text))).toContain("is not a number of cores");
  }
});

test("durations have a unit; a bare number is seconds", () => {
  expect(value(parseDurationMs("500ms"))).toBe(500);
  expect(value(parseDurationMs("30s"))).toBe(30_000);
  expect(value(parseDurationMs("1.5m"))).toBe(90_000);
  expect(value(parseDurationMs("2h"))).toBe(7_200_000);
  expect(value(parseDurationMs("1d"))).toBe(86_400_000);
  expect(value(parseDurationMs("7"))).toBe(7000);
  for (const text of ["", "s", "-5s", "5w", "1h30m"]) {
    expect(value(parseDurationMs(text))).toContain("is not a duration");
  }
});

test("amounts are shown with three digits", () => {
  expect(formatBytes(0)).toBe("0B");
  expect(formatBytes(3_355_443)).toBe("3.2M");
  expect(formatBytes(1.5 * 1024 ** 3)).toBe("1.5G");
  expect(formatBytes(5 * 1024 ** 4)).toBe("5T");
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 50 }), (bytes) => {
      const again = parseBytes(formatBytes(bytes));
      if (!again.ok) throw new Error(again.error);
      expect(Math.abs(again.value - bytes)).toBeLessThanOrEqual(bytes * 0.01);
    }),
    { seed: 20_261_130 },
  );
});

test("durations are shown by their two largest units", () => {
  expect(formatDurationMs(0)).toBe("0ms");
  expect(formatDurationMs(850)).toBe("850ms");
  expect(formatDurationMs(12_000)).toBe("12s");
  expect(formatDurationMs(185_000)).toBe("3m 5s");
  expect(formatDurationMs(180_000)).toBe("3m");
  expect(formatDurationMs(187_200_000)).toBe("2d 4h");
  expect(formatDurationMs(999.6)).toBe("1s");
});
