import { afterEach, expect, test } from "bun:test";
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { systemClock } from "../../fabric/system.ts";
import type { AppName, InstanceId, ProcessType, ProjectName } from "../../model/names.ts";
import type { LogLine } from "../../model/wire.ts";
import { cloudPaths } from "../paths.ts";
import { createAppLogs } from "./app-logs.ts";
import { keptBytes, openInstanceLog, type TimedLine } from "./instance-log.ts";
import { splitLines } from "./lines.ts";
import { freeHead } from "./space.ts";
import { decodeMarks, encodeMarks, type Mark, Timeline } from "./timeline.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "lode-logs-"));
  cleanups.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function until(holds: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 500 && !holds(); attempt++) await Bun.sleep(10);
  expect(holds()).toBe(true);
}

test("lines are split at newlines, long ones into pieces, the last only when wanted", () => {
  const bytes = new TextEncoder().encode(`a\r\n\n${"x".repeat(20_000)}\nrest`);
  const lines = splitLines(bytes, 100, false).map(({ text, end }) => [text.length, end]);
  expect(lines).toEqual([
    [1, 103],
    [0, 104],
    [16_384, 16_488],
    [3616, 20_105],
  ]);
  expect(splitLines(bytes, 100, true).at(-1)).toEqual({ text: "rest", end: 20_109 });
});

test("a timeline answers as a naive list does, also after it was stored", () => {
  const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.nat(20)), { maxLength: 60 });
  fc.assert(
    fc.property(steps, fc.nat(3000), fc.nat(1000), (gaps, offset, since) => {
      const marks: Mark[] = [];
      for (const [bytes, ms] of gaps) {
        const last = marks.at(-1) ?? { offset: 0, at: 0 };
        marks.push({ offset: last.offset + bytes, at: last.at + ms });
      }
      const timeline = new Timeline(decodeMarks(encodeMarks(marks)));
      expect(timeline.marks).toEqual(marks);
      const naive = marks.find((mark) => mark.offset >= offset)?.at ?? null;
      expect(timeline.timeOf(offset)).toBe(naive);
      const before = marks.filter((mark) => mark.at < since).at(-1)?.offset ?? 0;
      expect(timeline.offsetSince(since)).toBe(before);
    }),
    { seed: 1 },
  );
});

test("a torn store is read up to the tear", () => {
  const stored = encodeMarks([
    { offset: 5, at: 10 },
    { offset: 9, at: 12 },
  ]);
  expect(decodeMarks(stored.slice(0, 20))).toEqual([{ offset: 5, at: 10 }]);
  expect(decodeMarks(new Uint8Array(32))).toEqual([{ offset: 0, at: 0 }]);
});

test("a log remembers lines and their times over a restart", async () => {
  const directory = folder();
  const log = openInstanceLog(directory, systemClock, () => {});
  const descriptor = log.openForApp();
  log.watch([]);
  const before = Date.now();
  log.event("started");
  // A file's times come from the kernel's coarse clock, which lags by a tick.
  await Bun.sleep(50);
  writeSync(descriptor, "one\n");
  await until(() => log.read({ since: before, tail: 9 }).length === 2);
  await Bun.sleep(300);
  const between = Date.now();
  writeSync(descriptor, "two\nthr");
  await until(() => log.read({ since: between, tail: 9 }).length === 2);
  log.rest();
  writeSync(descriptor, "ee\n");
  closeSync(descriptor);
  const again = openInstanceLog(directory, systemClock, () => {});
  const texts = (lines: readonly TimedLine[]) => lines.map(({ text }) => text);
  expect(texts(again.read({ since: null, tail: 9 }))).toEqual(["started", "one", "two", "three"]);
  expect(texts(again.read({ since: between, tail: 9 }))).toEqual(["two", "three"]);
  expect(texts(again.read({ since: null, tail: 1 }))).toEqual(["three"]);
});

test("a flood is bounded on disk and on the wire, and loses no newest line", async () => {
  const directory = folder();
  const live: TimedLine[] = [];
  const log = openInstanceLog(directory, systemClock, (line) => live.push(line));
  const descriptor = log.openForApp();
  log.watch([]);
  log.followUntil(Date.now() + 60_000);
  const line = `${"x".repeat(1023)}\n`;
  const chunk = line.repeat(1024);
  for (let mebibytes = 0; mebibytes < 40; mebibytes++) {
    writeSync(descriptor, chunk);
    await Bun.sleep(5);
  }
  writeSync(descriptor, "the end\n");
  closeSync(descriptor);
  await until(() => live.at(-1)?.text === "the end");
  log.rest();
  const out = join(directory, "out");
  await until(() => statSync(out).blocks * 512 < keptBytes + 6 * 1024 ** 2);
  expect(statSync(out).size).toBe(40 * 1024 ** 2 + 8);
  expect(live.length).toBeLessThan(10_000);
  expect(live.some(({ stream, text }) => stream === "lode" && text.includes("too fast"))).toBe(
    true,
  );
  expect(log.read({ since: null, tail: 2 }).map(({ text }) => text.length)).toEqual([1023, 7]);
  expect(log.read({ since: null, tail: 100_000 }).every(({ text }) => !text.includes("\0"))).toBe(
    true,
  );
});

