import { expect, test } from "bun:test";
import { VirtualClock } from "../base/virtual.ts";
import { StartGate } from "./start-gate.ts";

/** Lets what was resolved go on. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function enterAll(gate: StartGate, names: readonly string[], entered: string[]) {
  const leaves = new Map<string, () => void>();
  const owners = new Map(names.map((name) => [name, { name }]));
  for (const [name, owner] of owners) {
    void gate.enter(owner, false).then((leave) => {
      entered.push(name);
      leaves.set(name, leave);
    });
  }
  return { leaves, owners };
}

test("starts queue in order, and each end lets one more in", async () => {
  const gate = new StartGate(new VirtualClock(), 2);
  const entered: string[] = [];
  const { leaves } = enterAll(gate, ["a", "b", "c", "d"], entered);
  await turn();
  expect(entered).toEqual(["a", "b"]);
  leaves.get("b")?.();
  leaves.get("b")?.();
  await turn();
  expect(entered).toEqual(["a", "b", "c"]);
});

test("a slow start gives its place up", async () => {
  const clock = new VirtualClock();
  const gate = new StartGate(clock, 1);
  const entered: string[] = [];
  enterAll(gate, ["slow", "next"], entered);
  await turn();
  clock.advance(2000);
  await turn();
  expect(entered).toEqual(["slow", "next"]);
});

test("a start that a request waits for does not queue, and takes no more than its place", async () => {
  const gate = new StartGate(new VirtualClock(), 1);
  const entered: string[] = [];
  const { leaves, owners } = enterAll(gate, ["a", "b", "c"], entered);
  await turn();
  gate.hurry(owners.get("c") ?? {});
  await turn();
  expect(entered).toEqual(["a", "c"]);
  leaves.get("a")?.();
  await turn();
  expect(entered).toEqual(["a", "c"]);
  leaves.get("c")?.();
  await turn();
  expect(entered).toEqual(["a", "c", "b"]);
  await gate.enter({}, true);
});
