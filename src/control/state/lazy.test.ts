import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Result } from "../../base/result.ts";
import { VirtualClock } from "../../base/virtual.ts";
import type { Condition, Ledger, LedgerError, Write } from "../../fabric/ledger.ts";
import { createMemoryLedger } from "../../fabric/memory/ledger.ts";
import { keys } from "../../model/keys.ts";
import { defaultLimits } from "../../model/limits.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../../model/names.ts";
import { applyChanges } from "../../scheduler/apply.ts";
import { emptySnapshot, type Snapshot } from "../../scheduler/snapshot.ts";
import { HardState } from "./hard-state.ts";

// The snapshot that holds some of the apps, against a naive twin: one that is made of the whole
// ledger, anew each time.

const domain = "localhost";
const apps = ["p/one", "p/two", "q/one", "q/three"];
const hosts = ["one.p.localhost", "a.example", "b.example"];
const instances = ["i1", "i2", "i3", "i4"] as InstanceId[];

type Deed =
  | { readonly kind: "app" | "release" | "deployment"; readonly app: string; readonly put: boolean }
  | { readonly kind: "host"; readonly host: string; readonly app: string; readonly put: boolean }
  | {
      readonly kind: "assignment";
      readonly instance: InstanceId;
      readonly app: string;
      readonly cores: number | null;
      readonly put: boolean;
    }
  | { readonly kind: "load" | "evict" | "begin-load"; readonly apps: readonly string[] }
  | { readonly kind: "wait"; readonly ms: number };

const app = fc.constantFrom(...apps);
const put = fc.boolean();
const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.record({ kind: fc.constantFrom("app", "release", "deployment"), app, put }),
  fc.record({ kind: fc.constant("host" as const), host: fc.constantFrom(...hosts), app, put }),
  fc.record({
    kind: fc.constant("assignment" as const),
    instance: fc.constantFrom(...instances),
    app,
    cores: fc.constantFrom(null, 0.25, 1),
    put,
  }),
  fc.record({
    kind: fc.constantFrom("load", "evict", "begin-load"),
    apps: fc.subarray(apps, { minLength: 1 }),
  }),
  fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 3 }) }),
);

/** What resolves only as time goes on. */
async function inTime<Value>(
  clock: VirtualClock,
  outcome: Promise<Result<Value, LedgerError>>,
): Promise<void> {
  let isDone = false;
  const done = outcome.finally(() => {
    isDone = true;
  });
  for (let turn = 0; !isDone && turn < 1_000; turn += 1) await clock.run(1);
  expect((await done).ok).toBe(true);
}

function split(key: string): [ProjectName, AppName] {
  return key.split("/") as [ProjectName, AppName];
}

/** Its listings arrive a while after they were made, as from another machine. */
function slow(ledger: Ledger, clock: VirtualClock): Ledger {
  let calls = 0;
  return {
    get: (key) => ledger.get(key),
    async list(prefix, options) {
      calls += 1;
      const delayMs = calls % 3;
      const listed = await ledger.list(prefix, options);
      await new Promise<void>((resolve) => clock.after(delayMs, resolve));
      return listed;
    },
    transact: (transaction) => ledger.transact(transaction),
    watch: (prefix, after) => ledger.watch(prefix, after),
    grantLease: (ttlMs) => ledger.grantLease(ttlMs),
    close: () => ledger.close(),
  };
}

/** An instance's node and app never change. */
function ofInstance(instance: InstanceId): { node: NodeName; app: string } {
  const index = instances.indexOf(instance);
  return { node: `n${index % 2}` as NodeName, app: apps[index] as string };
}

function writeOf(deed: Deed, number: number): Write | null {
  const record = (key: string, isPut: boolean, value: object): Write =>
    isPut ? { kind: "put", key, value: JSON.stringify(value) } : { kind: "delete", key };
  if (deed.kind === "host") {
    const [project, name] = split(deed.app);
    return record(keys.host(deed.host), deed.put, { project, app: name });
  }
  if (deed.kind === "assignment") {
    const { node, app: key } = ofInstance(deed.instance);
    const [project, name] = split(key);
    const cpu = { min: deed.cores, max: null, burst: null };
    const limits = { ...defaultLimits, cpu };
    const value = { instance: deed.instance, node, project, app: name, limits, drain: null };
    return record(keys.assignment(node, deed.instance), deed.put, value);
  }
  if (!("put" in deed)) return null;
  const [project, name] = split(deed.app);
  if (deed.kind === "app") return record(keys.app(project, name), deed.put, { project, name });
  const key = { release: keys.release, deployment: keys.deployment }[deed.kind](
    ...([project, name, 1] as const),
  );
  return record(key, deed.put, { project, app: name, number: 1, at: number });
}

