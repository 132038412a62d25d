import { expect, test } from "bun:test";
import { VirtualClock } from "../../base/virtual.ts";
import { createMemoryWire } from "../../fabric/memory/wire.ts";
import type { InstanceStatus } from "../../model/instance.ts";
import { requestIndex, trafficLayout } from "../../model/traffic.ts";
import {
  type AppCosts,
  type GatewayMetrics,
  type InstanceTotals,
  subjects,
} from "../../model/wire.ts";
import type { MetricFamily } from "../operations.ts";
import { metricFamilies } from "./families.ts";
import { appsMax, Meters, processesMax } from "./meters.ts";

function rig() {
  const clock = new VirtualClock(1_000_000);
  const wire = createMemoryWire();
  const meters = new Meters(wire, clock);
  meters.start();
  const settle = () => Bun.sleep(0);
  return {
    meters,
    clock,
    async gateway(session: string, apps: Record<string, number>, name = "g0") {
      const message: GatewayMetrics = {
        ...{ gateway: name, session, at: clock.now(), connections: 3, unrouted: 0 },
        apps: Object.entries(apps).map(([app, requests]) => ({
          ...{ app, inFlight: 2, held: 1, counts: countsOf(requests) },
        })),
      };
      wire.publish(subjects.gatewayMetrics(name), message as never);
      await settle();
    },
    async node(epoch: string, totals: readonly InstanceTotals[], removed: readonly string[] = []) {
      const change = { node: "n1", epoch, sequence: 1, at: 0, changed: [], removed, totals };
      wire.publish(subjects.nodeStatus("n1" as never), change as never);
      await settle();
    },
    families: (
      statuses: readonly (readonly [string, InstanceStatus])[] = [],
      costsOf: (app: string) => AppCosts | null = () => null,
    ) => {
      const collected = { blobs: 0, blobBytes: 0, trees: 0, treeBytes: 0 };
      const present = { version: "1", apps: 2, collected, asleep: 0 };
      return metricFamilies(meters, { ...present, statuses, costsOf });
    },
  };
}

function countsOf(requests: number): readonly number[] {
  const counts = new Array<number>(trafficLayout.length).fill(0);
  counts[requestIndex("HTTP/1.1", 200)] = requests;
  counts[trafficLayout.latency + 2] = requests;
  counts[trafficLayout.latencyMs] = requests * 4;
  return counts;
}

function totals(instance: string, cpuTimeUs: number, process = "web", app = "a"): InstanceTotals {
  return {
    ...{ instance, project: "default", app, process, cpuTimeUs, throttledUs: 0 },
    ...{ confinedUs: cpuTimeUs / 2, oomKills: 0, restarts: 1, wakes: 0 },
    ...{ coldStarts: [], coldStartMs: 0 },
  } as unknown as InstanceTotals;
}

function valueIn(families: readonly MetricFamily[], name: string, labels = {}): number {
  const samples = families.find((family) => family.name === name)?.samples ?? [];
  return samples
    .filter((sample) => Object.entries(labels).every(([key, of]) => sample.labels[key] === of))
    .filter(({ suffix }) => suffix === "" || suffix === "_count")
    .reduce((sum, { value }) => sum + value, 0);
}

test("gateways are added up; a lost message costs nothing; nothing is counted twice", async () => {
  const { gateway, families } = rig();
  await gateway("s1", { "default/a": 10 });
  await gateway("s1", { "default/a": 10 });
  // The message with 20 was lost.
  await gateway("s1", { "default/a": 30 });
  await gateway("s9", { "default/a": 5 }, "g1");
  const sums = families();
  expect(valueIn(sums, "lode_app_requests_total", { app: "a", code: "2xx" })).toBe(35);
  expect(valueIn(sums, "lode_app_request_duration_seconds", { app: "a" })).toBe(35);
  expect(valueIn(sums, "lode_app_requests_in_flight")).toBe(4);
  expect(valueIn(sums, "lode_app_requests_held")).toBe(2);
});

