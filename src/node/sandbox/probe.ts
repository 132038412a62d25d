/**
 * What a sandboxed program finds out about its own cage, as the source of a module without
 * imports of ours, because it runs alone inside (`bun -e`). Arguments: an address and a port
 * of the node that listens. Prints one JSON object of `ProbeReport`.
 */
export const probeSource = String.raw`
import { dlopen, ptr } from "bun:ffi";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
const libc = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64"], returns: "i64" },
  __errno_location: { args: [], returns: "ptr" },
});
const { read } = await import("bun:ffi");
const call = (number, ...args) => {
  const full = [...args, 0, 0, 0, 0, 0].slice(0, 5).map(BigInt);
  if (libc.symbols.syscall(BigInt(number), ...full) >= 0n) return 0;
  return read.i32(libc.symbols.__errno_location(), 0);
};
const succeeds = (action) => { try { action(); return true; } catch { return false; } };
const status = readFileSync("/proc/self/status", "utf8");
const field = (name) => new RegExp(name + ":\\s+(\\S+)").exec(status)?.[1];
const x64 = process.arch === "x64";
const terminalPush = 0x5412n;
const [address, port] = process.argv.slice(1);
const reached = await new Promise((resolve) => {
  if (address === undefined) return resolve(false);
  const socket = connect(Number(port), address, () => resolve(true));
  socket.on("error", () => resolve(false));
  setTimeout(() => resolve(false), 500);
});
console.log(JSON.stringify({
  uid: process.getuid(),
  capabilities: field("CapEff"),
  noNewPrivileges: field("NoNewPrivs"),
  seccomp: field("Seccomp"),
  processes: readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length,
  writableProc: succeeds(() => writeFileSync("/proc/sys/kernel/core_pattern", "x")),
  writableRoot: succeeds(() => writeFileSync("/lode-probe", "")),
  writableUsr: succeeds(() => writeFileSync("/usr/lode-probe", "")),
  readableMasks: ["kcore", "keys", "kallsyms", "timer_list", "sysrq-trigger"].filter((name) =>
    succeeds(() => readFileSync("/proc/" + name))),
  sys: existsSync("/sys/kernel"),
  secrets: ["/etc/shadow", "/root", "/home/root", "/var/lib"].filter(existsSync),
  errors: {
    unshare: call(x64 ? 272 : 97, 0x10000000),
    mount: call(x64 ? 165 : 40),
    keyctl: call(x64 ? 250 : 219, 0),
    ptrace: call(x64 ? 101 : 117, 0),
    bpf: call(x64 ? 321 : 280, 0),
    ioUring: call(425, 1),
    clone3: call(435),
    packetSocket: call(x64 ? 41 : 198, 17, 3, 0),
    rawSocket: call(x64 ? 41 : 198, 2, 3, 1),
    terminalPush: call(x64 ? 16 : 29, 0, terminalPush),
    terminalPushHighBits: call(x64 ? 16 : 29, 0, (1n << 32n) | terminalPush),
  },
  reached,
}));
process.exit(0);
`;

/** Errors are errno numbers, 0 for a call that succeeded. */
export interface ProbeReport {
  readonly uid: number;
  readonly capabilities: string;
  readonly noNewPrivileges: string;
  readonly seccomp: string;
  readonly processes: number;
  readonly writableProc: boolean;
  readonly writableRoot: boolean;
  readonly writableUsr: boolean;
  readonly readableMasks: readonly string[];
  readonly sys: boolean;
  readonly secrets: readonly string[];
  readonly errors: Readonly<Record<string, number>>;
  readonly reached: boolean;
}

const notPermitted = 1;
const notImplemented = 38;

/** The first protection that does not hold, as a sentence; null when all do. */
export function judgeProbe(report: ProbeReport): string | null {
  if (report.uid === 0) return "a program is root inside its sandbox";
  if (/[^0]/.test(report.capabilities)) return `a program has capabilities ${report.capabilities}`;
  if (report.noNewPrivileges !== "1") return "a program can gain privileges by setuid files";
  if (report.seccomp !== "2") return "the seccomp filter is not in force";
  if (report.processes > 10) return "a program sees the host's processes";
  if (report.writableProc) return "a program can write /proc/sys/kernel/core_pattern";
  if (report.writableRoot || report.writableUsr) return "a program can write system directories";
  if (report.readableMasks.length > 0) return `/proc/${report.readableMasks[0]} is readable`;
  if (report.sys) return "/sys is visible";
  if (report.secrets.length > 0) return `${report.secrets[0]} of the host is visible`;
  for (const [name, error] of Object.entries(report.errors)) {
    if (error !== notPermitted && error !== notImplemented) {
      return `the system call ${name} is not refused by seccomp (errno ${error})`;
    }
  }
  return report.reached ? "a program can reach a port of the node" : null;
}
