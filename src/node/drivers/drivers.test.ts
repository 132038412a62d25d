import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createMemoryBlobs } from "../../fabric/memory/blobs.ts";
import { systemClock, systemRandom } from "../../fabric/system.ts";
import type { Digest, ProcessType } from "../../model/names.ts";
import type { ManifestEntry, Release } from "../../model/release.ts";
import { cloudPaths, nodePaths } from "../paths.ts";
import { createLayout } from "./layout.ts";
import { answers, explainSilence, parseListeners, socketReady } from "./readiness.ts";
import { argvOf, type Launch, portOf, specify } from "./specification.ts";
import { copyTree, ensureMountPoint, takeOver } from "./tree.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "lode-drivers-"));
  cleanups.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function layoutOf(data: string) {
  const paths = cloudPaths(data, "abc123");
  const blobs = createMemoryBlobs({ clock: systemClock });
  const put = async (text: string): Promise<Digest> => {
    const bytes = new TextEncoder().encode(text);
    const digest = createHash("sha256").update(bytes).digest("hex") as Digest;
    await blobs.put(digest, bytes);
    return digest;
  };
  return { paths, put, layout: createLayout(paths, blobs, systemRandom) };
}

const app = { uidOffset: 7, gid: 300_007 };

test("a manifest is laid out once, for root and the app's group only", async () => {
  const { paths, put, layout } = layoutOf(folder());
  const digest = await put("#!/bin/sh\n");
  const entries: ManifestEntry[] = [
    { kind: "directory", path: "empty" },
    { kind: "file", path: "bin/run", digest, size: 10, executable: true },
    { kind: "symlink", path: "run", target: "bin/run" },
  ];
  const sorted = entries.sort((left, right) => (left.path < right.path ? -1 : 1));
  const manifest = await put(JSON.stringify({ entries: sorted }));
  const [tree, again] = await Promise.all([
    layout.ensure(manifest, app),
    layout.ensure(manifest, app),
  ]);
  expect(tree).toEqual(again);
  if (!tree.ok) throw new Error(tree.error);
  const top = lstatSync(tree.value);
  expect([top.mode & 0o777, top.uid, top.gid]).toEqual([0o750, 0, 300_007]);
  expect(lstatSync(join(tree.value, "bin/run")).mode & 0o777).toBe(0o555);
  expect(readFileSync(join(tree.value, "run"), "utf8")).toBe("#!/bin/sh\n");
  expect(lstatSync(join(tree.value, "empty")).isDirectory()).toBe(true);
  await layout.forget(app.uidOffset);
  expect(readdirSync(nodePaths.releases(paths))).toEqual([]);
});

test("hostile manifests and missing blobs leave nothing behind", async () => {
  const { paths, put, layout } = layoutOf(folder());
  const digest = await put("x");
  const file = (path: string, of: string = digest) => ({
    kind: "file",
    path,
    digest: of,
    size: 1,
    executable: false,
  });
  const hostile: readonly (readonly unknown[])[] = [
    [file("../out")],
    [file("/etc/passwd")],
    [{ kind: "symlink", path: "a", target: "../../etc" }],
    [{ kind: "symlink", path: "a", target: "/etc" }],
    [{ kind: "symlink", path: "a", target: "." }, file("a/b")],
    [{ kind: "device", path: "null" }],
    [file("a", "0".repeat(64))],
  ];
  for (const entries of hostile) {
    const manifest = await put(JSON.stringify({ entries }));
    const laid = await layout.ensure(manifest, app);
    expect([JSON.stringify(entries), laid.ok]).toEqual([JSON.stringify(entries), false]);
  }
  const left = nodePaths.releasesOf(paths, app.uidOffset);
  expect(existsSync(left) ? readdirSync(left) : []).toEqual([]);
});

test("a mount point is a real folder of the tree", async () => {
  const tree = folder();
  symlinkSync("/etc", join(tree, "link"));
  writeFileSync(join(tree, "file"), "");
  expect(await ensureMountPoint(tree, "a/node_modules")).toEqual({ ok: true, value: undefined });
  expect(lstatSync(join(tree, "a/node_modules")).isDirectory()).toBe(true);
  for (const bad of ["link", "link/x", "file", "../x", "/x", "a/../b", ""]) {
    expect([bad, (await ensureMountPoint(tree, bad)).ok]).toEqual([bad, false]);
  }
  expect(existsSync("/etc/x")).toBe(false);
});

test("what a build leaves is taken over without its tricks", async () => {
  const left = folder();
  writeFileSync(join(left, "setuid"), "");
  chmodSync(join(left, "setuid"), 0o6777);
  mkdirSync(join(left, "open"));
  chmodSync(join(left, "open"), 0o777);
  symlinkSync("/etc/shadow", join(left, "open", "shadow"));
  const shadow = lstatSync("/etc/shadow").mode;
  Bun.spawnSync(["chown", "-hR", "4242:4242", left]);
  expect((await takeOver(left)).ok).toBe(true);
  const setuid = lstatSync(join(left, "setuid"));
  expect([setuid.mode & 0o7777, setuid.uid]).toEqual([0o755, 0]);
  expect(lstatSync(join(left, "open")).mode & 0o7777).toBe(0o755);
  expect(lstatSync("/etc/shadow").mode).toBe(shadow);
  Bun.spawnSync(["mkfifo", join(left, "pipe")]);
  expect((await takeOver(left)).ok).toBe(false);
});

