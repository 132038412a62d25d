import { mkdirSync, readdirSync, rmSync, statfsSync, statSync } from "node:fs";
import { err, ok, type Result } from "../base/result.ts";
import { describe, mount, unmount } from "./linux/libc.ts";
import { type CloudPaths, dataPaths } from "./paths.ts";

const tmpfsType = 0x0102_1994;
const noSuid = 2;
const noDevices = 4;
const noPrograms = 8;

/**
 * Makes the cloud's run directory (`paths.run`). A wake makes four files in it, which takes a
 * tmpfs 0.05 ms and ext4 3 ms; so where /run is no tmpfs, as on some virtual machines, the
 * directory becomes one of its own. One that an earlier lode left stays as it is. Where that
 * cannot be mounted wakes are slower and otherwise the same.
 *
 * Apps make their sockets below it, so they could fill it, and with it the host's /run. Sockets
 * lie on a tmpfs of one page: they need no pages, and files get none. Their number has no limit
 * of its own, because each costs memory that the kernel takes from its maker's share: only so can
 * no app take what another needs.
 */
export function makeRunDirectory(paths: CloudPaths): Result<void, string> {
  mkdirSync(paths.run, { recursive: true, mode: 0o711 });
  if (!isTmpfs(paths.run) && readdirSync(paths.run).length === 0) {
    mount("lode", paths.run, "tmpfs", noSuid | noDevices, "mode=0711");
  }
  const sockets = dataPaths.sockets(paths);
  mkdirSync(sockets, { recursive: true, mode: 0o711 });
  if (statSync(sockets).dev !== statSync(paths.run).dev) return ok(undefined);
  const flags = noSuid | noDevices | noPrograms;
  const mounted = mount("lode", sockets, "tmpfs", flags, "mode=0711,size=4k,nr_inodes=0");
  return mounted.ok ? ok(undefined) : err(describe(mounted.error));
}

export function removeRunDirectory(paths: CloudPaths): void {
  unmount(dataPaths.sockets(paths));
  // Fails where it is no mount of its own.
  unmount(paths.run);
  rmSync(paths.run, { recursive: true, force: true });
}

function isTmpfs(path: string): boolean {
  return statfsSync(path).type === tmpfsType;
}
