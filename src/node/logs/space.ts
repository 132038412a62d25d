import { closeSync, openSync } from "node:fs";
import { attempt, libc } from "../linux/libc.ts";

const fallocateCall = process.arch === "arm64" ? 47 : 285;
/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */
const punchHole = 1 | 2;

/**
 * Gives the disk space of a file's first `bytes` back; its length and all offsets stay. False
 * where the file system has no holes (ext4, xfs, btrfs and tmpfs have).
 */
export function freeHead(path: string, bytes: number): boolean {
  const descriptor = openSync(path, "r+");
  const freed = attempt(
    "fallocate",
    libc.syscall(fallocateCall, descriptor, punchHole, 0, bytes, 0),
  );
  closeSync(descriptor);
  return freed.ok;
}
