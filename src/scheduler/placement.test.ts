import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Assignment, PoolNode } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import { defaultLimits, type Limits } from "../model/limits.ts";
import type { NodeName } from "../model/names.ts";
import { applyChanges } from "./apply.ts";
import { Room } from "./placement.ts";
import { emptySnapshot } from "./snapshot.ts";

interface Machine {
  readonly cores: number;
  readonly memoryBytes: number;
}

interface Need {
  readonly app: string;
  readonly cores: number;
  readonly memoryBytes: number;
}

function limitsOf({ cores, memoryBytes }: Need): Limits {
  return {
    ...defaultLimits,
    cpu: { min: cores === 0 ? null : cores, max: null, burst: null },
    memory: { min: memoryBytes === 0 ? null : memoryBytes, max: null, burst: null },
  };
}

function roomOf(machines: readonly Machine[]): Room {
  const changes = machines.map((capacity, index) => {
    const node: PoolNode = { name: `n${index}` as NodeName, capacity, joinedAt: 0 };
    return { key: keys.node(node.name), value: JSON.stringify(node), modRevision: 1 };
  });
  return new Room(applyChanges(emptySnapshot, 1, changes).snapshot, []);
}

const machines = fc.array(
  fc.record({
    cores: fc.integer({ min: 1, max: 8 }),
    memoryBytes: fc.integer({ min: 1, max: 64 }),
  }),
  { minLength: 1, maxLength: 5 },
);
const needs = fc.array(
  fc.record({
    app: fc.constantFrom("a", "b", "c"),
    cores: fc.integer({ min: 0, max: 4 }),
    memoryBytes: fc.integer({ min: 0, max: 32 }),
  }),
  { maxLength: 40 },
);

test("what is placed fits, goes where fewest of its app are, and a refusal is true and exact", () => {
  fc.assert(
    fc.property(machines, needs, (pool, wanted) => {
      const room = roomOf(pool);
      const placed: { need: Need; node: number }[] = [];
      const free = (node: number) => {
        const there = placed.filter((one) => one.node === node).map(({ need }) => need);
        const sum = (of: (need: Need) => number) => there.reduce((all, one) => all + of(one), 0);
        const machine = pool[node] as Machine;
        return {
          cores: machine.cores - sum(({ cores }) => cores),
          memoryBytes: machine.memoryBytes - sum(({ memoryBytes }) => memoryBytes),
        };
      };
      for (const need of wanted) {
        const fits = [...pool.keys()].filter(
          (node) => free(node).cores >= need.cores && free(node).memoryBytes >= need.memoryBytes,
        );
        const same = placed.filter((one) => one.need.app === need.app);
        const assignments = same.map(({ node }) => ({ node: `n${node}` }) as unknown as Assignment);
        const placement = room.place(limitsOf(need), assignments);
        if (placement.kind === "placed") {
          const node = Number(placement.node.slice(1));
          expect(fits).toContain(node);
          const count = (at: number) => same.filter((one) => one.node === at).length;
          expect(count(node)).toBe(Math.min(...fits.map(count)));
          room.take(placement.node, limitsOf(need));
          placed.push({ need, node });
        } else {
          expect(fits).toEqual([]);
          if (placement.kind !== "noRoom") throw new Error("the pool has nodes");
          const { cores, memoryBytes } = free(Number(placement.node.slice(1)));
          expect(placement.missingCores).toBe(Math.max(0, need.cores - cores));
          expect(placement.missingMemoryBytes).toBe(Math.max(0, need.memoryBytes - memoryBytes));
        }
      }
    }),
    { seed: 1 },
  );
});

test("what was given back can be taken again; fractions add up", () => {
  const room = roomOf([{ cores: 1, memoryBytes: 1 }]);
  const limits = limitsOf({ app: "a", cores: 0.1, memoryBytes: 0 });
  for (let count = 0; count < 10; count += 1) {
    const placement = room.place(limits, []);
    expect(placement.kind).toBe("placed");
    room.take("n0" as NodeName, limits);
  }
  expect(room.place(limits, []).kind).toBe("noRoom");
  room.give("n0" as NodeName, limits);
  expect(room.place(limits, []).kind).toBe("placed");
});

test("an empty pool has no node", () => {
  expect(roomOf([]).place(defaultLimits, []).kind).toBe("noNode");
});
