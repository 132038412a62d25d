import { expect, test } from "bun:test";
import fc from "fast-check";
import { waitingArgvOf } from "../drivers/specification.ts";
import {
  bubblewrapArguments,
  type ChainDescriptors,
  type HostView,
  hostsFile,
  procMasks,
} from "./launch.ts";
import type { SandboxSpec } from "./sandbox.ts";

const host: HostView = {
  bubblewrap: "/usr/bin/bwrap",
  etcDirectory: "/run/lode-abc123/etc",
  systemLinks: [{ path: "/bin", target: "usr/bin" }],
  systemDirectories: ["/lib64"],
  procMasks,
  procReadOnly: ["/proc/sys"],
};

const descriptors: ChainDescriptors = { status: 8, seccomp: 9, hosts: 10, join: null };

const spec: SandboxSpec = {
  uid: 70_001,
  hostname: "web-1",
  network: { name: "lodeabc123-9", namespacePath: "/run/netns/x", address: "10.1.0.9" },
  binds: [
    { source: "/data/releases/1", destination: "/app", writable: false },
    { source: "/data/layers/7", destination: "/app/node_modules", writable: false },
    { source: "/data/volumes/a", destination: "/data", writable: true },
  ],
  tmpBytes: 1 << 20,
  workingDirectory: "/app",
  env: { PATH: "/usr/bin", HOME: "/home/app", SECRET: "hunter2" },
  argv: ["bun", "app.ts"],
  openFiles: 1024,
};

function problemOf(change: Partial<SandboxSpec>): string {
  const built = bubblewrapArguments(host, { ...spec, ...change }, descriptors);
  return built.ok ? "" : built.error;
}

function bindProblem(...binds: SandboxSpec["binds"]): string {
  return problemOf({ binds });
}

const writable = { source: "/data/a", destination: "/data", writable: true };

test("what cannot be launched safely is refused, with the field to mend", () => {
  expect(problemOf({})).toBe("");
  expect(problemOf({ uid: 0 })).toContain("uid 0");
  expect(problemOf({ uid: 1.5 })).toContain("uid 1.5");
  expect(problemOf({ hostname: "a b" })).toContain("hostname");
  expect(problemOf({ argv: [] })).toContain("argv is empty");
  expect(problemOf({ argv: ["a\0b"] })).toContain("argv contains a NUL");
  expect(problemOf({ env: { "A=B": "" } })).toContain("env name");
  expect(problemOf({ env: { A: "\0" } })).toContain("env A contains a NUL");
  expect(problemOf({ workingDirectory: "/app/../etc" })).toContain("workingDirectory");
});

test("no destination lies below what the app can write, or on what the sandbox owns", () => {
  const below = { source: "/x", destination: "/data/x", writable: false };
  expect(bindProblem(writable, below)).toContain("below /data, which the app can write");
  expect(bindProblem(below, writable)).toContain("below /data, which the app can write");
  expect(bindProblem(writable, writable)).toContain("another bind has this destination");
  expect(
    bindProblem({ ...below, destination: "/app/x" }, { ...below, destination: "/app" }),
  ).toContain("hidden by /app");
  for (const destination of [
    "/proc/sys",
    "/dev",
    "/usr/x",
    "/etc/passwd",
    "/lib64",
    "/tmp",
    "/run",
  ]) {
    expect(bindProblem({ ...writable, destination })).toContain("the sandbox itself owns");
  }
  for (const destination of ["/", "data", "/data/", "/a/../b", "//a", "/a\0"]) {
    expect(bindProblem({ ...writable, destination })).toContain("not a plain absolute path");
  }
  expect(bindProblem({ ...writable, source: "relative" })).toContain("the source");
  expect(bindProblem({ ...writable, destination: "/run/lode" })).toBe("");
});

test("home is a tmpfs unless something is mounted there", () => {
  const homeOf = (HOME: string) => {
    const built = bubblewrapArguments(host, { ...spec, env: { HOME } }, descriptors);
    if (!built.ok) throw new Error(built.error);
    return built.value.some((word, at) => word === "--tmpfs" && built.value[at + 1] === HOME);
  };
  expect(homeOf("/home/app")).toBe(true);
  for (const home of ["/tmp/x", "/app", "/data/home", "/", "/etc", "relative", "/run/x"]) {
    expect(homeOf(home)).toBe(false);
  }
});

test("a second program joins instead of making namespaces", () => {
  const join = { outer: 3, inner: 4, pids: 5 };
  const built = bubblewrapArguments(host, spec, { ...descriptors, join });
  if (!built.ok) throw new Error(built.error);
  expect(built.value.slice(0, 6)).toEqual(["--userns", "3", "--userns2", "4", "--pidns", "5"]);
  expect(built.value).not.toContain("--unshare-user");
  expect(built.value).not.toContain("--unshare-net");
});

test("the hosts file knows the instance and nothing else", () => {
  expect(hostsFile(spec)).toBe("127.0.0.1 localhost\n::1 localhost\n10.1.0.9 web-1\n");
  expect(hostsFile({ ...spec, network: "none" })).toContain("127.0.0.1 web-1");
});

const usual = ["a", "b", "app", "data", "tmp", "run"];

/** Paths that collide, nest and misbehave often. */
const path = fc
  .array(fc.constantFrom(...usual, ...usual, ...usual, "etc", "proc", "..", "", "usr", "lib"), {
    minLength: 1,
    maxLength: 3,
  })
  .map((parts) => `/${parts.join("/")}`);

