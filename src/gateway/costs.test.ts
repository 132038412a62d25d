import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtualClock } from "../base/virtual.ts";
import { createMemoryWire } from "../fabric/memory/wire.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import { type AppCosts, type GatewayFinished, type NodeCpu, subjects } from "../model/wire.ts";
import { CostLearning, type Counts } from "./costs/learning.ts";
import {
  appRoute,
  eventually,
  RawClient,
  rawServer,
  routeInstance,
  runningAt,
  startRig,
  tcp,
} from "./testing/harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
const directory = mkdtempSync(join(tmpdir(), "lode-costs-"));
afterAll(() => rmSync(directory, { recursive: true }));

async function served(headers: string) {
  const server = rawServer((text, socket) => {
    if (!text.endsWith("\r\n\r\n")) return;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${headers}X-Own: 1\r\n\r\nhi`);
  });
  closers.push(server.close);
  const instance = routeInstance("i1", runningAt(tcp(server.port)));
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

test("several gateways: one learns, all reckon the same, and a successor goes on", async () => {
  const clock = new VirtualClock();
  const wire = createMemoryWire({ clock });
  closers.push(() => wire.close());
  let step = 0;
  let cpuTimeUs = 0;
  const gateways = [0, 1].map((row) => {
    const costs = new Map<string, AppCosts>();
    const counts: Counts = {
      costs,
      applyCosts: (learned) => void costs.set(learned.app, learned),
      cut: ({ instances }) =>
        instances.map(({ instance, sample }) => ({
          ...{ instance, app: "default/a", from: sample - 1, inFlight: 0 },
          classes: [
            { name: "GET /cheap", count: 1 + (step % 7), reportedCount: 0, reportedUs: 0 },
            { name: "GET /dear", count: step % 3, reportedCount: 0, reportedUs: 0 },
          ],
        })),
    };
    const learning = new CostLearning(wire, clock, `g${row}`, row, counts);
    return { costs, learning };
  });
  const [first, second] = gateways as [(typeof gateways)[0], (typeof gateways)[0]];
  let alive = 2;
  const run = async (steps: number) => {
    for (let index = 0; index < steps; index += 1) {
      step += 1;
      // What the gateways count at this sample was used before it.
      cpuTimeUs += alive * ((1 + (step % 7)) * 1000 + (step % 3) * 100_000);
      const sample = { sample: step, at: step * 1000, cpuTimeUs, coresMax: null };
      const instances = [{ instance: "i1" as InstanceId, ...sample }];
      const cpu: NodeCpu = { node: "n1" as NodeName, epoch: "e", sequence: step, instances };
      wire.publish(subjects.nodeCpu(cpu.node), cpu as never);
      await clock.run(1000);
    }
  };
  const costOf = ({ costs }: (typeof gateways)[0], name: string) =>
    costs.get("default/a")?.classes.find((one) => one.name === name)?.costUs ?? 0;
  await run(60);
  expect(first.costs.get("default/a")?.gateway).toBe("g0");
  expect(first.costs.get("default/a")?.sure).toBe(true);
  expect(Math.abs(costOf(first, "GET /cheap") - 1000)).toBeLessThan(100);
  expect(Math.abs(costOf(first, "GET /dear") - 100_000)).toBeLessThan(1000);
  expect([...second.costs]).toEqual([...first.costs]);
  first.learning.close();
  alive = 1;
  await run(15);
  expect(second.costs.get("default/a")?.gateway).toBe("g1");
  expect(second.costs.get("default/a")?.sure).toBe(true);
  expect(Math.abs(costOf(second, "GET /dear") - 100_000)).toBeLessThan(5000);
  second.learning.close();
});
