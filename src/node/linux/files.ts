import { ptr } from "bun:ffi";
import { writeSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { attempt, cString, libc, must, type SystemError } from "./libc.ts";

/**
 * Takes an exclusive advisory lock on an open file, for as long as the descriptor lives.
 * EAGAIN: another process holds it.
 */
export function lockDescriptor(descriptor: number): Result<null, SystemError> {
  const exclusiveNonBlocking = 2 | 4;
  const locked = attempt("flock", libc.flock(descriptor, exclusiveNonBlocking));
  return locked.ok ? ok(null) : err(locked.error);
}

/** An anonymous file with this content, read position at its start, close-on-exec. */
export function memoryFile(content: Uint8Array): number {
  const closeOnExec = 1;
  const name = cString("lode");
  const descriptor = must("memfd_create", libc.memfd_create(ptr(name), closeOnExec));
  let written = 0;
  while (written < content.length) written += writeSync(descriptor, content, written);
  must("lseek", libc.lseek(descriptor, 0, 0));
  return descriptor;
}

/** A pipe, both ends close-on-exec. */
export function makePipe(): { readonly read: number; readonly write: number } {
  const closeOnExec = 0x8_0000;
  const ends = new Int32Array(2);
  must("pipe2", libc.pipe2(ptr(ends), closeOnExec));
  const [read, write] = ends;
  assert(read !== undefined && write !== undefined, "pipe2 gives two descriptors");
  return { read, write };
}

/** What children of this process may have at most, without CAP_SYS_RESOURCE. */
export function hardLimits(): { readonly openFiles: number; readonly lockedBytes: number } {
  return { openFiles: hardLimit(7), lockedBytes: hardLimit(8) };
}

/** `resource` as getrlimit(2) numbers it; unlimited is 2^64 - 1. */
function hardLimit(resource: number): number {
  const limits = new BigUint64Array(2);
  must("getrlimit", libc.getrlimit(resource, ptr(limits)));
  return Number(limits[1]);
}
