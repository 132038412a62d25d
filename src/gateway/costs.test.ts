import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { VirtualClock } from "../base/virtual.ts";
import { createMemoryWire } from "../fabric/memory/wire.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import { type AppCosts, type GatewayFinished, type NodeCpu, subjects } from "../model/wire.ts";
import { CostLearning, type Counts } from "./costs/learning.ts";
import { openLoadTable } from "./load/table.ts";
import {
  appRoute,
  eventually,
  RawClient,
  rawServer,
  runningOn,
  startRig,
} from "./testing/harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function served(headers: string) {
  const server = rawServer((text, socket) => {
    if (!text.endsWith("\r\n\r\n")) return;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${headers}X-Own: 1\r\n\r\nhi`);
  });
  closers.push(server.close);
  const instance = runningOn("i1", server.port);
  const rig = await startRig({ "default/a": appRoute("a", [instance]) });
  closers.push(rig.close);
  const finished: GatewayFinished[] = [];
  rig.wire.subscribe(subjects.gatewayFinished("*"), ({ payload }) => {
    finished.push(payload as unknown as GatewayFinished);
  });
  const cut = async (sequence: number) => {
    const sample = { sample: sequence, at: sequence * 1000, cpuTimeUs: 0, coresMax: null };
    const instances = [{ instance: "i1" as InstanceId, ...sample }];
    const cpu: NodeCpu = { node: "n1" as NodeName, epoch: "e", sequence, instances };
    const before = finished.length;
    rig.wire.publish(subjects.nodeCpu(cpu.node), cpu as never);
    await eventually(() => finished.length > before);
    return finished.at(-1)?.instances[0];
  };
  const get = async (path: string) => {
    const client = await RawClient.connect(rig.port);
    client.send(`GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`);
    const answer = await client.until("hi");
    client.close();
    return answer;
  };
  return { rig, get, cut };
}

test("requests are counted by class, from one sample of CPU to the next", async () => {
  const { get, cut } = await served("");
  await get("/users/1");
  await get("/users/2");
  await get("/about?x=1");
  const one = { reportedCount: 0, reportedUs: 0 };
  expect(await cut(1)).toEqual({
    instance: "i1" as InstanceId,
    app: "default/a",
    release: 1,
    from: null,
    inFlight: 0,
    classes: [
      { name: "GET /users/{}", count: 2, ...one },
      { name: "GET /about", count: 1, ...one },
    ],
  });
  await get("/about");
  const second = await cut(2);
  expect(second?.from).toBe(1);
  expect(second?.classes).toEqual([{ name: "GET /about", count: 1, ...one }]);
});

test("an ORCA header is taken for the cost, and clients do not see it", async () => {
  const { get, cut } = await served(
    "endpoint-load-metrics: TEXT named_metrics.cpu_seconds=0.25\r\n" +
      "ORCA-Load-Metrics: cpu_utilization=1\r\n",
  );
  const answer = await get("/");
  expect(answer).toContain("X-Own: 1");
  expect(answer.toLowerCase()).not.toContain("load-metrics");
  expect((await cut(1))?.classes).toEqual([
    { name: "GET /", count: 1, reportedCount: 1, reportedUs: 250_000 },
  ]);
});

test("what is known of an app's requests comes with its route", async () => {
  const server = rawServer(() => {});
  closers.push(server.close);
  const rig = await startRig({});
  closers.push(rig.close);
  const routeTo = (name: string, column: number) =>
    appRoute(name, [{ ...runningOn(name, server.port), column }]);
  const costsOf = (name: string, release: number): AppCosts => ({
    ...{ app: `default/${name}`, release, gateway: "g1", row: 1, at: 1, idleUs: 0 },
    classes: [{ name: "GET /", costUs: 50_000, requests: 9, confidence: 1, reported: false }],
    ...{ meanUs: 50_000, knownShare: 1, sure: true },
  });
  const known = { found: costsOf("found", 1), outdated: costsOf("outdated", 2) };
  rig.onLookUp(async (host) => {
    const name = host === "found.test" ? "found" : "outdated";
    const route = routeTo(name, name === "found" ? 1 : 2);
    return { key: `default/${name}`, route, costs: known[name] };
  });
  rig.setApps({ "default/changed": routeTo("changed", 3) }, [costsOf("changed", 1)]);
  const opened = openLoadTable(join(rig.directory, "load.table"), 1);
  if (!opened.ok) throw new Error(opened.error);
  const costOf = async (name: string, column: number) => {
    const client = await RawClient.connect(rig.port);
    closers.push(() => client.close());
    client.send(`GET / HTTP/1.1\r\nHost: ${name}.test\r\n\r\n`);
    const load = { count: 0, beganUs: 0, endedUs: 0, dear: 0 };
    await eventually(() => {
      opened.value.read(column, load);
      return load.count === 1;
    });
    return load.beganUs;
  };
  expect(await costOf("found", 1)).toBe(50_000);
  expect(await costOf("outdated", 2)).toBe(1000);
  expect(await costOf("changed", 3)).toBe(50_000);
});

/** Gateways that count what one instance did, in virtual time. */
function learningRig(rows: number) {
  const clock = new VirtualClock();
  const wire = createMemoryWire({ clock });
  closers.push(() => wire.close());
  const world = { release: 1, cheapUs: 1000, dearUs: 100_000, alive: rows };
  let step = 0;
  let cpuTimeUs = 0;
  const gateways = Array.from({ length: rows }, (_, row) => {
    const costs = new Map<string, AppCosts>();
    const counts: Counts = {
      costs,
      releaseOf: () => world.release,
      onCostsVoid: () => {},
      applyCosts: (learned) => void costs.set(learned.app, learned),
      cut: ({ instances }) =>
        instances.map(({ instance, sample }) => ({
          ...{ instance, app: "default/a", release: world.release, from: sample - 1, inFlight: 0 },
          classes: [
            { name: "GET /cheap", count: 1 + (step % 7), reportedCount: 0, reportedUs: 0 },
            { name: "GET /dear", count: step % 3, reportedCount: 0, reportedUs: 0 },
          ],
        })),
    };
    const learning = new CostLearning(wire, clock, `g${row}`, row, counts);
    closers.push(() => learning.close());
    return { costs, counts, learning };
  });
  const run = async (steps: number) => {
    for (let index = 0; index < steps; index += 1) {
      step += 1;
      // What the gateways count at this sample was used before it.
      const { alive, cheapUs, dearUs } = world;
      cpuTimeUs += alive * ((1 + (step % 7)) * cheapUs + (step % 3) * dearUs);
      const sample = { sample: step, at: step * 1000, cpuTimeUs, coresMax: null };
      const instances = [{ instance: "i1" as InstanceId, ...sample }];
      const cpu: NodeCpu = { node: "n1" as NodeName, epoch: "e", sequence: step, instances };
      wire.publish(subjects.nodeCpu(cpu.node), cpu as never);
      await clock.run(1000);
    }
  };
  const costOf = ({ costs }: { readonly costs: ReadonlyMap<string, AppCosts> }, name: string) =>
    costs.get("default/a")?.classes.find((one) => one.name === name)?.costUs ?? 0;
  return { world, gateways, run, costOf };
}

test("several gateways: one learns, all reckon the same, and a successor goes on", async () => {
  const { world, gateways, run, costOf } = learningRig(2);
  const [first, second] = gateways as [(typeof gateways)[0], (typeof gateways)[0]];
  await run(60);
  expect(first.costs.get("default/a")?.gateway).toBe("g0");
  expect(first.costs.get("default/a")?.sure).toBe(true);
  expect(Math.abs(costOf(first, "GET /cheap") - 1000)).toBeLessThan(100);
  expect(Math.abs(costOf(first, "GET /dear") - 100_000)).toBeLessThan(1000);
  expect([...second.costs]).toEqual([...first.costs]);
  first.learning.close();
  world.alive = 1;
  await run(15);
  expect(second.costs.get("default/a")?.gateway).toBe("g1");
  expect(second.costs.get("default/a")?.sure).toBe(true);
  expect(Math.abs(costOf(second, "GET /dear") - 100_000)).toBeLessThan(5000);
});

test("with another release it learns anew, as if there had been none before", async () => {
  const { world, gateways, run, costOf } = learningRig(1);
  const [gateway] = gateways as [(typeof gateways)[0]];
  await run(200);
  expect(Math.abs(costOf(gateway, "GET /dear") - 100_000)).toBeLessThan(1000);
  Object.assign(world, { release: 2, cheapUs: 3000, dearUs: 9000 });
  gateway.costs.clear();
  gateway.counts.onCostsVoid("default/a");
  await run(4);
  expect(gateway.costs.get("default/a")?.release).toBe(2);
  expect(gateway.costs.get("default/a")?.sure).toBe(false);
  await run(40);
  expect(gateway.costs.get("default/a")?.sure).toBe(true);
  expect(Math.abs(costOf(gateway, "GET /cheap") - 3000)).toBeLessThan(200);
  expect(Math.abs(costOf(gateway, "GET /dear") - 9000)).toBeLessThan(200);
});

/** Two instances that answer cheap requests and leave dear ones hanging. */
async function twoServed() {
  const servers = ["i1", "i2"].map((name) => {
    const server = rawServer((text, socket) => {
      const asked = text.slice(text.lastIndexOf("GET "));
      if (!asked.includes("\r\n\r\n") || asked.startsWith("GET /dear")) return;
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${name}`);
    });
    closers.push(server.close);
    return server;
  });
  const route = (release: number) => {
    const instances = servers.map(({ port }, index) => ({
      ...runningOn(`i${index + 1}-${release}`, port),
      column: 2 * release + index,
    }));
    return { "default/a": appRoute("a", instances, { release }) };
  };
  const rig = await startRig(route(1));
  closers.push(rig.close);
  const dear = async () => {
    const client = await RawClient.connect(rig.port);
    closers.push(() => client.close());
    const seen = () => servers.map(({ seen }) => seen.filter(({ text }) => isDear(text)).length);
    const before = seen();
    client.send("GET /dear HTTP/1.1\r\nHost: a.test\r\n\r\n");
    await eventually(() => seen().some((count, index) => count > (before[index] ?? 0)));
    return seen().findIndex((count, index) => count > (before[index] ?? 0));
  };
  const cheap = async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /cheap HTTP/1.1\r\nHost: a.test\r\n\r\n");
    const answer = await client.until(/i[12]$/);
    client.close();
    return answer.endsWith("i1") ? 0 : 1;
  };
  return { rig, route, dear, cheap };
}

