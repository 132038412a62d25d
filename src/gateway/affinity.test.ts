import { expect, setDefaultTimeout, test } from "bun:test";
import type { Affinity } from "../model/release.ts";
import type { AppRoute, RouteInstance } from "../model/route.ts";
import { subjects } from "../model/wire.ts";
import {
  appRoute,
  eventually,
  RawClient,
  rawServer,
  routeInstance,
  runningAt,
  tcp,
} from "./testing/harness.ts";
import { sharedRig } from "./testing/suite.ts";

setDefaultTimeout(30_000);

const names = ["one", "two", "three", "four"] as const;
const rooms = Array.from({ length: 60 }, (_, index) => `room-${index}`);
const header: Affinity = { kind: "header", name: "x-room" };

const servers = new Map(
  names.map((name: string) => {
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${name.length}\r\n\r\n${name}`;
    return [name, rawServer((_, socket) => void socket.write(answer))];
  }),
);
const closers = [...servers.values()].map(({ close }) => close);
const rig = await sharedRig({}, { limits: { holdMs: 3000 } }, closers);

const running = (name: string) => runningAt(tcp(servers.get(name)?.port ?? 0));

function instances(...which: readonly string[]): readonly RouteInstance[] {
  return which.map((name) => routeInstance(name, running(name)));
}

/** Publishes the app and waits until the gateway has it. */
async function setApp(app: string, route: AppRoute): Promise<void> {
  rig.setApps({ [`default/${app}`]: route });
  await rig.wire.request(subjects.gatewayQuiesce("g0"), { instance: "none" }, { timeoutMs: 1000 });
}

async function get(app: string, lines = "", path = "/"): Promise<string> {
  const client = await RawClient.connect(rig.port);
  client.send(`GET ${path} HTTP/1.1\r\nHost: ${app}.test\r\nConnection: close\r\n${lines}\r\n`);
  const text = await client.untilClosed();
  return text.slice(text.indexOf("\r\n\r\n") + 4);
}

async function owners(app: string): Promise<Map<string, string>> {
  const answers = rooms.map(async (room) => [room, await get(app, `X-Room: ${room}\r\n`)] as const);
  return new Map(await Promise.all(answers));
}

test("requests with one key meet at one instance, those without are balanced", async () => {
  await setApp("keyed", appRoute("keyed", instances("one", "two", "three"), { affinity: header }));
  const first = await owners("keyed");
  expect(new Set(first.values())).toEqual(new Set(["one", "two", "three"]));
  for (let round = 0; round < 3; round += 1) expect(await owners("keyed")).toEqual(first);
  const without = await Promise.all(Array.from({ length: 40 }, () => get("keyed")));
  expect(new Set(without)).toEqual(new Set(["one", "two", "three"]));
});

test("an instance that goes loses its keys and no others; it gets them back", async () => {
  const all = instances("one", "two", "three");
  await setApp("loss", appRoute("loss", all, { affinity: header }));
  const before = await owners("loss");
  const left = all.filter(({ instance }) => instance !== "two");
  await setApp("loss", appRoute("loss", left, { affinity: header }));
  const after = await owners("loss");
  for (const [room, owner] of before) {
    if (owner === "two") expect(after.get(room)).not.toBe("two");
    else expect(after.get(room)).toBe(owner);
  }
  await setApp("loss", appRoute("loss", all, { affinity: header }));
  expect(await owners("loss")).toEqual(before);
});

test("one that is added takes keys, but only once it runs", async () => {
  const three = instances("one", "two", "three");
  await setApp("grown", appRoute("grown", three, { affinity: header }));
  const before = await owners("grown");
  const coming = routeInstance("four", { kind: "starting" });
  await setApp("grown", appRoute("grown", [...three, coming], { affinity: header }));
  expect(await owners("grown")).toEqual(before);
  const there = { ...coming, state: running("four") };
  await setApp("grown", appRoute("grown", [...three, there], { affinity: header }));
  const after = await owners("grown");
  const moved = rooms.filter((room) => after.get(room) !== before.get(room));
  expect(moved.length).toBeGreaterThan(0);
  for (const room of moved) expect(after.get(room)).toBe("four");
});

test("a sleeping instance is woken for its keys, and for no others", async () => {
  const woken: string[] = [];
  rig.onWake(async (instance) => {
    woken.push(instance);
    await Bun.sleep(50);
    return { ok: true, endpoint: tcp(servers.get(instance)?.port ?? 0) };
  });
  const all = instances("one", "two", "three");
  await setApp("sleepy", appRoute("sleepy", all, { affinity: header }));
  const before = await owners("sleepy");
  const asleep = all.map((each) => ({ ...each, state: { kind: "asleep" } as const }));
  await setApp("sleepy", appRoute("sleepy", asleep, { affinity: header }));
  const [room = "", owner = ""] = [...before].find(([, name]) => name === "three") ?? [];
  expect(await get("sleepy", `X-Room: ${room}\r\n`)).toBe(owner);
  expect(woken).toEqual(["three"]);
  expect(await owners("sleepy")).toEqual(before);
  expect(woken.toSorted()).toEqual(["one", "three", "two"]);
});

test("one that restarts keeps its keys; one whose wake is refused gives them up", async () => {
  let isBack = () => {};
  const back = new Promise<void>((resolve) => {
    isBack = resolve;
  });
  let asked = 0;
  const all = instances("one", "two", "three");
  await setApp("crash", appRoute("crash", all, { affinity: header }));
  const before = await owners("crash");
  const [room = ""] = [...before].find(([, name]) => name === "one") ?? [];
  rig.onWake(async () => {
    asked += 1;
    await back;
    return { ok: true, endpoint: tcp(servers.get("one")?.port ?? 0) };
  });
  const again = { kind: "starting", again: true } as const;
  const restarting = all.map((each) =>
    each.instance === "one" ? { ...each, state: again } : each,
  );
  await setApp("crash", appRoute("crash", restarting, { affinity: header }));
  const held = get("crash", `X-Room: ${room}\r\n`);
  await eventually(() => asked === 1);
  isBack();
  expect(await held).toBe("one");
  rig.onWake(async () => ({ ok: false, reason: "it ended with code 1 and waits 30 s" }));
  await setApp("crash", appRoute("crash", restarting, { affinity: header }));
  expect(await get("crash", `X-Room: ${room}\r\n`)).toBeOneOf(["two", "three"]);
  for (const [other, owner] of before) {
    if (owner !== "one") expect(await get("crash", `X-Room: ${other}\r\n`)).toBe(owner);
  }
});

test("a new release takes every key over at once", async () => {
  const old = instances("one", "two");
  await setApp("turn", appRoute("turn", old, { affinity: header }));
  await owners("turn");
  const route = appRoute("turn", instances("three", "four"), {
    affinity: header,
    release: 2,
    draining: old.map(({ instance }) => instance),
  });
  await setApp("turn", route);
  const after = await owners("turn");
  expect(new Set(after.values())).toEqual(new Set(["three", "four"]));
  expect(await owners("turn")).toEqual(after);
});

test("keys in cookies, paths and queries are found in real requests", async () => {
  const three = instances("one", "two", "three");
  const found = async (affinity: Affinity, lines: string, path: string) => {
    await setApp("places", appRoute("places", three, { affinity }));
    return Promise.all(Array.from({ length: 8 }, () => get("places", lines, path)));
  };
  const cookie = await found({ kind: "cookie", name: "sid" }, "Cookie: a=1; sid=x9\r\n", "/");
  const path = await found({ kind: "path", index: 2 }, "", "/rooms/x9/users");
  const query = await found({ kind: "query", name: "room" }, "", "/?a=1&room=x9");
  expect(new Set([...cookie, ...path, ...query]).size).toBe(1);
});
