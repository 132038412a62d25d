import { expect, test } from "bun:test";
import { parseCpuBounds, parseMemoryBounds } from "./bounds.ts";

function cpu(text: string): unknown {
  const parsed = parseCpuBounds(text);
  return parsed.ok ? parsed.value : parsed.error;
}

test("one number is the max, two are min and max, three add the burst", () => {
  expect(cpu("2")).toEqual({ min: null, max: 2, burst: null });
  expect(cpu("0.25:2")).toEqual({ min: 0.25, max: 2, burst: null });
  expect(cpu("250m:2:4")).toEqual({ min: 0.25, max: 2, burst: 4 });
  expect(cpu("0.25::4")).toEqual({ min: 0.25, max: null, burst: 4 });
  expect(cpu("::")).toEqual({ min: null, max: null, burst: null });
  expect(parseMemoryBounds("64M:512M:1G")).toEqual({
    ok: true,
    value: { min: 64 * 1024 ** 2, max: 512 * 1024 ** 2, burst: 1024 ** 3 },
  });
});

test("contradictions and nonsense are refused", () => {
  expect(cpu("2:1")).toContain("a min above its max");
  expect(cpu(":4:2")).toContain("a max above its burst");
  expect(cpu("4::2")).toContain("a min above its burst");
  expect(cpu("1:2:3:4")).toContain("has 4 parts");
  expect(cpu("many")).toContain('"many" is not a number of cores');
  expect(parseMemoryBounds("0")).toMatchObject({ ok: false });
});