const randomSpec: fc.Arbitrary<SandboxSpec> = fc.record({
  uid: fc.integer({ min: 0, max: 50 }),
  hostname: fc.constantFrom("web-1", "a", "b.c", "d", "-x"),
  network: fc.constantFrom("host", "none", spec.network),
  binds: fc.array(fc.record({ source: path, destination: path, writable: fc.boolean() }), {
    maxLength: 5,
  }),
  tmpBytes: fc.integer({ min: 0, max: 1 << 20 }),
  workingDirectory: path,
  env: fc.dictionary(
    fc.constantFrom("HOME", "PATH", "A", "--bind", "_B"),
    fc.oneof(path, fc.string()),
  ),
  argv: fc.array(fc.oneof(fc.constantFrom("--bind", "/", "sh"), fc.string()), { maxLength: 3 }),
  openFiles: fc.integer({ min: 0, max: 100_000 }),
});

/** Operators of bubblewrap with the operands each takes. */
const arity: Readonly<Record<string, number>> = {
  "--bind": 2,
  "--ro-bind": 2,
  "--tmpfs": 1,
  "--dir": 1,
  "--symlink": 2,
  "--proc": 1,
  "--dev": 1,
  "--file": 2,
  "--remount-ro": 1,
  "--perms": 1,
  "--size": 1,
  "--chdir": 1,
  "--setenv": 2,
  "--hostname": 1,
  "--cap-drop": 1,
  "--seccomp": 1,
  "--json-status-fd": 1,
  "--uid": 1,
  "--gid": 1,
  "--unshare-user": 0,
  "--unshare-pid": 0,
  "--unshare-ipc": 0,
  "--unshare-uts": 0,
  "--unshare-cgroup": 0,
  "--unshare-net": 0,
  "--disable-userns": 0,
  "--new-session": 0,
  "--clearenv": 0,
};

/** Reads the arguments as bubblewrap does; an unknown word is a broken command line. */
function operations(words: readonly string[]): (readonly string[])[] {
  const found: (readonly string[])[] = [];
  for (let at = 0; at < words.length; ) {
    const operands = arity[words[at] ?? ""];
    if (operands === undefined) throw new Error(`unexpected word ${words[at]}`);
    found.push(words.slice(at, at + 1 + operands));
    at += 1 + operands;
  }
  return found;
}

function checkInvariants(given: SandboxSpec): boolean {
  const built = bubblewrapArguments(host, given, descriptors);
  if (!built.ok) return false;
  const all = operations(built.value);
  const has = (...words: string[]) => all.some((operation) => Bun.deepEquals(operation, words));
  expect(given.uid).toBeGreaterThan(0);
  for (const flag of ["user", "pid", "ipc", "uts", "cgroup"])
    expect(has(`--unshare-${flag}`)).toBe(true);
  expect(has("--unshare-net")).toBe(given.network === "none");
  expect(has("--uid", "1000") && has("--disable-userns") && has("--new-session")).toBe(true);
  expect(has("--cap-drop", "ALL") && has("--seccomp", "9") && has("--clearenv")).toBe(true);
  expect(has("--ro-bind", "/proc/sys", "/proc/sys")).toBe(true);
  for (const mask of procMasks) expect(has("--ro-bind", "/dev/null", mask)).toBe(true);
  expect(has("--remount-ro", "/") && has("--remount-ro", "/dev")).toBe(true);
  const writableSources = all.filter(([name]) => name === "--bind").map(([, source]) => source);
  const wanted = given.binds.filter((bind) => bind.writable).map(({ source }) => source);
  expect(writableSources).toEqual(wanted);
  // Whatever comes after a writable bind is made neither on it nor below it.
  const writableSoFar: string[] = [];
  for (const [name, first = "", second] of all) {
    const destination = second ?? first;
    if (!["--bind", "--ro-bind", "--tmpfs", "--dir", "--file", "--symlink"].includes(name ?? ""))
      continue;
    for (const above of writableSoFar) {
      expect(destination === above || destination.startsWith(`${above}/`)).toBe(false);
    }
    if (name === "--bind") writableSoFar.push(destination);
  }
  return true;
}

/** As it is made ahead of need, for a program that Lode serves itself and for any other. */
function madeAhead(given: SandboxSpec): SandboxSpec[] {
  const [entry = ""] = given.argv;
  const served = waitingArgvOf({ kind: "fetch", entry }, true);
  const other = waitingArgvOf({ kind: "argv", argv: given.argv }, false);
  return [served, other].map((argv) => ({ ...given, argv }));
}

test("every launch that is not refused keeps the invariants (100,000 random specs)", () => {
  let launched = 0;
  let ahead = 0;
  fc.assert(
    fc.property(randomSpec, (given) => {
      if (checkInvariants(given)) launched += 1;
      ahead += madeAhead(given).filter(checkInvariants).length;
    }),
    { numRuns: 100_000, seed: 1 },
  );
  expect(launched).toBeGreaterThan(10_000);
  expect(ahead).toBeGreaterThan(20_000);
}, 240_000);

test("bubblewrap is told the same for a sandbox that is made ahead", () => {
  const told = (given: SandboxSpec) => bubblewrapArguments(host, given, descriptors);
  fc.assert(
    fc.property(randomSpec, (given) => {
      if (given.argv.length === 0 || !told(given).ok) return;
      for (const ahead of madeAhead(given)) expect(told(ahead)).toEqual(told(given));
    }),
    { numRuns: 10_000, seed: 2 },
  );
});
