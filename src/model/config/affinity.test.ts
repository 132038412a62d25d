import { expect, test } from "bun:test";
import { parseAffinity } from "./affinity.ts";

test("each form is read", () => {
  expect(parseAffinity("header:X-Room")).toEqual({
    ok: true,
    value: { kind: "header", name: "x-room" },
  });
  expect(parseAffinity("cookie:Sid")).toEqual({ ok: true, value: { kind: "cookie", name: "Sid" } });
  expect(parseAffinity("path:2")).toEqual({ ok: true, value: { kind: "path", index: 2 } });
  expect(parseAffinity("query:a b")).toEqual({ ok: true, value: { kind: "query", name: "a b" } });
});

test("anything else is refused with the forms there are", () => {
  for (const text of [
    "",
    "room",
    "header:",
    "header:a b",
    "cookie:a;b",
    "path:0",
    "path:x",
    "path:99",
  ]) {
    const parsed = parseAffinity(text);
    expect(parsed.ok).toBe(false);
  }
  const parsed = parseAffinity("body:room");
  expect(parsed.ok ? "" : parsed.error).toContain('write "header:NAME"');
});
