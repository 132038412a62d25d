import { chmod, chown, mkdir, rename, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { Random } from "../../base/time.ts";
import type { Blobs } from "../../fabric/blobs.ts";
import { checkManifest } from "../../model/config/manifest.ts";
import type { Digest } from "../../model/names.ts";
import type { Manifest, ManifestEntry } from "../../model/release.ts";
import { type CloudPaths, nodePaths } from "../paths.ts";
import { eachOf, removeTree } from "./tree.ts";

/** Release trees on disk: root-owned, entered only by root and the app's own group. */
export interface Layout {
  /** The tree's path; laid out on the first call, shared by concurrent ones. */
  ensure(
    manifest: Digest,
    app: { uidOffset: number; gid: number },
  ): Promise<Result<string, string>>;
  /** Removes the trees of an app that is gone. */
  forget(uidOffset: number): Promise<void>;
}

export function createLayout(paths: CloudPaths, blobs: Blobs, random: Random): Layout {
  const underWay = new Map<string, Promise<Result<string, string>>>();

  async function ensure(manifest: Digest, app: { uidOffset: number; gid: number }) {
    const tree = join(nodePaths.releasesOf(paths, app.uidOffset), manifest);
    const running = underWay.get(tree);
    if (running !== undefined) return running;
    const work = layOut(tree, manifest, app.gid).finally(() => underWay.delete(tree));
    underWay.set(tree, work);
    return work;
  }

  async function layOut(tree: string, digest: Digest, gid: number) {
    if (
      await stat(tree).then(
        () => true,
        () => false,
      )
    )
      return ok(tree);
    const read = await readManifest(blobs, digest);
    if (!read.ok) return read;
    await mkdir(dirname(tree), { recursive: true, mode: 0o755 });
    const partial = `${tree}.${random.token(8)}`;
    try {
      await mkdir(partial, { mode: 0o700 });
      await layDown(blobs, read.value, partial);
      await chown(partial, 0, gid);
      await chmod(partial, 0o750);
      await rename(partial, tree);
      return ok(tree);
    } catch (cause) {
      await removeTree(partial);
      return err(`laying out the release's files: ${reasonOf(cause)}`);
    }
  }

  return {
    ensure,
    forget: (uidOffset) => removeTree(nodePaths.releasesOf(paths, uidOffset)),
  };
}

/** A tree that is being laid out, by its name. */
export function isPartial(name: string): boolean {
  return name.includes(".");
}

async function readManifest(blobs: Blobs, digest: Digest): Promise<Result<Manifest, string>> {
  const blob = await blobs.read(digest);
  if (!blob.ok) return err(`reading the release's manifest: ${blob.error.message}`);
  try {
    const manifest = JSON.parse(new TextDecoder().decode(blob.value)) as Manifest;
    // Checked when it was uploaded; a node does not rely on that, nor on its shape.
    const checked = checkManifest(manifest);
    return checked.ok ? ok(manifest) : err(checked.error.message);
  } catch (cause) {
    return err(`the release's manifest cannot be read: ${reasonOf(cause)}`);
  }
}

async function layDown(blobs: Blobs, manifest: Manifest, root: string): Promise<void> {
  const folders = new Set<string>();
  for (const entry of manifest.entries) {
    const folder = entry.kind === "directory" ? entry.path : dirname(entry.path);
    if (folder !== ".") folders.add(folder);
  }
  for (const folder of folders) await mkdir(join(root, folder), { recursive: true, mode: 0o755 });
  await eachOf(manifest.entries, (entry) => layEntry(blobs, entry, root));
}

async function layEntry(blobs: Blobs, entry: ManifestEntry, root: string): Promise<void> {
  const path = join(root, entry.path);
  if (entry.kind === "symlink") await symlink(entry.target, path);
  if (entry.kind !== "file") return;
  const laid = await blobs.materialise(entry.digest, path, { executable: entry.executable });
  if (!laid.ok) throw new Error(`${entry.path}: ${laid.error.message}`);
}

export function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
