import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeRunDirectory, removeRunDirectory } from "./run-directory.ts";

const isMounted = (path: string) =>
  readFileSync("/proc/self/mountinfo", "utf8").includes(` ${path} `);

test("it is a tmpfs, is kept by the next lode, and goes with all that is in it", () => {
  const parent = mkdtempSync(join(tmpdir(), "lode-run-"));
  const path = join(parent, "lode-abc123");
  makeRunDirectory(path);
  expect(statSync(path).mode & 0o777).toBe(0o711);
  writeFileSync(join(path, "kept"), "");
  makeRunDirectory(path);
  expect(existsSync(join(path, "kept"))).toBe(true);
  removeRunDirectory(path);
  expect([existsSync(path), isMounted(path)]).toEqual([false, false]);
  rmSync(parent, { recursive: true });
});

test("what an earlier lode left in a directory without a mount is not covered", () => {
  const path = mkdtempSync(join(tmpdir(), "lode-run-"));
  writeFileSync(join(path, "left"), "");
  makeRunDirectory(path);
  expect([existsSync(join(path, "left")), isMounted(path)]).toEqual([true, false]);
  removeRunDirectory(path);
  expect(existsSync(path)).toBe(false);
});
