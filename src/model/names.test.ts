import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  appNameFromFolder,
  parseAppName,
  parseDigest,
  parseNodeName,
  parseProcessType,
  parseProjectName,
} from "./names.ts";

test("names are DNS labels", () => {
  for (const parse of [parseAppName, parseProjectName, parseNodeName, parseProcessType]) {
    for (const text of ["a", "web", "my-app-2", "0", "a".repeat(63)]) {
      expect(parse(text)).toEqual({ ok: true, value: text as never });
    }
    for (const text of ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "a\n", "ä", "a".repeat(64)]) {
      expect(parse(text).ok).toBe(false);
    }
  }
});

test("a refusal names the kind of name and what is allowed", () => {
  const parsed = parseAppName("My App");
  expect(parsed.ok ? "" : parsed.error).toMatch(/"My App" cannot be an app's name: use 1 to 63/);
});

test("digests are 64 lowercase hexadecimal digits", () => {
  expect(parseDigest("0123456789abcdef".repeat(4)).ok).toBe(true);
  for (const text of ["", "0".repeat(63), "0".repeat(65), "A".repeat(64), `${"0".repeat(64)}\n`]) {
    expect(parseDigest(text).ok).toBe(false);
  }
});

test("a folder's name gives the nearest app name, or none", () => {
  expect(appNameFromFolder("My_App v2")).toBe("my-app-v2");
  expect(appNameFromFolder("--x--")).toBe("x");
  expect(appNameFromFolder("日本")).toBe("");
  fc.assert(
    fc.property(fc.string({ maxLength: 100 }), (folder) => {
      const name = appNameFromFolder(folder);
      expect(name === "" || parseAppName(name).ok).toBe(true);
    }),
    { seed: 20_261_131 },
  );
});
