import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Json } from "../base/json.ts";
import type { Assignment, Endpoint } from "../model/instance.ts";
import { type ExecOutput, type ExecRequest, type StatusesReply, subjects } from "../model/wire.ts";
import { nodePaths } from "./paths.ts";
import {
  assign,
  type Cloud,
  cleanUp,
  deploy,
  fetchApp,
  get,
  logText,
  must,
  node,
  phaseOf,
  reach,
  report,
  startCloud,
  unassign,
  until,
  wake,
} from "./testing/rig.ts";

// The idle ladder on the real thing.

setDefaultTimeout(60_000);
afterEach(cleanUp);

const ticking = `let ticks = 0;
setInterval(() => void ticks++, 1);
export default { fetch: () => new Response(String(ticks)) };`;

/** Whether its program gets no CPU: a timer of every millisecond does not run. */
async function isFrozen(cloud: Cloud, { instance }: Assignment): Promise<boolean> {
  const cgroup = await cloud.cgroups().open(instance);
  const usedUs = async () => (await cgroup?.usage())?.cpuTimeUs;
  const before = await usedUs();
  await Bun.sleep(50);
  return before !== undefined && (await usedUs()) === before;
}

/** A gateway that says what it is told to. */
function gatewayOf(cloud: Cloud): { inFlight: number } {
  const said = { inFlight: 0 };
  cloud.gateways.push("g1");
  cloud.wire.respond(subjects.gatewayQuiesce("g1"), async () => ({ ...said, lastRequestAt: null }));
  return said;
}

test("an idle app freezes, thaws as the same process, and is stopped in the end", async () => {
  const cloud = await startCloud();
  const gateway = gatewayOf(cloud);
  const ladder = { ...fetchApp, keepAwake: false, freezeMs: 200 };
  const assignment = await deploy(
    cloud,
    "ice",
    { "app.ts": ticking },
    { ...ladder, idleMs: 60_000 },
  );
  const first = await reach(cloud, assignment, "running");
  const frozen = await reach(cloud, assignment, "frozen");
  expect(frozen.pid).toBe(first.pid);
  await until("it stands still", () => isFrozen(cloud, assignment));
  gateway.inFlight = 1;
  const reply = await wake(cloud, assignment);
  if (!reply.ok) throw new Error(reply.reason);
  expect(reply.endpoint).toEqual(first.endpoint as Endpoint);
  const before = Number(await get(reply.endpoint));
  expect((await phaseOf(cloud, assignment))?.state).toBe("running");
  const { endpoint } = reply;
  await until("its timer runs", async () => Number(await get(endpoint)) > before);
  gateway.inFlight = 0;
  await reach(cloud, assignment, "frozen");
  // Limits may change and its use is read while it is frozen.
  const memory = { min: null, max: 1024 ** 3, burst: null };
  await assign(cloud, { ...assignment, limits: { ...assignment.limits, memory } });
  await assign(cloud, { ...assignment, idleMs: 300 });
  await reach(cloud, assignment, "asleep");
  expect(existsSync(`/proc/${first.pid}`)).toBe(false);
  expect((await wake(cloud, assignment)).ok).toBe(true);
});

test("what is frozen is adopted frozen, and thaws for a program inside it", async () => {
  const cloud = await startCloud();
  const ladder = { ...fetchApp, keepAwake: false, freezeMs: 200 };
  const assignment = await deploy(cloud, "ice", { "app.ts": ticking }, ladder);
  const first = await reach(cloud, assignment, "running");
  await reach(cloud, assignment, "frozen");
  await cloud.agent.close();
  await cloud.restart();
  const adopted = await reach(cloud, assignment, "frozen");
  expect(adopted.pid).toBe(first.pid);
  await until("it stands still", () => isFrozen(cloud, assignment));
  const { instance, project, app, uidOffset } = assignment;
  const exits: number[] = [];
  cloud.wire.subscribe(subjects.sessionOutput("inside"), ({ payload }) => {
    const output = payload as unknown as ExecOutput;
    if (output.kind === "exit") exits.push(output.code);
  });
  const exec: ExecRequest = {
    ...{ session: "inside", project, app, uidOffset, target: { kind: "inside", instance } },
    ...{ argv: ["/bin/sh", "-c", "cat; exit 7"], terminal: null },
  };
  const started = await cloud.wire.request(subjects.nodeExec(node), exec as unknown as Json, {
    timeoutMs: 5000,
  });
  expect(must(started)).toEqual({ ok: true });
  await Bun.sleep(500);
  expect((await phaseOf(cloud, assignment))?.state).toBe("running");
  cloud.wire.publish(subjects.sessionInput("inside"), { kind: "eof" });
  await until("the program has ended", () => exits.length > 0);
  expect(exits).toEqual([7]);
  await reach(cloud, assignment, "frozen");
});

