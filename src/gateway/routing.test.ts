import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { InstanceId } from "../model/names.ts";
import { type GatewayLoad, subjects } from "../model/wire.ts";
import {
  appRoute,
  eventually,
  RawClient,
  rawServer,
  routeInstance,
  runningAt,
  runningOn,
  tcp,
} from "./testing/harness.ts";
import { sharedRig } from "./testing/suite.ts";

setDefaultTimeout(30_000);

const server = rawServer((text, socket) => {
  if (!text.includes("/hang")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
});
const limits = { holdMs: 700, heldMax: 20, instanceRequestsMax: 400 };
const rig = await sharedRig({}, { limits, accessLog: true }, [server.close]);

async function get(app: string, path = "/"): Promise<string> {
  const client = await RawClient.connect(rig.port);
  client.send(`GET ${path} HTTP/1.1\r\nHost: ${app}.test\r\nConnection: close\r\n\r\n`);
  return client.untilClosed();
}

const statusOf = (text: string) => Number(text.slice(9, 12));
const asleep = { kind: "asleep" } as const;
const settle = () => Bun.sleep(20);
const endpoint = () => tcp(server.port);

describe("an app that the gateway has not had to do with", () => {
  afterAll(() => rig.onLookUp(null));

  test("is looked up once for all who ask, and found at once from then on", async () => {
    const lookups: string[] = [];
    const route = appRoute("far", [runningOn("f1", server.port)]);
    rig.onLookUp(async (host) => {
      lookups.push(host);
      await Bun.sleep(50);
      return host === "far.test" ? { key: "default/far", route, costs: null } : null;
    });
    const answers = await Promise.all(Array.from({ length: 5 }, () => get("far")));
    expect(answers.map(statusOf)).toEqual([200, 200, 200, 200, 200]);
    expect(statusOf(await get("far"))).toBe(200);
    expect(lookups).toEqual(["far.test"]);
    // The connection goes on: what came behind is served next, in order.
    const client = await RawClient.connect(rig.port);
    client.send("POST / HTTP/1.1\r\nHost: absent.test\r\nContent-Length: 0\r\n\r\n");
    client.send("GET / HTTP/1.1\r\nHost: far.test\r\nConnection: close\r\n\r\n");
    const text = await client.untilClosed();
    expect([...text.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status)).toEqual([
      ...["404", "200"],
    ]);
    rig.setApps({ "default/far": null });
  });

  test("nobody has: remembered, until a change says otherwise", async () => {
    let lookups = 0;
    rig.onLookUp(async () => {
      lookups += 1;
      return null;
    });
    expect(statusOf(await get("later"))).toBe(404);
    expect(statusOf(await get("later"))).toBe(404);
    expect(lookups).toBe(1);
    rig.setApps({
      "default/later": appRoute("later", [runningOn("l1", server.port)]),
    });
    await settle();
    expect(statusOf(await get("later"))).toBe(200);
    expect(lookups).toBe(1);
  });

  test("cannot be looked up: held, asked again, and 503 in the end", async () => {
    let lookups = 0;
    rig.onLookUp(async () => {
      lookups += 1;
      throw new Error("the ledger is away");
    });
    const text = await get("unclear");
    expect(statusOf(text)).toBe(503);
    expect(text).toContain("could not be looked up");
    expect(text).toContain("Retry-After: 1\r\n");
    expect(lookups).toBeGreaterThan(1);
    // A client that leaves meanwhile takes nothing with it.
    const gone = await RawClient.connect(rig.port);
    gone.send("GET / HTTP/1.1\r\nHost: unclear.test\r\n\r\n");
    await settle();
    gone.close();
    await Bun.sleep(800);
    expect(rig.problems).toEqual([]);
  });

  test("a new table drops what nobody uses, and keeps what has requests", async () => {
    const asked: unknown[] = [];
    rig.onLookUp(async (host) => {
      const name = host.replace(".test", "");
      const route = appRoute(name, [routeInstance(name, asleep)]);
      return { key: `default/${name}`, route, costs: null };
    });
    rig.onWake(async () => {
      await Bun.sleep(300);
      return { ok: true, endpoint: endpoint() };
    });
    rig.onSnapshot((keep) => asked.push(keep));
    const held = get("held");
    await settle();
    rig.newEpoch();
    await settle();
    expect(asked).toEqual([expect.arrayContaining(["default/held"])]);
    expect(statusOf(await held)).toBe(200);
  });
});

describe("an instance that sleeps", () => {
  test("is woken once for all who ask, and all are answered", async () => {
    let wakes = 0;
    rig.onWake(async () => {
      wakes += 1;
      await Bun.sleep(100);
      return { ok: true, endpoint: endpoint() };
    });
    rig.setApps({ "default/sleepy": appRoute("sleepy", [routeInstance("s1", asleep)]) });
    await settle();
    const answers = await Promise.all(Array.from({ length: 15 }, () => get("sleepy")));
    expect(answers.map(statusOf)).toEqual(Array.from({ length: 15 }, () => 200));
    expect(wakes).toBe(1);
    expect(statusOf(await get("sleepy"))).toBe(200);
    expect(wakes).toBe(1);
  });

  test("that cannot start: 503 with the node's reason", async () => {
    rig.onWake(async () => ({ ok: false, reason: "its program ended with code 3" }));
    rig.setApps({ "default/broken": appRoute("broken", [routeInstance("b1", asleep)]) });
    await settle();
    const text = await get("broken");
    expect(statusOf(text)).toBe(503);
    expect(text).toContain("The app could not be started: its program ended with code 3.");
    expect(text).toContain("Retry-After: 5\r\n");
  });

  test("with nobody there to wake it: tried again until the time is over", async () => {
    rig.setApps({
      "default/away": appRoute("away", [{ ...routeInstance("a1", asleep), node: "n9" as never }]),
    });
    const wake = rig.wire.respond(subjects.nodeWake("*"), async () => ({ ok: false, reason: "x" }));
    wake.cancel();
    await settle();
    const began = Date.now();
    const text = await get("away");
    expect(statusOf(text)).toBe(503);
    expect(text).toContain("cannot be asked to wake it");
    expect(Date.now() - began).toBeGreaterThan(600);
  });

  test("comes back in time when its lode does", async () => {
    rig.setApps({ "default/late": appRoute("late", [routeInstance("l1", asleep)]) });
    await settle();
    const answer = get("late");
    await Bun.sleep(200);
    rig.onWake(async () => ({ ok: true, endpoint: endpoint() }));
    expect(statusOf(await answer)).toBe(200);
  });

  test("holds only so many requests", async () => {
    rig.onWake(async () => {
      await Bun.sleep(300);
      return { ok: true, endpoint: endpoint() };
    });
    rig.setApps({ "default/crowd": appRoute("crowd", [routeInstance("c1", asleep)]) });
    await settle();
    const answers = await Promise.all(Array.from({ length: 30 }, () => get("crowd")));
    const refused = answers.filter((text) => statusOf(text) === 503);
    expect(refused.length).toBe(10);
    expect(refused[0]).toContain("Retry-After: 1\r\n");
    expect(answers.filter((text) => statusOf(text) === 200).length).toBe(20);
  });

  test("a request that gives up is forgotten", async () => {
    let awake = () => {};
    rig.onWake(async () => {
      await new Promise<void>((resolve) => {
        awake = resolve;
      });
      return { ok: true, endpoint: endpoint() };
    });
    rig.setApps({ "default/gone": appRoute("gone", [routeInstance("g1", asleep)]) });
    await settle();
    const before = server.seen.length;
    const client = await RawClient.connect(rig.port);
    client.send("GET /abandoned HTTP/1.1\r\nHost: gone.test\r\n\r\n");
    await settle();
    client.close();
    await settle();
    awake();
    await settle();
    expect(server.seen.slice(before).some((one) => one.text.includes("abandoned"))).toBe(false);
  });
});

describe("the table", () => {
  test("an instance that starts is waited for", async () => {
    const starting = routeInstance("st1", { kind: "starting" });
    rig.setApps({ "default/starting": appRoute("starting", [starting]) });
    await settle();
    const answer = get("starting");
    await Bun.sleep(100);
    const running = { ...starting, state: runningAt(endpoint()) };
    rig.setApps({ "default/starting": appRoute("starting", [running]) });
    expect(statusOf(await answer)).toBe(200);
  });

  test("and not for ever: 504", async () => {
    const starting = routeInstance("st2", { kind: "starting" });
    rig.setApps({ "default/never": appRoute("never", [starting]) });
    await settle();
    expect(statusOf(await get("never"))).toBe(504);
  });

  test("an app that never was healthy says why", async () => {
    const problem = "Release 1 failed to start: port 3000 is not served.";
    rig.setApps({ "default/sick": appRoute("sick", [], { release: null, problem }) });
    await settle();
    const text = await get("sick");
    expect(statusOf(text)).toBe(503);
    expect(text).toContain(problem);
  });

  test("hosts move, apps go", async () => {
    const instance = runningOn("m1", server.port);
    rig.setApps({ "default/moved": appRoute("moved", [instance], { hosts: ["old.test"] }) });
    await settle();
    expect(statusOf(await get("old"))).toBe(200);
    rig.setApps({ "default/moved": appRoute("moved", [instance], { hosts: ["new.test"] }) });
    await settle();
    expect(statusOf(await get("old"))).toBe(404);
    expect(statusOf(await get("new"))).toBe(200);
    rig.setApps({ "default/moved": null });
    await settle();
    expect(statusOf(await get("new"))).toBe(404);
  });

  test("a gap or another epoch brings a snapshot", async () => {
    const instance = runningOn("gap1", server.port);
    // The rig's own table knows it; the gateway is told of a change from a later revision.
    rig.setApps({ "default/gap": appRoute("gap", [instance]) });
    await settle();
    rig.wire.publish(subjects.routesChanged, {
      epoch: "e1",
      from: 1000,
      to: 1001,
      apps: { "default/gap": null },
      certificates: null,
      costs: [],
    });
    await settle();
    expect(statusOf(await get("gap"))).toBe(200);
    rig.wire.publish(subjects.routesChanged, {
      epoch: "other",
      from: 1,
      to: 2,
      apps: { "default/gap": null },
      certificates: null,
      costs: [],
    });
    await settle();
    expect(statusOf(await get("gap"))).toBe(200);
  });
});

describe("an instance that refuses connections", () => {
  const dead = () => {
    const listener = rawServer(() => {});
    listener.close();
    return tcp(listener.port);
  };

  test("is left alone while others serve, and no request is lost", async () => {
    const route = appRoute("half", [
      routeInstance("dead1", runningAt(dead())),
      runningOn("live1", server.port),
    ]);
    rig.setApps({ "default/half": route });
    await settle();
    const answers = await Promise.all(Array.from({ length: 50 }, () => get("half")));
    expect(answers.every((text) => statusOf(text) === 200)).toBe(true);
  });

  test("alone, it is woken and the request waits", async () => {
    let wakes = 0;
    rig.onWake(async () => {
      wakes += 1;
      return { ok: true, endpoint: wakes < 3 ? dead() : endpoint() };
    });
    rig.setApps({
      "default/crashed": appRoute("crashed", [routeInstance("cr1", runningAt(dead()))]),
    });
    await settle();
    expect(statusOf(await get("crashed"))).toBe(200);
    expect(wakes).toBe(3);
  });

  test("a unix socket that is not there is the same", async () => {
    rig.onWake(async () => ({ ok: true, endpoint: endpoint() }));
    const missing = { kind: "unix", path: join(rig.directory, "missing.sock") } as const;
    rig.setApps({
      "default/nosock": appRoute("nosock", [routeInstance("ns1", runningAt(missing))]),
    });
    await settle();
    expect(statusOf(await get("nosock"))).toBe(200);
  });
});

test("a quiesced instance gets nothing until it is woken", async () => {
  const instance = runningOn("q1", server.port);
  rig.setApps({ "default/quiet": appRoute("quiet", [instance]) });
  await settle();
  expect(statusOf(await get("quiet"))).toBe(200);
  const hanging = await RawClient.connect(rig.port);
  hanging.send("GET /hang HTTP/1.1\r\nHost: quiet.test\r\n\r\n");
  await settle();
  const ask = () =>
    rig.wire.request(subjects.gatewayQuiesce("g0"), { instance: "q1" }, { timeoutMs: 1000 });
  const reply = await ask();
  expect(reply).toMatchObject({ ok: true, value: { inFlight: 1 } });
  hanging.close();
  await settle();
  expect(await ask()).toMatchObject({ ok: true, value: { inFlight: 0 } });
  const woken: InstanceId[] = [];
  rig.onWake(async (id) => {
    woken.push(id);
    return { ok: true, endpoint: endpoint() };
  });
  // A change of the table that still calls it running does not wake it.
  rig.setApps({ "default/quiet": appRoute("quiet", [instance]) });
  await settle();
  expect(statusOf(await get("quiet"))).toBe(200);
  expect(statusOf(await get("quiet"))).toBe(200);
  expect(woken).toEqual(["q1" as InstanceId]);
});

test("load is published while it changes", async () => {
  const loads: GatewayLoad[] = [];
  rig.wire.subscribe(subjects.gatewayLoads, ({ payload }) => {
    loads.push(payload as unknown as GatewayLoad);
  });
  rig.setApps({ "default/busy": appRoute("busy", [runningOn("ld1", server.port)]) });
  await settle();
  for (let count = 0; count < 3; count += 1) await get("busy");
  const seen = () =>
    loads.flatMap((load) => load.instances).filter((one) => one.instance === "ld1");
  await eventually(() => seen().reduce((sum, one) => sum + one.requests, 0) === 3);
  expect(seen().at(-1)?.inFlight).toBe(0);
  const count = loads.length;
  await Bun.sleep(1200);
  expect(loads.length).toBeLessThanOrEqual(count + 1);
});

test("a surge is told at once, and what stays in flight again and again", async () => {
  const loads: GatewayLoad[] = [];
  const watching = rig.wire.subscribe(subjects.gatewayLoads, ({ payload }) => {
    loads.push(payload as unknown as GatewayLoad);
  });
  const woken = Promise.withResolvers<void>();
  rig.onWake(async () => {
    await woken.promise;
    return { ok: true, endpoint: endpoint() };
  });
  rig.setApps({ "default/surge": appRoute("surge", [routeInstance("su1", { kind: "asleep" })]) });
  await settle();
  const clients = await Promise.all(
    Array.from({ length: 15 }, async () => {
      const client = await RawClient.connect(rig.port);
      client.send("GET /hang HTTP/1.1\r\nHost: surge.test\r\n\r\n");
      return client;
    }),
  );
  const heldMax = () =>
    Math.max(0, ...loads.flatMap(({ held }) => held.map((one) => one.requests)));
  await eventually(() => heldMax() === 15);
  expect(loads.flatMap(({ held }) => held)[0]).toMatchObject({ app: "default/surge" });
  woken.resolve();
  const told = () => loads.filter(({ instances }) => instances.some((one) => one.inFlight === 15));
  await eventually(() => told().length >= 2);
  const last = told().at(-1);
  expect([last?.held, last?.instances.map(({ requests }) => requests)]).toEqual([[], [0]]);
  for (const client of clients) client.close();
  await eventually(() => loads.at(-1)?.instances[0]?.inFlight === 0);
  watching.cancel();
});

test("beyond an instance's share one that sleeps is woken beside it", async () => {
  const route = appRoute("wide", [
    runningOn("wi1", server.port),
    routeInstance("wi2", { kind: "asleep" }),
    routeInstance("wi3", { kind: "asleep" }),
  ]);
  const woken: InstanceId[] = [];
  rig.onWake(async (id) => {
    woken.push(id);
    return { ok: true, endpoint: endpoint() };
  });
  rig.setApps({ "default/wide": { ...route, requestsPerInstance: 4 } });
  await settle();
  const hang = async (count: number) => {
    const clients = Array.from({ length: count }, async () => {
      const client = await RawClient.connect(rig.port);
      client.send("GET /hang HTTP/1.1\r\nHost: wide.test\r\n\r\n");
      return client;
    });
    const opened = await Promise.all(clients);
    await settle();
    return opened;
  };
  const clients = await hang(4);
  expect(woken).toEqual([]);
  clients.push(...(await hang(1)));
  expect(woken.length).toBe(1);
  clients.push(...(await hang(3)));
  expect(woken.length).toBe(1);
  clients.push(...(await hang(2)));
  expect(new Set(woken).size).toBe(2);
  for (const client of clients) client.close();
});

test("300 hanging requests to one app leave another alone", async () => {
  rig.setApps({
    "default/hung": appRoute("hung", [runningOn("h1", server.port)]),
    "default/fine": appRoute("fine", [runningOn("h2", server.port)]),
  });
  await settle();
  const hanging = await Promise.all(
    Array.from({ length: 300 }, async () => {
      const client = await RawClient.connect(rig.port);
      client.send("GET /hang HTTP/1.1\r\nHost: hung.test\r\n\r\n");
      return client;
    }),
  );
  await eventually(() => server.seen.filter((one) => one.text.includes("hung")).length >= 300);
  const answers = await Promise.all(Array.from({ length: 100 }, () => get("fine")));
  expect(answers.every((text) => statusOf(text) === 200)).toBe(true);
  for (const client of hanging) client.close();
  // Clients that leave take their requests along.
  await eventually(() => server.seen.every((one) => !one.text.includes("hung.test") || one.closed));
});

test("the access log tells each request", async () => {
  await get("fine", "/logged?x=1");
  await get("nobody", "/lost");
  const path = join(rig.directory, "access-g0.log");
  await eventually(() => {
    try {
      return readFileSync(path, "utf8").includes("/lost");
    } catch {
      return false;
    }
  });
  const lines = readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const logged = lines.find((line) => line.path === "/logged?x=1");
  expect(logged).toMatchObject({
    app: "default/fine",
    instance: "h2",
    method: "GET",
    host: "fine.test",
    status: 200,
    bytesOut: 2,
    client: "127.0.0.1",
    protocol: "HTTP/1.1",
  });
  expect(lines.find((line) => line.path === "/lost")).toMatchObject({ app: null, status: 404 });
});
