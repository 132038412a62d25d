import { dlopen, type Pointer, ptr } from "bun:ffi";
import { closeSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";
import {
  allowedCalls,
  deniedCalls,
  deniedRequests,
  namespaceFlags,
  personalities,
  sockets,
} from "./system-calls.ts";

const errnoNotPermitted = 1;
const errnoNotImplemented = 38;
const actionAllow = 0x7fff_0000;
const actionErrno = 0x0005_0000;

/** `enum scmp_compare`. */
const comparison = { equal: 4, maskedEqual: 7 } as const;

/** `struct scmp_arg_cmp`: for `maskedEqual`, `a` is the mask and `b` the value. */
interface ArgumentTest {
  readonly index: number;
  readonly compare: number;
  readonly a: bigint;
  readonly b: bigint;
}

/**
 * Writes the filter as BPF for bubblewrap's `--seccomp FD`. Only the machine's own
 * architecture is known to it: 32-bit and x32 calls kill the program.
 */
export function writeSeccompFilter(path: string): Result<null, string> {
  const library = openLibrary();
  if (!library.ok) return library;
  const call = library.value.symbols;
  const context = call.seccomp_init(actionErrno | errnoNotImplemented);
  if (context === null) return err("libseccomp: seccomp_init failed");
  const partial = `${path}.part`;
  const descriptor = openSync(partial, "w+", 0o600);
  try {
    const optimise = { attribute: 8, binaryTree: 2 };
    call.seccomp_attr_set(context, optimise.attribute, optimise.binaryTree);
    const refused = addRules(call, context);
    if (refused !== null) return err(`libseccomp refused the rule for ${refused}`);
    const exported = call.seccomp_export_bpf(context, descriptor);
    if (exported !== 0) return err(`libseccomp: seccomp_export_bpf failed (${exported})`);
    const program = readFileSync(partial);
    writeFileSync(partial, Buffer.concat([requestGuard(), program]));
    renameSync(partial, path);
    return ok(null);
  } finally {
    closeSync(descriptor);
    call.seccomp_release(context);
    library.value.close();
  }
}

function openLibrary() {
  try {
    return ok(
      dlopen("libseccomp.so.2", {
        seccomp_init: { args: ["u32"], returns: "ptr" },
        seccomp_release: { args: ["ptr"], returns: "void" },
        seccomp_attr_set: { args: ["ptr", "i32", "u32"], returns: "i32" },
        seccomp_syscall_resolve_name: { args: ["ptr"], returns: "i32" },
        seccomp_rule_add_array: { args: ["ptr", "u32", "i32", "u32", "ptr"], returns: "i32" },
        seccomp_export_bpf: { args: ["ptr", "i32"], returns: "i32" },
      }),
    );
  } catch {
    return err("libseccomp.so.2 cannot be loaded: apt install libseccomp2");
  }
}

type Library = Extract<ReturnType<typeof openLibrary>, { ok: true }>["value"]["symbols"];

/** The name of the call whose rule was refused, or null. */
function addRules(call: Library, context: Pointer | bigint): string | null {
  const rules: (readonly [name: string, action: number, tests: readonly ArgumentTest[]])[] = [
    ...allowedCalls.map((name) => [name, actionAllow, []] as const),
    ...deniedCalls.map((name) => [name, actionErrno | errnoNotPermitted, []] as const),
    ["clone", actionAllow, [masked(0, BigInt(namespaceFlags), 0n)]],
    ...personalities.map((value) => ["personality", actionAllow, [equal(0, value)]] as const),
    ...sockets.map(({ family, type }) => {
      const kind = type === null ? equal(2, 0n) : masked(1, 0xfn, BigInt(type));
      return ["socket", actionAllow, [equal(0, BigInt(family)), kind]] as const;
    }),
  ];
  for (const [name, action, tests] of rules) {
    const number = call.seccomp_syscall_resolve_name(ptr(Buffer.from(`${name}\0`)));
    if (number < 0) continue;
    const array = encodeTests(tests);
    const pointer = tests.length === 0 ? null : ptr(array);
    const added = call.seccomp_rule_add_array(context, action, number, tests.length, pointer);
    if (added !== 0) return `${name} (${added})`;
  }
  return null;
}

function equal(index: number, value: bigint): ArgumentTest {
  return { index, compare: comparison.equal, a: value, b: 0n };
}

function masked(index: number, mask: bigint, value: bigint): ArgumentTest {
  return { index, compare: comparison.maskedEqual, a: mask, b: value };
}

function encodeTests(tests: readonly ArgumentTest[]): Uint8Array {
  const testBytes = 24;
  const view = new DataView(new ArrayBuffer(testBytes * Math.max(tests.length, 1)));
  for (const [at, test] of tests.entries()) {
    view.setUint32(at * testBytes, test.index, true);
    view.setUint32(at * testBytes + 4, test.compare, true);
    view.setBigUint64(at * testBytes + 8, test.a, true);
    view.setBigUint64(at * testBytes + 16, test.b, true);
  }
  return new Uint8Array(view.buffer);
}

/**
 * Instructions put before libseccomp's program (BPF jumps are relative): refuses requests of
 * ioctl(2) by the low half of its argument alone. The kernel looks at no more,
 * and an allowlist that compares all 64 bits lets `1<<32 | TIOCSTI` through.
 */
function requestGuard(): Uint8Array {
  const { architecture, ioctl } =
    process.arch === "arm64"
      ? { architecture: 0xc000_00b7, ioctl: 29 }
      : { architecture: 0xc000_003e, ioctl: 16 };
  const loadWord = 0x20;
  const jumpIfEqual = 0x15;
  const give = 0x06;
  const offset = { number: 0, architecture: 4, secondArgumentLow: 24 };
  const count = deniedRequests.length;
  const instructions: (readonly [code: number, yes: number, no: number, value: number])[] = [
    [loadWord, 0, 0, offset.architecture],
    [jumpIfEqual, 0, count + 4, architecture],
    [loadWord, 0, 0, offset.number],
    [jumpIfEqual, 0, count + 2, ioctl],
    [loadWord, 0, 0, offset.secondArgumentLow],
    ...deniedRequests.map(
      (request, at) => [jumpIfEqual, count - 1 - at, at === count - 1 ? 1 : 0, request] as const,
    ),
    [give, 0, 0, actionErrno | errnoNotPermitted],
  ];
  const view = new DataView(new ArrayBuffer(8 * instructions.length));
  for (const [at, [code, yes, no, value]] of instructions.entries()) {
    view.setUint16(at * 8, code, true);
    view.setUint8(at * 8 + 2, yes);
    view.setUint8(at * 8 + 3, no);
    view.setUint32(at * 8 + 4, value, true);
  }
  return new Uint8Array(view.buffer);
}
