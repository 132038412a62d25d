import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { getSystemErrorName } from "node:util";

/** Addresses are numbers: of memory by `addressOf`. */
const library = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: "ptr" },
  accept4: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  epoll_wait: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  inet_ntop: { args: ["i32", "ptr", "ptr", "u32"], returns: "ptr" },
  inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  recv: { args: ["i32", "ptr", FFIType.u64_fast, "i32"], returns: FFIType.i64_fast },
  send: { args: ["i32", "ptr", FFIType.u64_fast, "i32"], returns: FFIType.i64_fast },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  shutdown: { args: ["i32", "i32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
});

type Calls = {
  readonly [name in keyof typeof library.symbols]-?: (...args: number[]) => number;
};

/** As in the manual's section 2; failures are negative, and told by `errorNumber`. */
export const calls = library.symbols as unknown as Calls;

/** <asm-generic/errno.h> */
export const errno = { again: 11, invalid: 22, inProgress: 115 } as const;

/** Why the last call failed; to be asked at once. */
export function errorNumber(): number {
  return read.i32(calls.__errno_location() as never, 0);
}

/** ECONNREFUSED and the like. */
export const errorName = (number: number): string => getSystemErrorName(-number);

/**
 * Memory whose address the kernel may be given once for all. A small typed array has none: it lies
 * in the collector's heap, and moves when a function that uses it is compiled.
 */
export class FixedBytes {
  readonly buffer: Buffer;
  readonly address: number;

  constructor(length: number) {
    this.buffer = Buffer.from(new ArrayBuffer(length));
    this.address = addressOf(this.buffer);
  }
}

/** Good for the very next call. */
export const addressOf = (bytes: Uint8Array): number => ptr(bytes) as unknown as number;
