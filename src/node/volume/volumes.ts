import { chmodSync, chownSync, mkdirSync, statSync } from "node:fs";
import { posix } from "node:path";
import { type CloudPaths, nodePaths } from "../paths.ts";
import { limitSubvolume, makeSubvolume, removeSubvolume } from "./subvolumes.ts";

export interface VolumeOwner {
  readonly project: string;
  readonly app: string;
  /** Host uid and gid of the app. */
  readonly uid: number;
}

/**
 * The app's HOME, which may hold `bytesMax` bytes; made when it is not there. One of another
 * owner is what a removed app of this name left.
 */
export function ensureVolume(
  paths: CloudPaths,
  { project, app, uid }: VolumeOwner,
  bytesMax: number,
): string {
  const volume = nodePaths.volumeOf(paths, project, app);
  const found = statSync(volume, { throwIfNoEntry: false });
  if (found?.uid !== uid) {
    if (found !== undefined) removeSubvolume(volume);
    const folder = posix.dirname(volume);
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o711);
    makeSubvolume(volume);
    chmodSync(volume, 0o700);
    chownSync(volume, uid, uid);
  }
  limitSubvolume(volume, bytesMax);
  return volume;
}
