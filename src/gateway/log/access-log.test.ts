import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../fabric/system.ts";
import { openAccessLog } from "./access-log.ts";
import type { AccessRecord } from "./record.ts";

const directory = mkdtempSync(join(tmpdir(), "lode-access-"));
afterAll(() => rmSync(directory, { recursive: true }));

const record: AccessRecord = {
  at: 1,
  requestId: "r1",
  app: "default/hello",
  instance: "i1",
  method: "GET",
  host: "hello.localhost",
  path: '/"quoted"\n',
  status: 200,
  bytesIn: 0,
  bytesOut: 5,
  durationMs: 3,
  upstreamMs: 2,
  wakeMs: 0,
  client: "127.0.0.1",
  protocol: "HTTP/1.1",
  userAgent: null,
};

const options = { fileBytesMax: 3000, filesMax: 3, bufferBytesMax: 2000, flushMs: 5 };

async function until(done: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 400 && !done(); attempt += 1) await Bun.sleep(5);
  expect(done()).toBe(true);
}

const linesOf = (path: string) => readFileSync(path, "utf8").trim().split("\n");

test("lines are JSON, survive close, and files are rotated and bounded in number", async () => {
  const log = openAccessLog(directory, "a", systemClock, options);
  const path = join(directory, "access-a.log");
  for (let round = 0; round < 8; round += 1) {
    for (let line = 0; line < 5; line += 1) log.write({ ...record, requestId: `r${round}` });
    await until(() => existsSync(path) && readFileSync(path, "utf8").includes(`"r${round}"`));
  }
  log.write({ ...record, requestId: "last" });
  await log.close();
  expect(JSON.parse(linesOf(path)[0] as string)).toEqual({
    ...record,
    requestId: expect.any(String),
  });
  expect(JSON.parse(linesOf(path).at(-1) as string).requestId).toBe("last");
  expect(existsSync(`${path}.1`)).toBe(true);
  expect(existsSync(`${path}.2`)).toBe(true);
  expect(existsSync(`${path}.3`)).toBe(false);
  expect(log.dropped).toBe(0);
});

test("what the disk cannot keep up with is dropped and counted", async () => {
  const log = openAccessLog(directory, "b", systemClock, options);
  const path = join(directory, "access-b.log");
  for (let line = 0; line < 100; line += 1) log.write(record);
  expect(log.dropped).toBeGreaterThan(80);
  await until(() => existsSync(path) && readFileSync(path, "utf8") !== "");
  const lines = linesOf(path);
  expect(lines.length - 1 + log.dropped).toBe(100);
  expect(JSON.parse(lines.at(-1) as string).droppedLines).toBe(log.dropped);
  await log.close();
});

test("what comes during a write waits for the next flush", async () => {
  const due: (() => void)[] = [];
  const clock = {
    ...systemClock,
    after(_delayMs: number, callback: () => void) {
      due.push(callback);
      return { cancel() {} };
    },
  };
  const log = openAccessLog(directory, "d", clock, options);
  const path = join(directory, "access-d.log");
  log.write({ ...record, requestId: "first" });
  due.shift()?.();
  log.write({ ...record, requestId: "second" });
  await until(() => existsSync(path) && readFileSync(path, "utf8") !== "");
  await Bun.sleep(20);
  expect(linesOf(path)).toHaveLength(1);
  due.shift()?.();
  await until(() => linesOf(path).length === 2);
  await log.close();
});

test("what a load took to be gathered is given back after it", async () => {
  const bufferBytesMax = 1024 * 1024;
  const log = openAccessLog(directory, "e", systemClock, { ...options, bufferBytesMax });
  const atFirst = log.heldBytes;
  for (let line = 0; line < 2000; line += 1) log.write(record);
  expect(log.heldBytes).toBeGreaterThan(4 * atFirst);
  await until(() => log.heldBytes === atFirst);
  for (let line = 0; line < 2000; line += 1) log.write(record);
  await log.close();
  expect(log.dropped).toBe(0);
});

test("a directory that is not there costs lines, nothing else", async () => {
  writeFileSync(join(directory, "file"), "");
  const log = openAccessLog(join(directory, "file"), "c", systemClock, options);
  log.write(record);
  await until(() => log.dropped === 1);
  await log.close();
});
