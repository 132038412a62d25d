import { dlopen, ptr, read } from "bun:ffi";
import { err, ok, type Result } from "../../base/result.ts";

const library = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: "ptr" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  chroot: { args: ["ptr"], returns: "i32" },
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  epoll_wait: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  fchdir: { args: ["i32"], returns: "i32" },
  flock: { args: ["i32", "i32"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "u64"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  lseek: { args: ["i32", "i64", "i32"], returns: "i64" },
  memfd_create: { args: ["ptr", "u32"], returns: "i32" },
  mount: { args: ["ptr", "ptr", "ptr", "u64", "ptr"], returns: "i32" },
  pipe2: { args: ["ptr", "i32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: "i64" },
  setns: { args: ["i32", "i32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64"], returns: "i64" },
  unshare: { args: ["i32"], returns: "i32" },
  umount2: { args: ["ptr", "i32"], returns: "i32" },
});

/** libc as it is: a negative result means `errno` tells why. Wrap calls in `attempt`. */
export const libc = library.symbols;

/** System calls that libc has no function for (x86-64 and arm64 differ below 424). */
const newSystemCalls = { pidfdSendSignal: 424, pidfdOpen: 434 } as const;
const oldSystemCalls = {
  x64: { ioSetup: 206, ioDestroy: 207, ioGetevents: 208, ioSubmit: 209 },
  arm64: { ioSetup: 0, ioDestroy: 1, ioGetevents: 4, ioSubmit: 2 },
} as const;

export const systemCalls = {
  ...newSystemCalls,
  ...oldSystemCalls[process.arch === "arm64" ? "arm64" : "x64"],
};

/** The calls of this folder fail with these; anything else is shown by its number. */
const errorNames: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  16: "EBUSY",
  17: "EEXIST",
  22: "EINVAL",
  24: "EMFILE",
  38: "ENOSYS",
  97: "EAFNOSUPPORT",
  98: "EADDRINUSE",
  99: "EADDRNOTAVAIL",
};

/** A failed system call: what was called, and the kernel's name of the error. */
export interface SystemError {
  readonly call: string;
  readonly code: string;
}

export function describe(error: SystemError): string {
  return `${error.call}: ${error.code}`;
}

/** Turns a C result into a value; `errno` is read before anything else can change it. */
export function attempt(call: string, result: number | bigint): Result<number, SystemError> {
  if (result >= 0) return ok(Number(result));
  const location = libc.__errno_location();
  const errno = location === null ? 0 : read.i32(location, 0);
  return err({ call, code: errorNames[errno] ?? `errno ${errno}` });
}

/** For calls that can only fail when the machine is out of something or we are wrong. */
export function must(call: string, result: number | bigint): number {
  const value = attempt(call, result);
  if (!value.ok) throw new Error(describe(value.error));
  return value.value;
}

/** A NUL-terminated string; keep the array alive until the call is over. */
export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

/** `mount(2)` with text arguments; `data` null for none. */
export function mount(
  source: string,
  target: string,
  type: string,
  flags: number,
  data: string | null,
): Result<number, SystemError> {
  const [from, to, kind] = [cString(source), cString(target), cString(type)];
  const options = data === null ? null : cString(data);
  const optionsPointer = options === null ? null : ptr(options);
  const result = libc.mount(ptr(from), ptr(to), ptr(kind), BigInt(flags), optionsPointer);
  return attempt(`mount ${type} at ${target}`, result);
}

/** `umount2(2)`, lazily: nothing can hold it. */
export function unmount(target: string): Result<number, SystemError> {
  const detach = 2;
  return attempt(`unmount ${target}`, libc.umount2(ptr(cString(target)), detach));
}
