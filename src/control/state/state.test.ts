import { expect, test } from "bun:test";
import { ok } from "../../base/result.ts";
import { seededRandom, VirtualClock } from "../../base/virtual.ts";
import type { Ledger } from "../../fabric/ledger.ts";
import { createMemoryLedger } from "../../fabric/memory/ledger.ts";
import { createMemoryWire } from "../../fabric/memory/wire.ts";
import type { InstanceStatus } from "../../model/instance.ts";
import { keys } from "../../model/keys.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../../model/names.ts";
import { type NodeChange, subjects } from "../../model/wire.ts";
import { HardState } from "./hard-state.ts";
import { Leadership } from "./leadership.ts";
import { Observer } from "./observer.ts";

const project = "default" as ProjectName;
const n1 = "n1" as NodeName;

function appRecord(name: string) {
  const key = keys.app(project, name as AppName);
  return { kind: "put" as const, key, value: JSON.stringify({ project, name }) };
}

async function stateOn(ledger: Ledger, clock: VirtualClock): Promise<HardState> {
  const state = new HardState(ledger, clock, "localhost", () => {});
  expect(await state.start()).toEqual(ok(undefined));
  await state.indexed;
  return state;
}

test("the snapshot follows the ledger, and begins anew when the history is gone", async () => {
  const clock = new VirtualClock();
  const ledger = createMemoryLedger({ clock, historyRevisions: 2 });
  await ledger.transact({ conditions: [], writes: [appRecord("one")] });
  const state = await stateOn(ledger, clock);
  expect(state.snapshot.apps.get("default/one")?.app).not.toBeNull();
  const written = [];
  for (const name of ["two", "three", "four", "five", "six", "seven"]) {
    written.push(ledger.transact({ conditions: [], writes: [appRecord(name)] }));
  }
  written.push(
    ledger.transact({
      conditions: [],
      writes: [{ kind: "delete", key: keys.app(project, "one" as AppName) }],
    }),
  );
  await Promise.all(written);
  await state.reached(8);
  await clock.run(1_000);
  expect(state.snapshot.revision).toBe(8);
  const all = ["one", "two", "three", "four", "five", "six", "seven"];
  await state.load(all.map((name) => `default/${name}`));
  expect(state.appCount).toBe(6);
  const names = [...state.snapshot.apps.entries()].map(([key]) => key).sort();
  expect(names).toEqual(
    ["five", "four", "seven", "six", "three", "two"].map((name) => `default/${name}`),
  );
  state.close();
  await ledger.close();
});

test("one replica leads; the next takes over when its lease ends, or at once by name", async () => {
  const clock = new VirtualClock();
  const ledger = createMemoryLedger({ clock });
  const make = async (replica: string) => {
    const changes: boolean[] = [];
    let leader: Leadership | null = null;
    const state = new HardState(ledger, clock, "localhost", (change) => {
      if (change.leaderChanged) void leader?.review();
    });
    await state.start();
    await state.indexed;
    leader = new Leadership(ledger, clock, replica, state, () => {
      changes.push(leader?.fence !== null);
    });
    await leader.review();
    return { state, leader, changes };
  };
  const one = await make("one");
  const two = await make("two");
  expect(one.leader.fence).not.toBeNull();
  expect(two.leader.fence).toBeNull();
  await clock.run(60_000);
  expect(one.leader.fence).not.toBeNull();

  // The same name again: its earlier life cannot be alive.
  const again = await make("one");
  await clock.run(10);
  expect(again.leader.fence).not.toBeNull();
  expect(one.leader.fence).toBeNull();
  expect(one.changes).toEqual([true, false]);

  await again.leader.close();
  await clock.run(2_000);
  expect([one, two].filter(({ leader }) => leader.fence !== null).length).toBe(1);
  for (const { leader, state } of [one, two, again]) {
    await leader.close();
    state.close();
  }
  await ledger.close();
});

