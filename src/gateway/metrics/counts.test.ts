import { expect, test } from "bun:test";
import { latencyBoundsMs, requestIndex, trafficLayout } from "../../model/traffic.ts";
import { TrafficCounts } from "./counts.ts";

const at = (counts: readonly number[], index: number) => counts[index] ?? Number.NaN;

test("a request is counted by class, duration and bytes", () => {
  const counts = new TrafficCounts();
  counts.add("HTTP/1.1", 204, 7, 10, 20);
  counts.add("HTTP/2", 503, 60_000, 1, 2);
  counts.add("HTTP/1.1", 101, 99_000, 0, 500);
  const told = counts.take();
  expect(told.length).toBe(trafficLayout.length);
  expect(at(told, requestIndex("HTTP/1.1", 200))).toBe(1);
  expect(at(told, requestIndex("HTTP/2", 500))).toBe(1);
  expect(at(told, requestIndex("HTTP/1.1", 101))).toBe(1);
  expect(at(told, trafficLayout.latency + latencyBoundsMs.indexOf(10))).toBe(1);
  expect(at(told, trafficLayout.latency + latencyBoundsMs.length)).toBe(1);
  expect(at(told, trafficLayout.latencyMs)).toBe(60_007);
  expect(at(told, trafficLayout.bytesIn)).toBe(11);
  expect(at(told, trafficLayout.bytesOut)).toBe(522);
});

test("a new session begins with what was not told yet, and no more", () => {
  const counts = new TrafficCounts();
  const index = requestIndex("HTTP/1.1", 200);
  counts.add("HTTP/1.1", 200, 1, 0, 0);
  counts.take();
  counts.add("HTTP/1.1", 200, 1, 0, 0);
  counts.add("HTTP/1.1", 200, 1, 0, 0);
  expect(counts.beginSession()).toBe(true);
  expect(at(counts.take(), index)).toBe(2);
  expect(counts.beginSession()).toBe(false);
  expect(at(counts.take(), index)).toBe(0);
});