const isDear = (text: string) => text.includes("GET /dear");

const costsOf = (release: number): AppCosts => {
  const known = { confidence: 1, reported: false };
  return {
    ...{ app: "default/a", release, gateway: "g5", row: 5, at: 0 },
    classes: [
      { name: "GET /cheap", costUs: 1000, requests: 100, ...known },
      { name: "GET /dear", costUs: 100_000, requests: 1, ...known },
    ],
    ...{ idleUs: 0, meanUs: 1980, knownShare: 1, sure: true },
  };
};

test("dear requests wait behind one another, so that cheap ones need not", async () => {
  const { rig, dear, cheap } = await twoServed();
  rig.wire.publish(subjects.costs, costsOf(1) as never);
  await Bun.sleep(20);
  const first = await dear();
  for (let request = 0; request < 10; request += 1) expect(await cheap()).toBe(1 - first);
  for (let request = 0; request < 3; request += 1) expect(await dear()).toBe(first);
  expect(await cheap()).toBe(1 - first);
});

test("what was learned of one release is forgotten when another serves", async () => {
  const { rig, route, dear } = await twoServed();
  rig.wire.publish(subjects.costs, costsOf(1) as never);
  await Bun.sleep(20);
  expect(await dear()).toBe(await dear());
  rig.setApps(route(2));
  await Bun.sleep(20);
  expect(await dear()).not.toBe(await dear());
  // Told too late: it is of the release before.
  rig.wire.publish(subjects.costs, costsOf(1) as never);
  await Bun.sleep(20);
  expect(await dear()).not.toBe(await dear());
});
