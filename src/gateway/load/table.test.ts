import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Result } from "../../base/result.ts";
import { loadColumnsMax } from "./layout.ts";
import { createLoadTable, openLoadTable } from "./table.ts";

const directory = mkdtempSync(join(tmpdir(), "lode-load-"));
afterAll(() => rmSync(directory, { recursive: true }));

function must<Value>(result: Result<Value, string>): Value {
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

test("gateways see one another's numbers, and only pages in use take room", () => {
  const path = join(directory, "shared");
  must(createLoadTable(path, 4));
  const [a, b] = [must(openLoadTable(path, 0)), must(openLoadTable(path, 3))];
  for (const column of [0, 9999, 20_000]) {
    a.add(column, 1);
    b.add(column, 1);
    b.add(column, 1);
    expect(a.total(column)).toBe(3);
    b.add(column, -1);
    expect(a.total(column)).toBe(2);
    expect(b.total(column)).toBe(2);
  }
  expect(a.total(1)).toBe(0);
  expect(statSync(path).blocks * 512).toBeLessThan(8 * 1024 * 1024);
});

test("another process sees them too", async () => {
  const path = join(directory, "process");
  must(createLoadTable(path, 2));
  const own = must(openLoadTable(path, 0));
  own.add(7, 1);
  const script =
    `const { openLoadTable } = await import(${JSON.stringify(join(import.meta.dir, "table.ts"))});` +
    `const t = openLoadTable(${JSON.stringify(path)}, 1).value; t.add(7, 1); t.add(7, 1);` +
    "console.log(t.total(7));";
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  expect((await new Response(child.stdout).text()).trim()).toBe("3");
  expect(own.total(7)).toBe(3);
  // It died with requests in flight; whoever takes its row starts at nothing.
  must(openLoadTable(path, 1));
  expect(own.total(7)).toBe(1);
});

test("a table in use is kept, one that does not fit is replaced", () => {
  const path = join(directory, "kept");
  must(createLoadTable(path, 2));
  const own = must(openLoadTable(path, 0));
  own.add(1, 1);
  must(createLoadTable(path, 2));
  expect(must(openLoadTable(path, 1)).total(1)).toBe(1);
  must(createLoadTable(path, 3));
  expect(must(openLoadTable(path, 2)).total(1)).toBe(0);
  // The old mapping lives on with its file.
  expect(own.total(1)).toBe(1);
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
  outside.add(loadColumnsMax, 1);
  expect(outside.total(loadColumnsMax)).toBe(0);
});
