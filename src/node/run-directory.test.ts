import { expect, test } from "bun:test";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dataPaths, nodePaths } from "./paths.ts";
import { makeRunDirectory, removeRunDirectory } from "./run-directory.ts";

const isMounted = (path: string) =>
  readFileSync("/proc/self/mountinfo", "utf8").includes(` ${path} `);

const pathsIn = (run: string) => ({ cloud: "abc123", data: "/nowhere", run });

test("it is a tmpfs, is kept by the next lode, and goes with all that is in it", () => {
  const parent = mkdtempSync(join(tmpdir(), "lode-run-"));
  const run = join(parent, "lode-abc123");
  const paths = pathsIn(run);
  expect(makeRunDirectory(paths).ok).toBe(true);
  expect(statSync(run).mode & 0o777).toBe(0o711);
  const kept = [join(run, "kept"), join(dataPaths.sockets(paths), "kept")];
  for (const file of kept) writeFileSync(file, "");
  expect(makeRunDirectory(paths).ok).toBe(true);
  expect(kept.map((file) => existsSync(file))).toEqual([true, true]);
  removeRunDirectory(paths);
  expect([existsSync(run), isMounted(run)]).toEqual([false, false]);
  rmSync(parent, { recursive: true });
});

test("what an earlier lode left in a directory without a mount is not covered", () => {
  const run = mkdtempSync(join(tmpdir(), "lode-run-"));
  writeFileSync(join(run, "left"), "");
  makeRunDirectory(pathsIn(run));
  expect([existsSync(join(run, "left")), isMounted(run)]).toEqual([true, false]);
  removeRunDirectory(pathsIn(run));
  expect(existsSync(run)).toBe(false);
});

test("where sockets lie there is room for any number of them, and for no data", async () => {
  const run = mkdtempSync(join(tmpdir(), "lode-run-"));
  const paths = pathsIn(run);
  makeRunDirectory(paths);
  const [own, shown] = [nodePaths.instanceSockets(paths), dataPaths.appSockets(paths)];
  for (const folder of [own, shown]) mkdirSync(folder);
  const filler = join(own, "filler");
  expect(() => writeFileSync(filler, Buffer.alloc(1 << 20))).toThrow("ENOSPC");
  expect(statSync(filler).blocks * 512).toBeLessThanOrEqual(4096);
  const names = Array.from({ length: 200 }, (_, index) => `app-${index}`);
  const servers = names.map((name) => createServer().listen(join(own, name)));
  await Promise.all(servers.map((server) => new Promise((done) => server.on("listening", done))));
  for (const name of names) linkSync(join(own, name), join(shown, name));
  expect(names.every((name) => statSync(join(shown, name)).isSocket())).toBe(true);
  for (const server of servers) server.close();
  removeRunDirectory(paths);
});
