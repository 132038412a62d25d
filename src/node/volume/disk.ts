import { ptr } from "bun:ffi";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { attempt, cString, describe, libc, unmount } from "../linux/libc.ts";
import { type CloudPaths, nodePaths } from "../paths.ts";
import { enableQuotas } from "./subvolumes.ts";

// What apps write lies on a file system of the cloud's own: one sparse image file, mounted once
// for all apps, whose subvolumes have limits. So no app can fill the machine's disk, nor
// another's share, whatever file system the data directory lies on.
//
//   no image ─open→ made → mounted ─lode ends→ mounted (apps go on) ─open→ taken over
//                            └─close (lode down)→ unmounted, the image stays
//
// One mount for all, not one per app: every mount of the host makes every launch slower
// (decision 6), and a mount of its own would cost each app half a megabyte.

/** Left to the machine of what is free when the image is made. */
const machineShare = 0.2;
const imageBytesMin = 256 * 1024 ** 2;
/** Data is overwritten in place: databases write more than they append. */
const mountOptions = "loop,nodev,nosuid,noatime,nodatacow";

/** Mounts the disk of the cloud's apps, which is made when it is not there. */
export function openDisk(paths: CloudPaths): Result<void, string> {
  const image = nodePaths.diskImage(paths);
  const mountPoint = nodePaths.disk(paths);
  if (isMounted(mountPoint)) return ok(undefined);
  const made = existsSync(image) ? ok(undefined) : makeImage(paths, image);
  if (!made.ok) return made;
  mkdirSync(mountPoint, { recursive: true });
  const mounted = run(["mount", "-t", "btrfs", "-o", mountOptions, image, mountPoint]);
  if (!mounted.ok) {
    return err(
      `the disk of apps (${image}) cannot be mounted: ${mounted.error}; it needs loop devices ` +
        "and btrfs in the kernel: modprobe loop btrfs",
    );
  }
  const problem = enableQuotas(mountPoint);
  if (problem === null) return ok(undefined);
  unmount(mountPoint);
  return err(`the disk of apps (${image}) cannot limit what an app writes: ${problem}`);
}

/**
 * No app may run any more. Whatever has just ended may hold the mount for a moment; the kernel
 * gives the loop device back by itself, once nothing holds the mount.
 */
export async function closeDisk(paths: CloudPaths): Promise<void> {
  const mountPoint = nodePaths.disk(paths);
  const path = cString(mountPoint);
  const attempts = 200;
  for (let left = attempts; isMounted(mountPoint); left--) {
    const done = attempt(`unmount ${mountPoint}`, libc.umount2(ptr(path), 0));
    if (done.ok) continue;
    if (left === 0) throw new Error(describe(done.error));
    await pause(20);
  }
  const image = nodePaths.diskImage(paths);
  for (let left = attempts; left > 0 && isAttached(image); left--) await pause(20);
}

function isAttached(image: string): boolean {
  const devices = readdirSync("/sys/block").filter((name) => name.startsWith("loop"));
  return devices.some((name) => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").trim() === image;
    } catch {
      return false;
    }
  });
}

function makeImage(paths: CloudPaths, image: string): Result<void, string> {
  const { bavail, bsize } = statfsSync(paths.data);
  const mebibyte = 1024 ** 2;
  const bytes = Math.floor((bavail * bsize * (1 - machineShare)) / mebibyte) * mebibyte;
  if (bytes < imageBytesMin) {
    const free = formatBytes(bavail * bsize);
    return err(`${paths.data} has ${free} free, too little for what apps write: make room`);
  }
  const partial = `${image}.part`;
  writeFileSync(partial, "", { mode: 0o600 });
  truncateSync(partial, bytes);
  const made = run(["mkfs.btrfs", "--quiet", "--nodiscard", "-m", "single", partial]);
  if (made.ok) renameSync(partial, image);
  else rmSync(partial);
  return made.ok ? ok(undefined) : err(`the disk of apps cannot be made: ${made.error}`);
}

function isMounted(path: string): boolean {
  return readFileSync("/proc/self/mountinfo", "utf8").includes(` ${path} `);
}

function run(argv: readonly [string, ...string[]]): Result<void, string> {
  const found = Bun.which(argv[0], { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" });
  if (found === null) return err(`${argv[0]} is missing: apt install btrfs-progs mount`);
  const child = Bun.spawnSync([found, ...argv.slice(1)], { stdout: "ignore", stderr: "pipe" });
  if (child.exitCode === 0) return ok(undefined);
  const said = child.stderr.toString().trim().split("\n")[0] ?? "";
  return err(said === "" ? `${argv[0]} ended with ${child.exitCode}` : said);
}