test("what sleeps is kept in no memory, and wakes, changes and ends all the same", async () => {
  const cloud = await startCloud({ bedMs: 300, readyMax: 0 });
  const lazy = { ...fetchApp, keepAwake: false, idleMs: 60_000 };
  const files = { "app.ts": ticking };
  const assignment = await deploy(cloud, "bed", files, lazy);
  const other = await deploy(cloud, "other", files, lazy);
  const { instance } = assignment;
  const statuses = async (): Promise<readonly string[]> => {
    const request = { instances: [instance, other.instance, "inobody00000"] };
    const reply = await cloud.wire.request(subjects.nodeStatuses(node), request, {
      timeoutMs: 2000,
    });
    const told = (must(reply) as unknown as StatusesReply).statuses;
    return told.map((status) => `${status.app} ${status.phase.state}`).sort();
  };
  const inMemory = async () => (await report(cloud)).instances.map((status) => String(status.app));
  const sleep = async () => {
    const request = { instances: [instance, other.instance] };
    await cloud.wire.request(subjects.nodeSleep(node), request, { timeoutMs: 5000 });
    await until("they are in bed", async () => (await inMemory()).length === 0);
  };
  await reach(cloud, assignment, "running");
  await reach(cloud, other, "running");
  await sleep();
  expect(await statuses()).toEqual(["bed asleep", "other asleep"]);

  const replies = await Promise.all([wake(cloud, assignment), wake(cloud, assignment)]);
  expect(replies.map(({ ok }) => ok)).toEqual([true, true]);
  expect(await inMemory()).toEqual(["bed"]);
  expect(await statuses()).toEqual(["bed running", "other asleep"]);

  // As the next lode finds it, which reads no sleeper.
  await sleep();
  await cloud.restart();
  expect(await inMemory()).toEqual([]);
  expect((await wake(cloud, assignment)).ok).toBe(true);
  await assign(cloud, { ...other, keepAwake: true });
  await reach(cloud, other, "running");
  await assign(cloud, other);
  await sleep();

  await unassign(cloud, assignment);
  await until("it is gone", async () => (await statuses()).length === 1);
  expect((await wake(cloud, assignment)).ok).toBe(false);
  await cloud.agent.close();
  await unassign(cloud, other);
  await cloud.restart();
  expect(await statuses()).toEqual([]);
});

test("a sleeper whose file is damaged or gone is made anew from the ledger", async () => {
  const cloud = await startCloud({ bedMs: 300, readyMax: 0 });
  const lazy = { ...fetchApp, keepAwake: false, idleMs: 60_000 };
  const assignment = await deploy(cloud, "torn", { "app.ts": ticking }, lazy);
  const { instance } = assignment;
  const bed = join(nodePaths.beds(cloud.paths), `${instance}.json`);
  await reach(cloud, assignment, "running");
  const goToBed = async () => {
    const request = { instances: [instance] };
    await cloud.wire.request(subjects.nodeSleep(node), request, { timeoutMs: 5000 });
    await until("it is in bed", async () => (await report(cloud)).instances.length === 0);
    expect(existsSync(bed)).toBe(true);
  };
  const told = async () => {
    const request = { instances: [instance, "inobody00000"] };
    const reply = await cloud.wire.request(subjects.nodeStatuses(node), request, {
      timeoutMs: 2000,
    });
    return (must(reply) as unknown as StatusesReply).statuses.map(({ phase }) => phase.state);
  };
  // Asked about, it sleeps on; the damage is told.
  await goToBed();
  truncateSync(bed, 40);
  await until("it is known again", async () => (await told())[0] === "asleep");
  expect(await logText(cloud, assignment)).toContain("cannot be read: it begins anew");
  const woken = await wake(cloud, assignment);
  if (!woken.ok) throw new Error(woken.reason);
  expect(Number(await get(woken.endpoint))).toBeNumber();
  // Woken without being asked about.
  await goToBed();
  writeFileSync(bed, "{}");
  expect((await wake(cloud, assignment)).ok).toBe(true);
  await goToBed();
  rmSync(bed);
  expect((await wake(cloud, assignment)).ok).toBe(true);
  // The next lode finds it damaged.
  await goToBed();
  writeFileSync(bed, "\0\0");
  await cloud.restart();
  expect((await wake(cloud, assignment)).ok).toBe(true);
  // Removed while it cannot be read.
  await goToBed();
  writeFileSync(bed, "");
  await unassign(cloud, assignment);
  await until("its file is gone", () => !existsSync(bed));
  expect((await wake(cloud, assignment)).ok).toBe(false);
  expect(await told()).toEqual([]);
});