test("only the named inputs are copied, as the job's own", async () => {
  const source = folder();
  const target = folder();
  mkdirSync(join(source, "sub/deep"), { recursive: true });
  writeFileSync(join(source, "sub/deep/a"), "a");
  writeFileSync(join(source, "b"), "b");
  writeFileSync(join(source, "secret"), "s");
  await copyTree(source, target, { uid: 4242, files: "copy", only: ["b", "sub", "absent"] });
  expect(readdirSync(target).sort()).toEqual(["b", "sub"]);
  const copied = lstatSync(join(target, "sub/deep/a"));
  expect([copied.uid, copied.mode & 0o777]).toEqual([4242, 0o644]);
});

const release = {
  number: 3,
  config: {
    processes: { web: { command: { kind: "argv", argv: ["x"] }, listen: "tcp" } },
    env: { A: "config", B: "config" },
  },
  env: { B: "app" },
  secrets: {},
} as unknown as Release;

test("the environment: later ones win, and what Lode knows cannot be replaced", () => {
  const launch = {
    ...{
      app: "shop",
      instance: "i1",
      process: "web" as ProcessType,
      release,
      uid: 1,
      openFiles: 9,
    },
    secrets: { C: "secret", LODE_APP: "forged", PORT: "nonsense" },
    prepared: { tree: "/t", layers: [{ source: "/l", at: "node_modules" }] },
    ...{ volume: "/v", network: "none", socketDirectory: null },
    tools: { bun: "/b", bunEnv: {}, runtime: "/r", caBundle: "/ca" },
  } as unknown as Launch;
  const spec = specify(launch, argvOf({ kind: "shell", line: "run $PORT" }));
  expect(spec.env).toMatchObject({
    ...{ A: "config", B: "app", C: "secret", LODE_APP: "shop", LODE_RELEASE: "v3" },
    ...{ PORT: "8080", HOST: "0.0.0.0", NODE_EXTRA_CA_CERTS: "/ca", HOME: "/data" },
  });
  expect(spec.argv).toEqual(["/bin/sh", "-c", "run $PORT"]);
  expect(spec.binds.filter(({ writable }) => writable).map(({ source }) => source)).toEqual(["/v"]);
  expect(portOf(release, { PORT: "3000" })).toBe(3000);
});

test("listeners are read from /proc/net/tcp, and silence is explained by them", () => {
  const table = `  sl  local_address rem_address   st
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 00000000:0BB8 00000000:0000 0A 00000000:00000000
   2: 0100007F:9C40 0100007F:1F90 01 00000000:00000000`;
  const found = parseListeners(table);
  expect(found).toEqual([
    { address: "127.0.0.1", port: 8080 },
    { address: "0.0.0.0", port: 3000 },
  ]);
  expect(explainSilence(found, 8080, 5000, "refused")).toContain("listens only on 127.0.0.1:8080");
  expect(explainSilence(found, 9000, 5000, "")).toContain("on port 8080, 3000, not on 9000");
  expect(explainSilence([], 8080, 5000, "")).toBe(
    "the app did not listen on port 8080 ($PORT) within 5s",
  );
  expect(explainSilence(found, 3000, 5000, "GET / answered 500")).toEndWith("GET / answered 500");
});

test("a socket is published when it listens, and nothing else ever is", async () => {
  const own = folder();
  const target = join(folder(), "i.sock");
  const uid = process.getuid?.() ?? 0;
  const stop = new AbortController();
  const ready = socketReady(own, target, uid, systemClock, stop.signal);
  writeFileSync(join(own, "http.sock.listens"), "");
  writeFileSync(join(own, "http.sock"), "a file");
  await Bun.sleep(30);
  rmSync(join(own, "http.sock"));
  symlinkSync("/run/systemd/notify", join(own, "http.sock"));
  await Bun.sleep(30);
  expect(existsSync(target)).toBe(false);
  rmSync(join(own, "http.sock"));
  rmSync(join(own, "http.sock.listens"));
  const server = createServer().listen(join(own, "http.sock"));
  await Bun.sleep(30);
  expect(readdirSync(dirname(target))).toEqual([]);
  writeFileSync(join(own, "http.sock.listens"), "");
  cleanups.push(() => server.close());
  expect(await ready).toBe(true);
  expect(lstatSync(target).isSocket()).toBe(true);
  const never = socketReady(own, join(own, "other"), uid + 1, systemClock, stop.signal);
  stop.abort();
  expect(await never).toBe(false);
});

test("health: the status must be 200 to 399, and the last failure is told", async () => {
  const replies = ["HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 204 Yes\r\n\r\n"];
  const server = createServer((socket) => socket.end(replies.shift() ?? "SSH-2.0\r\n")).listen(0);
  cleanups.push(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  const endpoint = { kind: "tcp" as const, host: "127.0.0.1", port };
  const check = { path: "/health", timeoutMs: 5000 };
  const stop = new AbortController();
  expect(await answers(endpoint, check, systemClock, stop.signal)).toEqual({
    ok: true,
    value: undefined,
  });
  expect(replies).toEqual([]);
  systemClock.after(100, () => stop.abort());
  const failed = await answers(endpoint, check, systemClock, stop.signal);
  expect(failed.ok).toBe(false);
});
