import { expect, test } from "bun:test";
import { seededRandom } from "../../base/virtual.ts";
import type { InstanceId } from "../../model/names.ts";
import { Columns } from "./columns.ts";

function instances(count: number): InstanceId[] {
  const random = seededRandom(7);
  return Array.from({ length: count }, () => `i${random.token(11)}` as InstanceId);
}

test("no two instances share a column, and a few stay in the first pages", () => {
  const columns = new Columns();
  const given = instances(20_000).map((instance) => columns.columnOf("default/a", instance));
  expect(new Set(given).size).toBe(20_000);
  expect(Math.max(...given.slice(0, 60))).toBeLessThan(2 ** 14);
  expect(Math.max(...given)).toBeLessThan(2 ** 20);
});

test("the next life of control gives the same columns, whatever came and went", () => {
  const before = new Columns();
  const all = instances(300);
  for (const [index, instance] of all.entries()) before.columnOf(`default/${index}`, instance);
  for (const index of [...all.keys()].slice(200)) before.keep(`default/${index}`, []);
  const after = new Columns();
  const moved = all.slice(0, 200).filter((instance, index) => {
    const app = `default/${index}`;
    return after.columnOf(app, instance) !== before.columnOf(app, instance);
  });
  expect(moved).toEqual([]);
});

test("a column is free again when its instance is gone", () => {
  const columns = new Columns();
  const [one, two] = instances(2) as [InstanceId, InstanceId];
  const column = columns.columnOf("default/a", one);
  columns.keep("default/a", [two]);
  expect(columns.columnOf("default/a", one)).toBe(column);
});