test("a session begins anew, and so does an app that was removed and came back", async () => {
  const { gateway, families } = rig();
  await gateway("s1", { "default/a": 10 });
  await gateway("s2", { "default/a": 4 });
  await gateway("s2", { "default/a": 1 });
  expect(valueIn(families(), "lode_app_requests_total")).toBe(15);
});

test("a gateway that is silent has nothing in flight; its counts stay", async () => {
  const { gateway, families, clock } = rig();
  await gateway("s1", { "default/a": 10 });
  clock.advance(60_000);
  expect(valueIn(families(), "lode_app_requests_in_flight")).toBe(0);
  expect(valueIn(families(), "lode_gateway_connections")).toBe(0);
  expect(valueIn(families(), "lode_app_requests_total")).toBe(10);
});

test("instances are added up, those that are gone too; a new agent begins anew", async () => {
  const { node, families } = rig();
  await node("e1", [totals("i1", 1_000_000), totals("i2", 500_000)]);
  await node("e1", [totals("i1", 2_000_000)], ["i1"]);
  await node("e2", [totals("i2", 250_000)]);
  const sums = families();
  expect(valueIn(sums, "lode_app_cpu_seconds_total", { app: "a", process: "web" })).toBe(2.75);
  expect(valueIn(sums, "lode_app_cpu_confined_seconds_total", { app: "a" })).toBe(1.375);
  expect(valueIn(sums, "lode_app_restarts_total")).toBe(3);
});

test("names are bounded: what comes too late is counted together, and nothing is lost", async () => {
  const { gateway, node, families, meters } = rig();
  const many = appsMax + 50;
  for (let index = 0; index < many; index += 1) await gateway("s1", { [`default/a${index}`]: 1 });
  const sums = families();
  expect(valueIn(sums, "lode_app_requests_total")).toBe(many);
  expect(valueIn(sums, "lode_app_requests_total", { project: "-", app: "other" })).toBe(50);
  for (let index = 0; index < processesMax + 5; index += 1) {
    await node("e1", [totals(`i${index}`, 1_000_000, `p${index}`, "a0")]);
  }
  expect(valueIn(families(), "lode_app_cpu_seconds_total")).toBe(processesMax + 5);
  expect(valueIn(families(), "lode_app_cpu_seconds_total", { process: "-" })).toBe(5);
  meters.keep((app) => app !== "default/a0");
  expect(meters.apps.size).toBe(appsMax - 1);
});

test("gauges: instances by state, memory; a crowd of sleepers takes nobody's place", async () => {
  const { families, meters } = rig();
  const status = (app: string, state: string): readonly [string, InstanceStatus] => {
    const usage = state === "running" ? { memoryBytes: 100 } : null;
    return [`default/${app}`, { process: "web", phase: { state }, usage } as never];
  };
  const sleepers = Array.from({ length: appsMax * 2 }, (_, index) => status(`s${index}`, "asleep"));
  const shown = families([...sleepers, status("a", "running"), status("a", "starting")]);
  expect(valueIn(shown, "lode_app_instances", { app: "other", state: "asleep" })).toBe(appsMax * 2);
  expect(valueIn(shown, "lode_app_instances", { app: "a", state: "running" })).toBe(1);
  expect(valueIn(shown, "lode_app_memory_bytes", { app: "a" })).toBe(100);
  expect([...meters.apps.keys()]).toEqual(["default/a"]);
});

test("costs: of each route class of the apps that are counted by name", async () => {
  const { gateway, families } = rig();
  await gateway("s1", { "default/a": 1 });
  const classes = [{ name: "GET /x/{}", costUs: 2500, confidence: 0.9 }];
  const known = (app: string) => (app === "default/a" ? ({ classes } as never) : null);
  const labels = { project: "default", app: "a", route: "GET /x/{}" };
  const shown = families([], known);
  expect(valueIn(shown, "lode_app_request_cost_cpu_seconds", labels)).toBe(0.0025);
  expect(valueIn(shown, "lode_app_request_cost_confidence", labels)).toBe(0.9);
  expect(valueIn(families(), "lode_app_request_cost_cpu_seconds")).toBe(0);
});
