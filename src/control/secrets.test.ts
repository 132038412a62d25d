import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSecretBox, secretBoxOf } from "./secrets.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lode-secrets-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("what was sealed opens with the same key only, and not when changed", () => {
  const box = secretBoxOf(new Uint8Array(32).fill(1));
  const sealed = box.seal("hunter2 ✓");
  expect(sealed).not.toContain("hunter2");
  expect(box.seal("hunter2 ✓")).not.toBe(sealed);
  expect(box.open(sealed)).toBe("hunter2 ✓");
  expect(() => secretBoxOf(new Uint8Array(32).fill(2)).open(sealed)).toThrow();
  const changed = Buffer.from(sealed, "base64");
  changed[15] = (changed[15] ?? 0) ^ 1;
  expect(() => box.open(changed.toString("base64"))).toThrow();
  expect(() => box.open("")).toThrow();
});

test("the key is made once, readable by its owner only", () => {
  const path = join(directory, "secrets.key");
  const first = openSecretBox(path);
  if (!first.ok) throw new Error(first.error);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(path).size).toBe(32);
  expect(readdirSync(directory)).toEqual(["secrets.key"]);
  const sealed = first.value.seal("text");
  chmodSync(path, 0o644);
  const second = openSecretBox(path);
  if (!second.ok) throw new Error(second.error);
  expect(second.value.open(sealed)).toBe("text");
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a broken key and a missing folder are told, not replaced", () => {
  const path = join(directory, "secrets.key");
  writeFileSync(path, "short");
  expect(openSecretBox(path)).toEqual({
    ok: false,
    error: `${path} is not a key: it has 5 bytes instead of 32`,
  });
  const nowhere = openSecretBox(join(directory, "no", "secrets.key"));
  expect(nowhere.ok).toBe(false);
});
