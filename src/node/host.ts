import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import { isPartial } from "./drivers/layout.ts";
import type { HostTools } from "./drivers/specification.ts";
import { checkLogStorage } from "./logs/app-logs.ts";
import { type CloudPaths, dataPaths, nodePaths } from "./paths.ts";
import { installTools } from "./runtime/tools.ts";
import { openDisk } from "./volume/disk.ts";
import { limitSubvolume, makeSubvolume } from "./volume/subvolumes.ts";

/** Makes the node's folders, with who may enter them, and what sandboxes share. */
export async function prepareHost(paths: CloudPaths): Promise<Result<HostTools, string>> {
  // Apps pass through these to what is theirs, and can list none of them.
  const passed = [
    nodePaths.disk(paths),
    nodePaths.releases(paths),
    nodePaths.buildArea(paths),
    nodePaths.layers(paths),
    nodePaths.volumes(paths),
    nodePaths.builds(paths),
    paths.run,
    dataPaths.sockets(paths),
    nodePaths.instanceSockets(paths),
  ];
  for (const folder of [paths.data, dataPaths.node(paths)]) makeFolder(folder, 0o711);
  const disk = openDisk(paths);
  if (!disk.ok) return disk;
  prepareBuildArea(paths);
  rmSync(nodePaths.builds(paths), { recursive: true, force: true });
  removePartialTrees(nodePaths.releases(paths));
  for (const folder of passed) makeFolder(folder, 0o711);
  for (const folder of [nodePaths.instances(paths), nodePaths.logs(paths)])
    makeFolder(folder, 0o700);
  makeFolder(nodePaths.statuses(paths), 0o700);
  // Gateways are shown this folder and nothing above it.
  makeFolder(dataPaths.appSockets(paths), 0o711);
  const closed = closedFolder(paths.data);
  if (closed !== null) {
    return err(
      `apps cannot reach their files: only its owner may enter ${closed}; ` +
        `choose another data directory, or run "chmod o+x ${closed}"`,
    );
  }
  const logs = await checkLogStorage(paths);
  return logs.ok ? ok(installTools(nodePaths.runtime(paths))) : logs;
}

/** Builds and their layers get half of what apps may write. */
function prepareBuildArea(paths: CloudPaths): void {
  const area = nodePaths.buildArea(paths);
  if (!existsSync(area)) makeSubvolume(area);
  const { blocks, bsize } = statfsSync(nodePaths.disk(paths));
  limitSubvolume(area, Math.floor((blocks * bsize) / 2));
}

/** What a lode that was killed had begun to lay out. */
function removePartialTrees(releases: string): void {
  for (const app of existsSync(releases) ? readdirSync(releases) : []) {
    for (const tree of readdirSync(join(releases, app)).filter(isPartial)) {
      rmSync(join(releases, app, tree), { recursive: true, force: true });
    }
  }
}

function makeFolder(path: string, mode: number): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}

/** The first folder above `path` that others may not pass through. */
function closedFolder(path: string): string | null {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return folder;
    if (folder === dirname(folder)) return null;
  }
}
