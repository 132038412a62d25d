import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cloudPaths, nodePaths } from "../paths.ts";
import { cleanUp, must, newPaths } from "../testing/rig.ts";
import { closeDisk, openDisk } from "./disk.ts";
import { removeSubvolume } from "./subvolumes.ts";
import { ensureVolume } from "./volumes.ts";

afterEach(cleanUp);

const mebibyte = 1024 ** 2;
const owner = { project: "default", app: "web", uid: 424_242 };

function opened() {
  const paths = newPaths();
  mkdirSync(nodePaths.disk(paths), { recursive: true });
  must(openDisk(paths));
  return paths;
}

function fill(path: string, mebibytes: number): string | null {
  try {
    writeFileSync(path, Buffer.alloc(mebibytes * mebibyte));
    return null;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code ?? String(cause);
  }
}

test("a volume takes what its limit allows, and no more; its neighbours notice nothing", () => {
  const paths = opened();
  const volume = ensureVolume(paths, owner, 16 * mebibyte);
  const other = ensureVolume(paths, { ...owner, app: "other", uid: 424_243 }, 16 * mebibyte);
  expect([statSync(volume).uid, statSync(volume).mode & 0o7777]).toEqual([424_242, 0o700]);
  expect(fill(join(volume, "a"), 8)).toBeNull();
  expect(fill(join(volume, "b"), 16)).toBe("EDQUOT");
  expect(fill(join(other, "a"), 8)).toBeNull();
  ensureVolume(paths, owner, 64 * mebibyte);
  expect(fill(join(volume, "b"), 16)).toBeNull();
});

test("what is in a volume stays over a close, but not with another owner", async () => {
  const paths = opened();
  const file = join(ensureVolume(paths, owner, 16 * mebibyte), "kept");
  writeFileSync(file, "text");
  must(openDisk(paths));
  await closeDisk(paths);
  expect(existsSync(file)).toBe(false);
  must(openDisk(paths));
  ensureVolume(paths, owner, 16 * mebibyte);
  expect(readFileSync(file, "utf8")).toBe("text");
  ensureVolume(paths, { ...owner, uid: 424_244 }, 16 * mebibyte);
  expect(existsSync(file)).toBe(false);
  const volume = nodePaths.volumeOf(paths, owner.project, owner.app);
  removeSubvolume(volume);
  removeSubvolume(volume);
  expect(existsSync(volume)).toBe(false);
});

test("a disk that cannot be made or mounted says why", () => {
  const paths = newPaths();
  mkdirSync(nodePaths.disk(paths), { recursive: true });
  writeFileSync(nodePaths.diskImage(paths), "no file system");
  const opened = openDisk(paths);
  expect(opened.ok ? "" : opened.error).toContain("cannot be mounted");
  const full = openDisk(cloudPaths("/proc", "abc123"));
  expect(full.ok ? "" : full.error).toContain("make room");
});
