import { ptr } from "bun:ffi";
import { closeSync, existsSync, openSync, rmSync } from "node:fs";
import { posix } from "node:path";
import { assert } from "../../base/assert.ts";
import { attempt, describe, libc } from "../linux/libc.ts";

// Calls of include/uapi/linux/btrfs.h that libc has no function for.

const nameArgumentBytes = 4096;
const calls = {
  create: write(14, nameArgumentBytes),
  destroy: write(15, nameArgumentBytes),
  quotaControl: readWrite(40, 16),
  quotaLimit: read(43, 48),
} as const;

/**
 * Counts what each subvolume holds from here on. Simple quotas (Linux 6.7) cost less than the
 * full ones; both keep the same limits. Says why when the file system has neither.
 */
export function enableQuotas(mountPoint: string): string | null {
  const simple = 4n;
  const full = 1n;
  let problem: string | null = null;
  for (const command of [simple, full]) {
    problem = control(mountPoint, calls.quotaControl, new BigUint64Array([command, 0n]));
    if (problem === null) return null;
  }
  return problem;
}

/** A folder with an account of its own for what lies below it; its parent must exist. */
export function makeSubvolume(path: string): void {
  must(path, control(posix.dirname(path), calls.create, nameArgument(path)));
}

/** Bytes that it may hold at most, data and metadata together; counts what is there already. */
export function limitSubvolume(path: string, bytesMax: number): void {
  const ownAccount = 0n;
  const referencedMax = 1n;
  const request = [ownAccount, referencedMax, BigInt(bytesMax), 0n, 0n, 0n];
  must(path, control(path, calls.quotaLimit, new BigUint64Array(request)));
}

/**
 * With everything in it, at once; the space comes back in the background. A plain folder, which
 * is none of ours, goes file by file.
 */
export function removeSubvolume(path: string): void {
  if (!existsSync(path)) return;
  const problem = control(posix.dirname(path), calls.destroy, nameArgument(path));
  if (problem !== null) rmSync(path, { recursive: true });
}

function must(path: string, problem: string | null): void {
  if (problem !== null) throw new Error(`volume ${path}: ${problem}`);
}

function control(directory: string, call: bigint, argument: ArrayBufferView): string | null {
  const descriptor = openSync(directory, "r");
  try {
    const bytes = argument as Uint8Array;
    const done = attempt("ioctl", libc.ioctl(descriptor, call, BigInt(ptr(bytes))));
    return done.ok ? null : describe(done.error);
  } finally {
    closeSync(descriptor);
  }
}

/** `struct btrfs_ioctl_vol_args`: a descriptor that these calls do not use, and a name. */
function nameArgument(path: string): Uint8Array {
  const name = new TextEncoder().encode(posix.basename(path));
  assert(name.length <= 255, `a volume's name has ${name.length} bytes`);
  const argument = new Uint8Array(nameArgumentBytes);
  argument.set(name, 8);
  return argument;
}

function write(number: number, size: number): bigint {
  return request(1n, number, size);
}

function read(number: number, size: number): bigint {
  return request(2n, number, size);
}

function readWrite(number: number, size: number): bigint {
  return request(3n, number, size);
}

/** `_IOC(direction, BTRFS_IOCTL_MAGIC, number, size)`. */
function request(direction: bigint, number: number, size: number): bigint {
  return (direction << 30n) | (BigInt(size) << 16n) | (0x94n << 8n) | BigInt(number);
}
