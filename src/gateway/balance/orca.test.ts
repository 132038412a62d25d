import { expect, test } from "bun:test";
import { reportedCostUs } from "./orca.ts";

test("reads the CPU a request cost, in the forms ORCA has in HTTP", () => {
  expect(reportedCostUs("TEXT named_metrics.cpu_seconds=0.25")).toBe(250_000);
  expect(reportedCostUs("cpu_utilization:0.3, named_metrics.cpu_seconds:0.001")).toBe(1000);
  expect(reportedCostUs("request_cost.cpu_seconds=2e-3,mem_utilization=0.1")).toBe(2000);
  expect(reportedCostUs('JSON {"request_cost":{"cpu_seconds":0.5}}')).toBe(500_000);
  expect(reportedCostUs('{"named_metrics":{"cpu_seconds":1}}')).toBe(1_000_000);
  expect(reportedCostUs('{"requestCost":{"rows":7},"namedMetrics":{"cpu_seconds":1}}')).toBe(1e6);
});

test("reads the message itself: request_cost is field 4, named_metrics 8, entries are 1 and 2", () => {
  const entry = (seconds: number, name = "cpu_seconds") => {
    const value = new Uint8Array(new Float64Array([seconds]).buffer);
    return [0x0a, name.length, ...new TextEncoder().encode(name), 0x11, ...value];
  };
  const map = (field: number, bytes: readonly number[]) => [field * 8 + 2, bytes.length, ...bytes];
  const utilization = [0x09, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
  const rate = [0x18, 0x96, 0x01];
  const base64 = (...parts: (readonly number[])[]) =>
    btoa(String.fromCharCode(...parts.flat())) as string;
  const costs = base64(utilization, rate, map(4, entry(9, "rows")), map(4, entry(0.25)));
  expect(reportedCostUs(costs)).toBe(250_000);
  expect(reportedCostUs(`BIN ${costs}`)).toBe(250_000);
  expect(reportedCostUs(base64(map(8, entry(0.5))))).toBe(500_000);
  expect(reportedCostUs(base64(utilization, map(5, entry(0.5))))).toBe(null);
  for (let length = 0; length < costs.length; length += 1) {
    expect([null, 250_000]).toContain(reportedCostUs(`BIN ${costs.slice(0, length)}`));
  }
});

test("what says nothing, or nonsense, is no cost", () => {
  const texts = ["", "TEXT", "TEXT cpu_utilization=0.9", "named_metrics.cpu_seconds=-1", "JSON {"];
  const odd = [
    "named_metrics.cpu_seconds=NaN",
    "named_metrics.cpu_seconds=1e99",
    "BIN CAE=",
    "null",
  ];
  for (const text of [...texts, ...odd, 'JSON {"request_cost":7}', "JSON null"]) {
    expect(reportedCostUs(text)).toBe(null);
  }
});