function statusOf(instance: string, restarts = 0): InstanceStatus {
  return {
    instance: instance as InstanceId,
    project,
    app: "one" as AppName,
    release: 1,
    process: "web" as never,
    phase: { state: "asleep", since: 0 },
    wasHealthy: true,
    restarts,
    lastExit: null,
    usage: null,
  };
}

/** A node that says what it is told to, in the numbers it is told to. */
function fakeAgent(clock: VirtualClock) {
  const wire = createMemoryWire({ clock });
  const agent = { epoch: "a", sequence: 0, instances: [] as InstanceStatus[], reports: 0 };
  wire.respond(subjects.nodeReport(n1), async () => {
    agent.reports += 1;
    const { epoch, sequence, instances } = agent;
    return { node: n1, epoch, sequence, at: 0, instances } as never;
  });
  const say = (changed: readonly InstanceStatus[], removed: readonly string[] = []) => {
    agent.sequence += 1;
    const { epoch, sequence } = agent;
    const change = { node: n1, epoch, sequence, at: 0, changed, removed };
    wire.publish(subjects.nodeStatus(n1), change as unknown as NodeChange as never);
  };
  return { wire, agent, say };
}

test("a node's changes are followed by their numbers; a gap asks for the whole", async () => {
  const clock = new VirtualClock();
  const { wire, agent, say } = fakeAgent(clock);
  const touched: string[] = [];
  let heard = 0;
  const observer = new Observer(
    wire,
    clock,
    (apps) => touched.push(...apps),
    () => {
      heard += 1;
    },
  );
  observer.start();
  agent.instances = [statusOf("i1")];
  observer.setMembers(new Set([n1]));
  await observer.heardAll(1_000);
  expect([agent.reports, heard]).toEqual([1, 1]);
  expect([...observer.instancesOf("default/one").keys()] as string[]).toEqual(["i1"]);

  say([statusOf("i2")]);
  await clock.run(1);
  expect(observer.instancesOf("default/one").size).toBe(2);
  const before = touched.length;
  const usage = {
    cpuCores: 1,
    cpuTimeUs: 1,
    memoryBytes: 1,
    oomKills: 0,
    confined: false,
    cpuCredit: null,
    memoryCredit: null,
  };
  say([{ ...statusOf("i2"), usage }]);
  await clock.run(1);
  expect(touched.length).toBe(before);
  expect(observer.instancesOf("default/one").get("i2" as InstanceId)?.status.usage).toEqual(usage);

  // One message is lost: the next one shows it.
  agent.sequence += 1;
  agent.instances = [statusOf("i2", 3)];
  say([]);
  await clock.run(1);
  expect(agent.reports).toBe(2);
  const [seen] = observer.instancesOf("default/one").values();
  expect(seen?.status).toEqual(statusOf("i2", 3));

  // Another life of the agent.
  agent.epoch = "b";
  agent.sequence = 0;
  agent.instances = [];
  say([]);
  await clock.run(1);
  expect(agent.reports).toBe(3);
  expect(observer.instancesOf("default/one").size).toBe(0);
  expect(heard).toBe(3);

  expect(observer.isAlive(n1)).toBe(true);
  await clock.run(30_000);
  expect(observer.isAlive(n1)).toBe(false);
  observer.setMembers(new Set());
  expect(observer.heardSince(n1)).toBeNull();
  observer.close();
  await wire.close();
});

test("an agent that comes later is asked until it answers", async () => {
  const clock = new VirtualClock();
  const wire = createMemoryWire({ clock });
  const observer = new Observer(
    wire,
    clock,
    () => {},
    () => {},
  );
  observer.start();
  observer.setMembers(new Set([n1]));
  await clock.run(5_000);
  expect(observer.heardSince(n1)).toBeNull();
  const random = seededRandom(1);
  wire.respond(subjects.nodeReport(n1), async () => ({
    ...{ node: n1, epoch: random.token(4), sequence: 0, at: 0, instances: [] },
  }));
  await clock.run(200);
  expect(observer.heardSince(n1)).not.toBeNull();
  observer.close();
  await wire.close();
});
