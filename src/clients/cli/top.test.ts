import { afterAll, beforeAll, expect, test } from "bun:test";
import { startTestCloud, type TestCloud } from "./harness.test.ts";

let cloud: TestCloud;

beforeAll(() => {
  cloud = startTestCloud();
});
afterAll(() => cloud.stop());

test("once: a table of apps and their instances", async () => {
  const ran = await cloud.run(["top", "--once"]);
  expect(ran).toMatchObject({ code: 0, stderr: "" });
  const [head, app, instance, more] = ran.stdout.split("\n");
  expect(head?.split(/ {2,}/)).toEqual([
    "APP",
    "INSTANCE",
    "STATE",
    "CPU",
    "MEMORY",
    "REQ/S",
    "IN FLIGHT",
    "HELD",
    "CREDIT",
  ]);
  expect(app?.split(/ {2,}/)).toEqual([
    "hello",
    "1",
    "serving",
    "0.25",
    "3.05M",
    "12.5",
    "3",
    "1",
    "-",
  ]);
  expect(instance).toMatch(/^ +i0000000001 +running, confined +0\.25 .* cpu 25 %$/);
  expect(more).toBe("2 more apps");
});

test("as JSON: one line a frame", async () => {
  const ran = await cloud.run(["top", "--once", "--json"]);
  const frame = JSON.parse(ran.stdout);
  expect(frame).toMatchObject({ at: "1970-01-01T00:00:00.002Z", more: 2 });
  expect(frame.apps[0].instances[0].usage.cpuCredit).toEqual({ left: 30, capacity: 120 });
});

test("live: frames follow one another until Ctrl-C; on a terminal each over the last", async () => {
  for (const isTerminal of [false, true]) {
    const stop = new AbortController();
    const ran = await cloud.run(["top"], {
      isTerminal,
      interrupted: stop.signal,
      onOutput: (text) => {
        if ((text.match(/requests\/s/g) ?? []).length >= 3) stop.abort();
      },
    });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain("0.25 cores, 3.05M, 12.5 requests/s, 3 more apps");
    expect(ran.stdout.includes("\x1b[H")).toBe(isTerminal);
  }
});
