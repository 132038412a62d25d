import { expect, test } from "bun:test";
import { defaultLimits, type Limits } from "../model/limits.ts";
import { denyBounds, denyLimits } from "./admission.ts";

function limits(cores: number | null, memoryBytes: number | null): Limits {
  return {
    ...defaultLimits,
    cpu: { min: cores, max: null, burst: null },
    memory: { min: memoryBytes, max: null, burst: null },
  };
}

test("bounds rise from min to burst, whichever are given", () => {
  expect(denyBounds({ cpu: { min: 0.25, max: 2, burst: 4 } })).toBeNull();
  expect(denyBounds({ cpu: { min: null, max: null, burst: null } })).toBeNull();
  expect(denyBounds({})).toBeNull();
  expect(denyBounds({ cpu: { min: 3, max: 2, burst: null } })?.message).toBe(
    '"cpu" has a min above its max',
  );
  expect(denyBounds({ memory: { min: 1024, max: null, burst: 512 } })?.message).toBe(
    '"memory" has a min above its burst',
  );
  expect(denyBounds({ memory: { min: 0, max: null, burst: null } })?.message).toContain("above 0");
  expect(denyBounds({ cpu: { min: null, max: Number.NaN, burst: null } })).not.toBeNull();
});

test("what is guaranteed on a node never exceeds what it has", () => {
  const node = {
    name: "n1",
    capacity: { cores: 2, memoryBytes: 1000 },
    reservedCores: 1.5,
    reservedMemoryBytes: 800,
    own: [limits(0.5, 100), limits(0.5, 100)],
  };
  expect(denyLimits(limits(0.75, 200), [node])).toBeNull();
  expect(denyLimits(limits(1, null), [node])?.message).toBe(
    "n1 cannot guarantee that: 0.5 cores too little is free",
  );
  expect(denyLimits(limits(null, 300), [node])?.message).toContain("200B of memory");
  expect(denyLimits(limits(3, null), [node])?.message).toContain("no node can guarantee");
  expect(denyLimits(limits(1, null), [{ ...node, own: [] }])).toBeNull();
});
