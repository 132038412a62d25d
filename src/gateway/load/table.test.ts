import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Result } from "../../base/result.ts";
import { loadColumnsMax } from "./layout.ts";
import { createLoadTable, type LoadTable, openLoadTable } from "./table.ts";

const directory = mkdtempSync(join(tmpdir(), "lode-load-"));
afterAll(() => rmSync(directory, { recursive: true }));

function must<Value>(result: Result<Value, string>): Value {
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

function readOf(table: LoadTable, column: number) {
  const load = { count: 0, beganUs: 0, endedUs: 0, dear: 0 };
  table.read(column, load);
  return load;
}

const countOf = (table: LoadTable, column: number) => readOf(table, column).count;

/** Work in flight, as balancing computes it. */
const workOf = (table: LoadTable, column: number) => {
  const { beganUs, endedUs } = readOf(table, column);
  return (beganUs - endedUs) | 0;
};

test("work is summed over the gateways, exactly, also when the sums wrap", () => {
  const path = join(directory, "work");
  must(createLoadTable(path, 2));
  const [a, b] = [must(openLoadTable(path, 0)), must(openLoadTable(path, 1))];
  for (let round = 0; round < 5000; round += 1) {
    a.begin(3, 900_001, false);
    b.begin(3, 77, false);
    expect(workOf(a, 3)).toBe(900_078);
    a.end(3, 900_001, false);
    expect(workOf(b, 3)).toBe(77);
    b.end(3, 77, false);
  }
  expect(readOf(a, 3).count).toBe(0);
  expect(workOf(a, 3)).toBe(0);
});

test("dear requests in flight are counted apart", () => {
  const path = join(directory, "dear");
  must(createLoadTable(path, 2));
  const [a, b] = [must(openLoadTable(path, 0)), must(openLoadTable(path, 1))];
  a.begin(3, 10, true);
  b.begin(3, 10, true);
  b.begin(3, 1, false);
  expect(readOf(a, 3)).toEqual({ count: 3, beganUs: 21, endedUs: 0, dear: 2 });
  a.end(3, 10, true);
  b.end(3, 1, false);
  expect(readOf(b, 3)).toEqual({ count: 1, beganUs: 21, endedUs: 11, dear: 1 });
});

test("gateways see one another's numbers, and only pages in use take room", () => {
  const path = join(directory, "shared");
  must(createLoadTable(path, 4));
  const [a, b] = [must(openLoadTable(path, 0)), must(openLoadTable(path, 3))];
  for (const column of [0, 9999, 20_000]) {
    a.begin(column, 1, false);
    b.begin(column, 1, false);
    b.begin(column, 1, false);
    expect(countOf(a, column)).toBe(3);
    b.end(column, 1, false);
    expect(countOf(a, column)).toBe(2);
    expect(countOf(b, column)).toBe(2);
  }
  expect(countOf(a, 1)).toBe(0);
  expect(statSync(path).blocks * 512).toBeLessThan(8 * 1024 * 1024);
});

test("the collector is told only of the columns in use", () => {
  const path = join(directory, "small");
  must(createLoadTable(path, 64));
  const before = process.memoryUsage().arrayBuffers;
  const table = must(openLoadTable(path, 0));
  table.begin(12, 1, false);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(6_000_000);
});

test("another process sees them too", async () => {
  const path = join(directory, "process");
  must(createLoadTable(path, 2));
  const own = must(openLoadTable(path, 0));
  own.begin(7, 1, false);
  const script =
    `const { openLoadTable } = await import(${JSON.stringify(join(import.meta.dir, "table.ts"))});` +
    `const t = openLoadTable(${JSON.stringify(path)}, 1).value;` +
    "t.begin(7, 1, false); t.begin(7, 1, false);" +
    "const l = {}; t.read(7, l); console.log(l.count);";
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  expect((await new Response(child.stdout).text()).trim()).toBe("3");
  expect(countOf(own, 7)).toBe(3);
  // It died with requests in flight; whoever takes its row starts at nothing.
  must(openLoadTable(path, 1));
  expect(countOf(own, 7)).toBe(1);
});

test("a table in use is kept, one that does not fit is replaced", () => {
  const path = join(directory, "kept");
  must(createLoadTable(path, 2));
  const own = must(openLoadTable(path, 0));
  own.begin(1, 1, false);
  must(createLoadTable(path, 2));
  expect(countOf(must(openLoadTable(path, 1)), 1)).toBe(1);
  must(createLoadTable(path, 3));
  expect(countOf(must(openLoadTable(path, 2)), 1)).toBe(0);
  // The old mapping lives on with its file.
  expect(countOf(own, 1)).toBe(1);
});

test("what cannot be a table is refused with its reason", () => {
  const path = join(directory, "junk");
  writeFileSync(path, "something else entirely");
  expect(openLoadTable(path, 0)).toEqual({
    ok: false,
    error: `cannot open the load table ${path}: it is not a load table`,
  });
  must(createLoadTable(path, 1));
  expect(openLoadTable(path, 1).ok).toBe(false);
  expect(createLoadTable(path, 0).ok).toBe(false);
  const outside = must(openLoadTable(path, 0));
  outside.begin(loadColumnsMax, 1, false);
  expect(countOf(outside, loadColumnsMax)).toBe(0);
});