/**
 * As control has it: an app's records come after its own, and go before it or with it; a host is
 * claimed when nobody has it.
 */
function conditionsOf(deed: Deed): readonly Condition[] {
  if (!("put" in deed) || deed.kind === "assignment") return [];
  if (deed.kind === "app") {
    return deed.put ? [] : hosts.map((host) => ({ kind: "absent", key: keys.host(host) }));
  }
  if (!deed.put) return [];
  const there: Condition = { kind: "present", key: keys.app(...split(deed.app)) };
  return deed.kind === "host" ? [there, { kind: "absent", key: keys.host(deed.host) }] : [there];
}

function restOf(deed: Deed): readonly Write[] {
  if (deed.kind !== "app" || deed.put) return [];
  const [project, name] = split(deed.app);
  return [keys.releasesOf(project, name), keys.deploymentsOf(project, name)].map((prefix) => ({
    ...{ kind: "deletePrefix", prefix },
  }));
}

async function twinOf(ledger: Ledger): Promise<Snapshot> {
  const listed = await ledger.list("");
  if (!listed.ok) throw new Error(listed.error.message);
  return applyChanges(emptySnapshot, listed.value.revision, listed.value.entries).snapshot;
}

async function expectSame(state: HardState, ledger: Ledger, loaded: readonly string[]) {
  const twin = await twinOf(ledger);
  await state.reached(twin.revision);
  expect(state.snapshot.revision).toBe(twin.revision);
  expect(Object.fromEntries(state.snapshot.nodes)).toEqual(Object.fromEntries(twin.nodes));
  const there = [...twin.apps.entries()].filter(([, each]) => each.app !== null);
  expect(state.appCount).toBe(there.length);
  for (const key of loaded) {
    const wanted = twin.apps.get(key);
    if (wanted === undefined) continue;
    expect(state.snapshot.apps.get(key)).toEqual(wanted);
    for (const { value } of wanted.assignments) {
      expect(state.snapshot.owners.get(value.instance)).toBe(key);
    }
    for (const host of wanted.hosts) {
      expect(state.snapshot.hosts.get(host)).toEqual(twin.hosts.get(host) as never);
    }
  }
}

/** Its only record goes and comes back, so that it is let go, while it is read; failed once. */
const recreatedWhileRead: Deed[] = [
  { kind: "wait", ms: 1 },
  { kind: "begin-load", apps: ["p/two", "q/three"] },
  { kind: "wait", ms: 2 },
  assigned(true),
  { kind: "wait", ms: 5 },
  assigned(false),
  { kind: "wait", ms: 1 },
  assigned(true),
  { kind: "evict", apps: ["p/two", "q/three"] },
  { kind: "load", apps: ["p/two"] },
];

function assigned(isThere: boolean): Deed {
  const instance = "i2" as InstanceId;
  return { kind: "assignment", instance, app: "p/one", cores: null, put: isThere };
}

test("an app in the snapshot is as in a snapshot of everything, whatever was let go", async () => {
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(deed, { minLength: 1, maxLength: 60, size: "max" }),
      async (deeds) => {
        const clock = new VirtualClock();
        const ledger = createMemoryLedger({ clock, historyRevisions: 8 });
        const state = new HardState(slow(ledger, clock), clock, domain, () => {});
        await inTime(clock, state.start());
        const loads: Promise<unknown>[] = [];
        for (const [number, each] of deeds.entries()) {
          const write = writeOf(each, number);
          const conditions = conditionsOf(each);
          if (write !== null) {
            await ledger.transact({ conditions, writes: [write, ...restOf(each)] });
          } else if (each.kind === "begin-load") loads.push(state.load(each.apps));
          else if (each.kind === "load") await inTime(clock, state.load(each.apps));
          else if (each.kind === "evict") state.evict(each.apps);
          else if (each.kind === "wait") await clock.run(each.ms);
        }
        await clock.run(2_000);
        await Promise.all(loads);
        await inTime(clock, state.load(apps));
        await expectSame(state, ledger, apps);
        compared += [...state.snapshot.apps.entries()].length;
        state.evict(apps);
        await expectSame(state, ledger, []);
        state.close();
        await ledger.close();
      },
    ),
    { numRuns: 500, seed: 1, examples: [[recreatedWhileRead]] },
  );
  expect(compared).toBeGreaterThan(100);
});
