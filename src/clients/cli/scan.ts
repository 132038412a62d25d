import { createHash } from "node:crypto";
import { lstatSync, type Stats } from "node:fs";
import { open, readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Manifest, ManifestEntry } from "../../api/native/client.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { checkManifest } from "../../model/config/manifest.ts";
import type { Manifest as CheckedManifest } from "../../model/release.ts";
import { exitCodes, type Failure, failure, usageFailure } from "./failure.ts";
import { type IgnoreRules, rulesFor } from "./ignoreRules.ts";

export interface ScannedFile {
  readonly path: string;
  readonly absolute: string;
  readonly size: number;
  readonly digest: string;
}

export interface Scanned {
  readonly manifest: Manifest;
  /** One for each digest. */
  readonly files: readonly ScannedFile[];
  readonly fileCount: number;
  readonly bytes: number;
}

interface Found {
  readonly path: string;
  readonly absolute: string;
  readonly size: number;
  readonly executable: boolean;
}

const hashedAtOnce = 16;
const readWholeBytesMax = 4 * 1024 ** 2;
const ownerMayExecute = 0o100;

/** A failure that ends the walk from deep inside it; caught where the walk began. */
class Stop extends Error {
  readonly failure: Failure;

  constructor(message: string, remedy: string | null = null) {
    super(message);
    this.failure = failure(exitCodes.failed, message, remedy);
  }
}

/**
 * Reads the tree under `root` into a manifest: names, kinds, sizes and digests of everything
 * that is not ignored. Nothing in it can be a device, or a link that leads out.
 */
export async function scanFolder(
  root: string,
  onHashed: (files: number, of: number) => void,
): Promise<Result<Scanned, Failure>> {
  const refused = await refuseRoot(root);
  if (refused !== null) return err(refused);
  try {
    const entries: ManifestEntry[] = [];
    const found: Found[] = [];
    await walk(root, "", rulesFor(root), entries, found);
    if (found.length === 0) {
      throw new Stop(
        `there is nothing to deploy in ${root}: it has no files that are not ignored`,
        "look at its .gitignore and .lodeignore",
      );
    }
    const files = await hashAll(found, onHashed);
    for (const [index, { path, size, executable }] of found.entries()) {
      const digest = files[index]?.digest ?? "";
      entries.push({ kind: "file", path, digest, size, executable });
    }
    const manifest = { entries: entries.sort(byPath) };
    const checked = checkManifest(manifest as CheckedManifest);
    if (!checked.ok) {
      return err(failure(exitCodes.refused, checked.error.message, checked.error.remedy));
    }
    return ok({
      manifest,
      files: [...new Map(files.map((file) => [file.digest, file])).values()],
      fileCount: files.length,
      bytes: files.reduce((sum, file) => sum + file.size, 0),
    });
  } catch (cause) {
    if (cause instanceof Stop) return err(cause.failure);
    throw cause;
  }
}

async function refuseRoot(root: string): Promise<Failure | null> {
  try {
    if ((await stat(root)).isDirectory()) return null;
    return usageFailure(`${root} is not a folder`, "name the folder that holds the app");
  } catch (cause) {
    return usageFailure(`${root} cannot be read: ${wordsOf(cause)}`);
  }
}

async function walk(
  folder: string,
  prefix: string,
  outer: IgnoreRules,
  entries: ManifestEntry[],
  found: Found[],
): Promise<void> {
  const children = await read(folder, () => readdir(folder, { withFileTypes: true }));
  const rules = outer.within(folder, new Set(children.map((child) => child.name)));

  for (const child of children) {
    const absolute = join(folder, child.name);
    const path = `${prefix}${child.name}`;
    if (rules.ignores(absolute, child.name, child.isDirectory())) continue;

    if (child.name.includes("\ufffd")) {
      throw new Stop(`the name of ${absolute} is not valid UTF-8`, "rename it");
    }
    if (child.isDirectory()) await walk(absolute, `${path}/`, rules, entries, found);
    else if (child.isSymbolicLink()) {
      const target = await read(absolute, () => readlink(absolute));
      entries.push({ kind: "symlink", path, target });
    } else found.push(await fileOf(absolute, path));
  }
  if (children.length === 0 && prefix !== "")
    entries.push({ kind: "directory", path: prefix.slice(0, -1) });
}

async function fileOf(absolute: string, path: string): Promise<Found> {
  const stats = await read(absolute, async () => lstatSync(absolute));
  if (!stats.isFile()) {
    throw new Stop(
      `${absolute} is ${kindOf(stats)}, which cannot be deployed`,
      "remove it, or name it in .lodeignore",
    );
  }
  const executable = (stats.mode & ownerMayExecute) !== 0;
  return { path, absolute, size: stats.size, executable };
}

function kindOf(stats: Stats): string {
  if (stats.isFIFO()) return "a named pipe";
  if (stats.isSocket()) return "a socket";
  if (stats.isBlockDevice() || stats.isCharacterDevice()) return "a device";
  return "not a regular file";
}

async function hashAll(
  found: readonly Found[],
  onHashed: (files: number, of: number) => void,
): Promise<readonly ScannedFile[]> {
  const files: ScannedFile[] = new Array(found.length);
  let next = 0;
  let hashed = 0;
  async function work(): Promise<void> {
    for (let index = next++; index < found.length; index = next++) {
      const { path, absolute, size } = found[index] as Found;
      const digest = await read(absolute, () => digestOf(absolute, size));
      files[index] = { path, absolute, size, digest };
      hashed += 1;
      onHashed(hashed, found.length);
    }
  }
  await Promise.all(Array.from({ length: hashedAtOnce }, work));
  return files;
}

async function digestOf(absolute: string, size: number): Promise<string> {
  const hash = createHash("sha256");
  if (size <= readWholeBytesMax) return hash.update(await readFile(absolute)).digest("hex");
  const file = await open(absolute);
  try {
    for await (const chunk of file.createReadStream()) hash.update(chunk as Uint8Array);
    return hash.digest("hex");
  } finally {
    await file.close();
  }
}

async function read<Value>(path: string, action: () => Promise<Value>): Promise<Value> {
  try {
    return await action();
  } catch (cause) {
    throw new Stop(`${path} cannot be read: ${wordsOf(cause)}`);
  }
}

function wordsOf(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") return "it does not exist (any more)";
  if (code === "EACCES" || code === "EPERM") return "permission denied";
  return message;
}

/** The order that the server wants: by UTF-16 code units. */
function byPath(left: ManifestEntry, right: ManifestEntry): number {
  return left.path < right.path ? -1 : 1;
}
