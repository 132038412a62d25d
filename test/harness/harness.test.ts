import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, rmdirSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { leftovers } from "./host.ts";
import { quantile, request, steadyLoad } from "./http.ts";

// What checks others must be able to fail: each of these shows that it can.

const undo: (() => void)[] = [];

afterEach(() => {
  for (const step of undo.splice(0).reverse()) step();
});

async function answering(bytes: string): Promise<number> {
  const server: Server = createServer((socket) => {
    socket.once("data", () => socket.end(bytes));
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  undo.push(() => server.close());
  return (server.address() as { port: number }).port;
}

test("a plain and a chunked answer are read whole", async () => {
  const plain = await answering("HTTP/1.1 201 Made\r\nContent-Length: 4\r\nX-A: b\r\n\r\nbody");
  expect(await request({ port: plain, host: "x" })).toMatchObject({ status: 201, body: "body" });
  const chunked = await answering(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
  );
  expect((await request({ port: chunked, host: "x" })).body).toBe("abcde");
});

test.each([
  ["cut in the head", "HTTP/1.1 200 OK\r\nConte"],
  ["cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody"],
  ["cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab"],
  ["closed without a byte", ""],
])("an answer that is %s is an error", async (_, bytes) => {
  await expect(request({ port: await answering(bytes), host: "x" })).rejects.toThrow();
});

test("a steady load counts every failure", async () => {
  const broken = await answering("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
  const load = steadyLoad({ port: broken, host: "x", clients: 2, pauseMs: 1 });
  await Bun.sleep(50);
  const report = await load.stop();
  expect(report.errors.length).toBe(report.requests);
  expect(report.errors[0]).toBe("503: no");
});

test("a quantile of few values is one of them", () => {
  expect(quantile([3, 1, 2], 0.5)).toBe(2);
  expect(quantile([3, 1, 2], 0.99)).toBe(3);
});

test("what a cloud leaves behind is found, and only its own", () => {
  const cloud = `zz9canary${process.pid}`;
  expect(leftovers(cloud, "/nonexistent/canary")).toEqual([]);
  const run = `/run/lode-${cloud}`;
  const hierarchy = existsSync("/sys/fs/cgroup/memory") ? "memory/" : "";
  const cgroup = `/sys/fs/cgroup/${hierarchy}lode-${cloud}`;
  for (const directory of [run, cgroup]) {
    mkdirSync(directory);
    undo.push(() => rmdirSync(directory));
  }
  Bun.spawnSync(["ip", "netns", "add", `${cloud}-n`]);
  undo.push(() => Bun.spawnSync(["ip", "netns", "delete", `${cloud}-n`]));
  const kinds = leftovers(cloud, "/nonexistent/canary").map((line) => line.split(":")[0]);
  expect(new Set(kinds)).toEqual(
    new Set(["run directory", "cgroup", "network namespace", "mount"]),
  );
});
