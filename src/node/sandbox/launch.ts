import { posix } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { BindMount, SandboxSpec } from "./sandbox.ts";

/** What a launch takes from the machine: read once, the same for every instance. */
export interface HostView {
  readonly bubblewrap: string;
  /** The /etc of sandboxes, made by `etc.ts`. */
  readonly etcDirectory: string;
  /** `/bin`, `/lib`…: links into /usr on a merged-usr system, else directories to bind. */
  readonly systemLinks: readonly { readonly path: string; readonly target: string }[];
  readonly systemDirectories: readonly string[];
  /** Those of `procMasks` and `procReadOnly` that this kernel has. */
  readonly procMasks: readonly string[];
  readonly procReadOnly: readonly string[];
}

/** Of /proc, unreadable inside: they tell of the host or act on it. */
export const procMasks: readonly string[] = [
  "/proc/kcore",
  "/proc/keys",
  "/proc/kallsyms",
  "/proc/timer_list",
  "/proc/sysrq-trigger",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/config.gz",
];

/** Of /proc, read-only inside. A non-root uid is refused most of it anyway. */
export const procReadOnly: readonly string[] = ["/proc/sys"];

/** Descriptors of the chain, by the number bubblewrap finds them under. */
export interface ChainDescriptors {
  readonly status: number;
  readonly seccomp: number;
  readonly hosts: number;
  /** For a second program: the app's user namespaces (outer, inner) and pid namespace. */
  readonly join: { readonly outer: number; readonly inner: number; readonly pids: number } | null;
}

/** Everyone is this user inside; the host's uid differs per app. */
export const insideUser = { uid: 1000, name: "app" } as const;

const runBytes = 64 * 1024 * 1024;

/** Places a bind may not be, at or below: what the sandbox itself puts there. */
const reserved = ["/proc", "/dev", "/sys", "/etc", "/usr", "/bin", "/sbin"] as const;
const reservedLibrary = /^\/lib[^/]*(\/|$)/;

/**
 * bubblewrap's arguments for `spec`, a pure function of its inputs, for `--args FD` so that
 * no secret shows in /proc/PID/cmdline. The error names the field to mend.
 *
 * Order carries the safety: every mount point is made on the fresh root before anything of
 * the app is mounted, because bubblewrap 0.8 follows symlinks of a bind source when it makes
 * a mount point; so none is made below a writable bind.
 */
export function bubblewrapArguments(
  host: HostView,
  spec: SandboxSpec,
  descriptors: ChainDescriptors,
): Result<readonly string[], string> {
  const problem = findProblem(spec);
  if (problem !== null) return err(problem);
  return ok([
    ...namespaces(spec, descriptors),
    ...["--hostname", spec.hostname, "--cap-drop", "ALL", "--new-session"],
    ...["--seccomp", String(descriptors.seccomp)],
    ...["--json-status-fd", String(descriptors.status)],
    ...mountPoints(spec),
    ...system(host),
    ...writableMemory(spec, descriptors),
    ...spec.binds.flatMap(bind),
    ...["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", spec.workingDirectory],
    "--clearenv",
    ...Object.entries(spec.env).flatMap(([name, value]) => ["--setenv", name, value]),
  ]);
}

/**
 * Put before a second program's argv: closes the namespaces' descriptors, which bubblewrap
 * leaves open.
 */
export function enterWrapper(join: NonNullable<ChainDescriptors["join"]>): readonly string[] {
  const closes = [join.outer, join.inner, join.pids].map((number) => `${number}<&-`);
  return ["/bin/sh", "-c", `exec "$@" ${closes.join(" ")}`, "lode"];
}

function namespaces(spec: SandboxSpec, { join }: ChainDescriptors): string[] {
  const shared = ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup"];
  if (join !== null) {
    const users = ["--userns", String(join.outer), "--userns2", String(join.inner)];
    return [...users, "--pidns", String(join.pids), ...shared];
  }
  const user = String(insideUser.uid);
  return [
    ...["--unshare-user", "--uid", user, "--gid", user, "--disable-userns"],
    ...["--unshare-pid", ...shared],
    ...(spec.network === "none" ? ["--unshare-net"] : []),
  ];
}

/** Directories above every bind's destination that lie on the root itself. */
function mountPoints(spec: SandboxSpec): string[] {
  const onRoot = spec.binds
    .filter(({ destination }) => !isBelow(destination, ["/tmp", "/run"]))
    .filter(({ destination }, at) => !isBelow(destination, destinationsBefore(spec, at)))
    .map(({ destination }) => posix.dirname(destination))
    .filter((directory) => directory !== "/");
  return [...new Set(onRoot)].flatMap((directory) => ["--dir", directory]);
}

function system(host: HostView): string[] {
  return [
    ...["--ro-bind", "/usr", "/usr", "--ro-bind", host.etcDirectory, "/etc"],
    ...host.systemLinks.flatMap(({ path, target }) => ["--symlink", target, path]),
    ...host.systemDirectories.flatMap((path) => ["--ro-bind", path, path]),
    ...["--proc", "/proc"],
    ...host.procReadOnly.flatMap((path) => ["--ro-bind", path, path]),
    // bubblewrap binds it nodev, so opening it is refused.
    ...host.procMasks.flatMap((path) => ["--ro-bind", "/dev/null", path]),
    ...["--dev", "/dev"],
  ];
}

