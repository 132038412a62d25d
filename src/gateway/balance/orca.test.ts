import { expect, test } from "bun:test";
import { reportedCostUs } from "./orca.ts";

test("reads the CPU a request cost, in the forms ORCA has in HTTP", () => {
  expect(reportedCostUs("TEXT named_metrics.cpu_seconds=0.25")).toBe(250_000);
  expect(reportedCostUs("cpu_utilization:0.3, named_metrics.cpu_seconds:0.001")).toBe(1000);
  expect(reportedCostUs("request_cost.cpu_seconds=2e-3,mem_utilization=0.1")).toBe(2000);
  expect(reportedCostUs('JSON {"request_cost":{"cpu_seconds":0.5}}')).toBe(500_000);
  expect(reportedCostUs('{"named_metrics":{"cpu_seconds":1}}')).toBe(1_000_000);
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