const project = "default" as ProjectName;
const app = "shop" as AppName;
const owner = (instance: string, process: string) => ({
  ...{ project, app },
  instance: instance as InstanceId,
  process: process as ProcessType,
});

test("a query merges instances by time; followers get what comes after the reply", async () => {
  const published: LogLine[] = [];
  const logs = createAppLogs(cloudPaths(folder(), "abc123"), systemClock, (_, line) =>
    published.push(line),
  );
  cleanups.push(() => logs.close());
  const web = logs.of(owner("iaaaaaaaaaaa", "web"));
  const worker = logs.of(owner("ibbbbbbbbbbb", "worker"));
  const descriptor = web.openForApp();
  web.watch([]);
  writeSync(descriptor, "web one\n");
  await until(() => web.read({ since: null, tail: 1 }).length === 1);
  await Bun.sleep(20);
  worker.event("worker started");
  const query = { project, app, process: null, instance: null, since: null, tail: 10 };
  const before = logs.query({ ...query, followMs: 10_000 });
  expect(before.lines.map(({ text, process }) => `${process}: ${text}`)).toEqual([
    "web: web one",
    "worker: worker started",
  ]);
  writeSync(descriptor, "web two\n");
  await until(() => published.length === 1);
  expect(published[0]).toMatchObject({ text: "web two", stream: "out", process: "web" });
  const filtered = logs.query({ ...query, process: "worker" as ProcessType });
  expect(filtered.lines.map(({ text }) => text)).toEqual(["worker started"]);
  closeSync(descriptor);
  await logs.release(owner("iaaaaaaaaaaa", "web"));
  expect(logs.query(query).lines).toHaveLength(3);
  await logs.forget(project, app);
  expect(logs.query(query).lines).toEqual([]);
});

test("events stay bounded", () => {
  const directory = folder();
  const log = openInstanceLog(directory, systemClock, () => {});
  appendFileSync(
    join(directory, "events"),
    `${JSON.stringify({ at: 1, text: "x" })}\n`.repeat(30_000),
  );
  log.event("the newest");
  expect(statSync(join(directory, "events")).size).toBeLessThan(300_000);
  expect(log.read({ since: 2, tail: 10 }).map(({ text }) => text)).toEqual(["the newest"]);
});

test("the head of a file goes back to the disk; of one that is gone, nothing", async () => {
  const file = join(folder(), "out");
  expect(await freeHead(file, 4096, [])).toBe(false);
  appendFileSync(file, "x".repeat(8192));
  const blocks = statSync(file).blocks;
  expect(await freeHead(file, 4096, [])).toBe(true);
  expect(statSync(file).blocks).toBeLessThan(blocks);
  expect(statSync(file).size).toBe(8192);
});

test("what a keeper freed while no lode lived is not read as lines", async () => {
  const directory = folder();
  const out = join(directory, "out");
  const line = `${"x".repeat(1023)}\n`;
  appendFileSync(out, line.repeat(18 * 1024));
  expect(await freeHead(out, 18 * 1024 ** 2 - keptBytes, [])).toBe(true);
  const log = openInstanceLog(directory, systemClock, () => {});
  const lines = log.read({ since: null, tail: 100_000 });
  // What the first piece is the rest of is gone.
  expect(lines).toHaveLength(keptBytes / 1024 - 1);
  expect(lines.every(({ text }) => text.length === 1023 && !text.includes("\0"))).toBe(true);
});

test("who cuts a log joins what it is told, as far as that still exists, before it cuts", async () => {
  const directory = folder();
  const file = join(directory, "out");
  const joined = ["first", "second"].map((name) => join(directory, name));
  appendFileSync(file, "x".repeat(8192));
  const paths = [...joined, join(directory, "gone", "cgroup.procs")];
  expect(await freeHead(file, 4096, paths)).toBe(true);
  for (const path of joined) expect(readFileSync(path, "utf8")).toBe("0\n");
  expect(existsSync(join(directory, "gone"))).toBe(false);
  rmSync(file);
  expect(await freeHead(file, 4096, paths)).toBe(false);
});
