import { expect, test } from "bun:test";
import { VirtualClock } from "../base/virtual.ts";
import { createMemoryWire } from "../fabric/memory/wire.ts";
import type { InstanceStatus } from "../model/instance.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import { type NodeChange, subjects } from "../model/wire.ts";
import { createReports } from "./reports.ts";

const node = "n1" as NodeName;
const [one, two] = ["i1", "i2"] as [InstanceId, InstanceId];
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function setUp() {
  const clock = new VirtualClock();
  const wire = createMemoryWire({ clock });
  const told: InstanceId[][] = [];
  wire.subscribe(subjects.nodeStatus(node), ({ payload }) => {
    const { changed } = payload as unknown as NodeChange;
    if (changed.length > 0) told.push(changed.map(({ instance }) => instance));
  });
  const statusOf = (instance: InstanceId) => ({ instance }) as InstanceStatus;
  const nothing = () => null;
  const reports = createReports(
    ...([node, "epoch", wire, clock] as const),
    ...([statusOf, () => [], nothing, nothing] as const),
  );
  return { clock, told, reports };
}

test("a change is told at once, soon or later, and with it what waited for longer", async () => {
  const { clock, told, reports } = setUp();
  reports.changed(one, "later");
  await clock.run(900);
  reports.changed(two, "soon");
  await clock.run(19);
  expect(told).toEqual([]);
  await clock.run(1);
  expect(told).toEqual([[one, two]]);
  reports.changed(one, "soon");
  reports.changed(two, "later");
  reports.changed(two, "now");
  await turn();
  expect(told.length).toBe(2);
  await clock.run(2000);
  expect(told.length).toBe(2);
  reports.close();
});

test("what would be told soon does not wait for what is told later", async () => {
  const { clock, told, reports } = setUp();
  reports.changed(one, "soon");
  reports.changed(one, "later");
  await clock.run(20);
  expect(told).toEqual([[one]]);
  reports.changed(two, "later");
  await clock.run(999);
  expect(told.length).toBe(1);
  await clock.run(1);
  expect(told).toEqual([[one], [two]]);
  reports.close();
});
