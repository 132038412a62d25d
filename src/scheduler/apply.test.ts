import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Assignment } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import { defaultLimits } from "../model/limits.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../model/names.ts";
import { applyChanges, type RecordChange } from "./apply.ts";
import { PersistentMap } from "./persistent-map.ts";
import { emptySnapshot, type Snapshot } from "./snapshot.ts";

test("a persistent map does what a map does, and leaves its earlier versions as they were", () => {
  const edits = fc.array(
    fc.array(fc.record({ key: fc.integer({ min: 0, max: 40 }), value: fc.option(fc.nat()) })),
  );
  fc.assert(
    fc.property(edits, (batches) => {
      let map = PersistentMap.empty<number>();
      const twin = new Map<string, number>();
      const versions: [PersistentMap<number>, [string, number][]][] = [];
      for (const batch of batches) {
        const edit = map.edit();
        for (const { key, value } of batch) {
          if (value === null) edit.delete(String(key));
          else edit.set(String(key), value);
          if (value === null) twin.delete(String(key));
          else twin.set(String(key), value);
          expect(edit.get(String(key))).toBe(value ?? undefined);
        }
        map = edit.done();
        versions.push([map, [...twin].sort()]);
      }
      for (const [version, entries] of versions) {
        expect(version.size).toBe(entries.length);
        expect([...version.entries()].sort() as [string, number][]).toEqual(entries);
      }
    }),
    { seed: 1 },
  );
});

const project = "default" as ProjectName;

function assignmentOf(instance: string, app: string, node: string, cores: number): Assignment {
  return {
    instance: instance as InstanceId,
    node: node as NodeName,
    project,
    app: app as AppName,
    limits: { ...defaultLimits, cpu: { min: cores, max: null, burst: null } },
  } as Assignment;
}

const change = fc.record({
  instance: fc.constantFrom("i1", "i2", "i3", "i4", "i5"),
  cores: fc.option(fc.integer({ min: 1, max: 8 })),
});

test("what nodes guarantee is the sum over their assignments, whatever came and went", () => {
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const twin = new Map<string, Assignment>();
      let snapshot: Snapshot = emptySnapshot;
      for (const [index, { instance, cores }] of changes.entries()) {
        const node = `n${Number(instance.slice(1)) % 2}`;
        const app = `app${Number(instance.slice(1)) % 3}`;
        const assignment = cores === null ? null : assignmentOf(instance, app, node, cores);
        const record: RecordChange = {
          key: keys.assignment(node as NodeName, instance as InstanceId),
          value: assignment === null ? null : JSON.stringify(assignment),
          modRevision: index + 1,
        };
        const applied = applyChanges(snapshot, index + 1, [record]);
        const wasThere = twin.has(instance);
        expect([...applied.apps]).toEqual(
          assignment !== null || wasThere ? [`default/${app}`] : [],
        );
        snapshot = applied.snapshot;
        if (assignment === null) twin.delete(instance);
        else twin.set(instance, assignment);
      }
      for (const node of ["n0", "n1"] as NodeName[]) {
        const there = [...twin.values()].filter((assignment) => assignment.node === node);
        const sum = there.reduce((total, { limits }) => total + (limits.cpu.min ?? 0), 0);
        expect(snapshot.nodes.get(node)?.reservedCores ?? 0).toBe(sum);
        expect(snapshot.nodes.get(node)?.instances ?? 0).toBe(there.length);
      }
      for (const [key, state] of snapshot.apps.entries()) {
        const there = [...twin.values()].filter(({ app }) => `default/${app}` === key);
        expect(state.assignments.map(({ value }) => value.instance)).toEqual(
          there.map(({ instance }) => instance).sort(),
        );
      }
    }),
    { seed: 2 },
  );
});

test("a host belongs to the app that claims it, and the earlier owner loses it", () => {
  const put = (app: string | null, modRevision: number): RecordChange => ({
    key: keys.host("www.example.org"),
    value: app === null ? null : JSON.stringify({ project, app }),
    modRevision,
  });
  const one = applyChanges(emptySnapshot, 1, [put("one", 1)]).snapshot;
  const two = applyChanges(one, 2, [put("two", 2)]);
  expect([...two.apps].sort()).toEqual(["default/one", "default/two"]);
  expect(two.snapshot.apps.get("default/one")).toBeUndefined();
  expect(two.snapshot.apps.get("default/two")?.hosts).toEqual(["www.example.org"]);
  const none = applyChanges(two.snapshot, 3, [put(null, 3)]).snapshot;
  expect(none.apps.size).toBe(0);
  expect(one.apps.get("default/one")?.hosts).toEqual(["www.example.org"]);
});
