import {
  chmod,
  chown,
  copyFile,
  lchown,
  link,
  lstat,
  mkdir,
  readdir,
  readlink,
  rm,
  symlink,
} from "node:fs/promises";
import { join, sep } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";

/** File work under way at once: enough for the disk, few enough for the descriptors. */
const concurrency = 16;

/** Runs `work` on every item, a bounded number at once; rejects with the first failure. */
export async function eachOf<Item>(
  items: Iterable<Item>,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const worker = async () => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
      await work(next.value);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

/** A relative path with no way out: null, or what is wrong with it. */
export function relativePathFault(path: string): string | null {
  if (path === "" || path.startsWith("/") || path.includes("\0")) return "it is not relative";
  const bad = path.split("/").some((part) => part === "" || part === "." || part === "..");
  return bad ? 'it has an empty, "." or ".." part' : null;
}

/**
 * Makes the empty folder `relative` in a root-owned tree, to mount something on. Refuses when
 * a file or symlink is in the way: a mount there would land somewhere else.
 */
export async function ensureMountPoint(
  tree: string,
  relative: string,
): Promise<Result<void, string>> {
  const fault = relativePathFault(relative);
  if (fault !== null) return err(`"${relative}" cannot be a mount point: ${fault}`);
  let path = tree;
  for (const part of relative.split("/")) {
    path = join(path, part);
    const found = await lstat(path).catch(() => null);
    if (found === null) {
      await mkdir(path, { mode: 0o755 });
      await chmod(path, 0o755);
    } else if (!found.isDirectory()) {
      return err(`"${relative}" must be a folder, but the upload has a file or link there`);
    }
  }
  return ok(undefined);
}

export interface CopyOptions {
  /** New owner of everything copied; linked files keep theirs. */
  readonly uid: number;
  /** `link`: the same inodes under new folders, for files that nobody may change. */
  readonly files: "copy" | "link";
  /** Paths relative to the source, with all below them; null is everything. */
  readonly only: readonly string[] | null;
}

/** Copies a tree, symlinks as they are. The destination must exist. */
export async function copyTree(
  source: string,
  destination: string,
  options: CopyOptions,
): Promise<void> {
  const tops = options.only ?? (await readdir(source));
  await eachOf(tops, async (top) => {
    const parts = top.split(sep);
    for (let depth = 1; depth < parts.length; depth++) {
      await makeDirectory(join(destination, ...parts.slice(0, depth)), options.uid);
    }
    await copyEntry(join(source, top), join(destination, top), options);
  });
}

async function copyEntry(from: string, to: string, options: CopyOptions): Promise<void> {
  const found = await lstat(from).catch(() => null);
  if (found === null) return;
  if (found.isSymbolicLink()) {
    await symlink(await readlink(from), to);
    await lchown(to, options.uid, options.uid);
  } else if (found.isDirectory()) {
    await makeDirectory(to, options.uid);
    for (const name of await readdir(from))
      await copyEntry(join(from, name), join(to, name), options);
  } else if (found.isFile() && options.files === "link") {
    await link(from, to);
  } else if (found.isFile()) {
    await copyFile(from, to);
    await chmod(to, (found.mode & 0o111) === 0 ? 0o644 : 0o755);
    await chown(to, options.uid, options.uid);
  }
}

async function makeDirectory(path: string, uid: number): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o755 });
  await chown(path, uid, uid);
}

/**
 * Gives a tree that an untrusted process left to root, for everybody to read: no special files,
 * no setuid, nothing writable. Nothing may run any more that could write to it.
 */
export async function takeOver(path: string): Promise<Result<void, string>> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return err("it was not made");
  if (found.isSymbolicLink()) {
    await lchown(path, 0, 0);
    return ok(undefined);
  }
  if (found.isFile()) {
    // Linked files of other layers are root's already, and in order.
    if (found.uid !== 0) await chown(path, 0, 0);
    const mode = (found.mode & 0o111) === 0 ? 0o644 : 0o755;
    if ((found.mode & 0o7777) !== mode && found.uid !== 0) await chmod(path, mode);
    return ok(undefined);
  }
  if (!found.isDirectory()) return err(`${path} is a device, pipe or socket`);
  await chown(path, 0, 0);
  await chmod(path, 0o755);
  let failure: Result<void, string> = ok(undefined);
  await eachOf(await readdir(path), async (name) => {
    const taken = await takeOver(join(path, name));
    if (!taken.ok) failure = taken;
  });
  return failure;
}

/** Removes a tree whatever is in it. */
export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}
