import { ptr } from "bun:ffi";
import { writeSync } from "node:fs";
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

/** Hard limit on open files of this process, what its children may have at most. */
export function openFilesMax(): number {
  const openFiles = 7;
  const limits = new BigUint64Array(2);
  must("getrlimit", libc.getrlimit(openFiles, ptr(limits)));
  return Number(limits[1]);
}