/** Charged to the instance's memory; /etc/hosts is a link to /run/hosts. */
function writableMemory(spec: SandboxSpec, { hosts }: ChainDescriptors): string[] {
  const size = ["--size", String(spec.tmpBytes)];
  const home = homeDirectory(spec);
  return [
    ...[...size, "--perms", "1777", "--tmpfs", "/dev/shm"],
    ...[...size, "--perms", "1777", "--tmpfs", "/tmp"],
    ...["--size", String(runBytes), "--tmpfs", "/run"],
    ...["--perms", "0644", "--file", String(hosts), "/run/hosts"],
    ...(home === null ? [] : [...size, "--tmpfs", home]),
  ];
}

/** HOME when nothing else is mounted there: programs expect to write to it. */
function homeDirectory(spec: SandboxSpec): string | null {
  const home = spec.env["HOME"];
  if (home === undefined || !isCleanPath(home) || home === "/" || isReserved(home)) return null;
  const mounted = ["/tmp", "/run", ...spec.binds.map(({ destination }) => destination)];
  if (isAtOrBelow(home, mounted)) return null;
  return spec.binds.some(({ destination }) => isBelow(destination, [home])) ? null : home;
}

function bind({ source, destination, writable }: BindMount): string[] {
  return [writable ? "--bind" : "--ro-bind", source, destination];
}

/** The name of the instance resolves to itself, nothing else is known. */
export function hostsFile(spec: SandboxSpec): string {
  const own = typeof spec.network === "string" ? "127.0.0.1" : spec.network.address;
  return `127.0.0.1 localhost\n::1 localhost\n${own} ${spec.hostname}\n`;
}

function findProblem(spec: SandboxSpec): string | null {
  const numbers = { uid: spec.uid, tmpBytes: spec.tmpBytes, openFiles: spec.openFiles };
  for (const [name, value] of Object.entries(numbers)) {
    if (!Number.isSafeInteger(value) || value < 1) return `${name} ${value} is not above 0`;
  }
  if (!/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?$/.test(spec.hostname)) {
    return `hostname ${JSON.stringify(spec.hostname)} is not a host name`;
  }
  if (spec.argv.length === 0) return "argv is empty: nothing to run";
  if (!isCleanPath(spec.workingDirectory)) {
    return `workingDirectory "${spec.workingDirectory}" is not a plain absolute path`;
  }
  for (const [name, value] of Object.entries(spec.env)) {
    if (name === "" || name.includes("=")) return `env name ${JSON.stringify(name)} is not legal`;
    if (name.includes("\0") || value.includes("\0")) return `env ${name} contains a NUL`;
  }
  if (spec.argv.some((argument) => argument.includes("\0"))) return "argv contains a NUL";
  for (const [at, bind] of spec.binds.entries()) {
    const found = findBindProblem(spec, bind, at);
    if (found !== null) return `bind of ${bind.source} at ${bind.destination}: ${found}`;
  }
  return null;
}

function findBindProblem(spec: SandboxSpec, bind: BindMount, at: number): string | null {
  const { source, destination } = bind;
  if (!isCleanPath(source)) return "the source is not a plain absolute path";
  if (!isCleanPath(destination) || destination === "/") {
    return "the destination is not a plain absolute path";
  }
  if (isReserved(destination)) return "the sandbox itself owns the destination";
  const others = spec.binds.filter((_, other) => other !== at);
  if (others.some((other) => other.destination === destination)) {
    return "another bind has this destination";
  }
  const above = others.find((other) => isBelow(destination, [other.destination]));
  if (above === undefined) return null;
  if (above.writable) return `it lies below ${above.destination}, which the app can write`;
  if (!destinationsBefore(spec, at).includes(above.destination)) {
    return `it would be hidden by ${above.destination}, which comes after it`;
  }
  return null;
}

function destinationsBefore(spec: SandboxSpec, at: number): string[] {
  return spec.binds.slice(0, at).map(({ destination }) => destination);
}

function isReserved(path: string): boolean {
  return isAtOrBelow(path, reserved) || reservedLibrary.test(path) || isMountRoot(path);
}

/** A bind below /tmp or /run is fine, one in their place is not. */
function isMountRoot(path: string): boolean {
  return path === "/tmp" || path === "/run" || path === "/run/hosts";
}

/** Absolute, normal, without NUL: what is written is what is meant. */
function isCleanPath(path: string): boolean {
  return path.startsWith("/") && !path.includes("\0") && isNormal(path);
}

function isNormal(path: string): boolean {
  return posix.normalize(path) === path && (path === "/" || !path.endsWith("/"));
}

function isBelow(path: string, directories: readonly string[]): boolean {
  return directories.some((directory) => path.startsWith(`${directory}/`));
}

function isAtOrBelow(path: string, directories: readonly string[]): boolean {
  return isBelow(path, directories) || directories.includes(path);
}
