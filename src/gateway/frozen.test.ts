import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { UnixEndpoint } from "../model/instance.ts";
import { subjects } from "../model/wire.ts";
import { appRoute, RawClient, type Rig, routeInstance, startRig } from "./testing/harness.ts";

setDefaultTimeout(30_000);

let rig: Rig;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "lode-frozen-"));
  rig = await startRig({}, { limits: { holdMs: 2000 }, thaw: (instance) => thaw(instance) });
});

/** As a gateway that may not thaw, unless a test says otherwise. */
let thaw: (instance: string) => boolean = () => false;

afterAll(async () => {
  expect(rig.problems).toEqual([]);
  await rig.close();
  rmSync(folder, { recursive: true });
});

/** An app on a unix socket, whose connections and requests are noted in their order. */
function appAt(name: string): {
  readonly socket: UnixEndpoint;
  readonly seen: string[];
  stop(): void;
} {
  const socket: UnixEndpoint = { kind: "unix", path: join(folder, `${name}.sock`) };
  const seen: string[] = [];
  const listener = Bun.listen({
    unix: socket.path,
    socket: {
      open: () => void seen.push("connection"),
      data(peer, chunk) {
        seen.push(chunk.toString("latin1", 0, chunk.indexOf(" ")));
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      },
    },
  });
  return { socket, seen, stop: () => listener.stop(true) };
}

async function ask(app: string, method: string): Promise<number> {
  const client = await RawClient.connect(rig.port);
  const head = `${method} / HTTP/1.1\r\nHost: ${app}.test\r\nContent-Length: 0\r\n`;
  client.send(`${head}Connection: close\r\n\r\n`);
  return Number((await client.untilClosed()).slice(9, 12));
}

test("is connected to while its node is asked, and gets the request when it is awake", async () => {
  const app = appAt("ice");
  rig.setApps({
    "default/ice": appRoute("ice", [routeInstance("i1", { kind: "asleep", socket: app.socket })]),
  });
  rig.onWake(async () => {
    await Bun.sleep(200);
    app.seen.push("awake");
    return { ok: true, endpoint: app.socket };
  });
  await Bun.sleep(20);
  expect(await ask("ice", "POST")).toBe(200);
  expect(await ask("ice", "GET")).toBe(200);
  expect(app.seen).toEqual(["connection", "awake", "POST", "GET"]);
  app.stop();
});

test("takes a request that may be sent twice at once, and no other", async () => {
  const app = appAt("sleet");
  rig.setApps({
    "default/sleet": appRoute("sleet", [
      routeInstance("s1", { kind: "asleep", socket: app.socket }),
    ]),
  });
  rig.onWake(async () => {
    await Bun.sleep(200);
    app.seen.push("awake");
    return { ok: true, endpoint: app.socket };
  });
  await Bun.sleep(20);
  const answers = [ask("sleet", "POST"), ask("sleet", "GET")];
  expect(await Promise.all(answers)).toEqual([200, 200]);
  expect(app.seen).toEqual(["connection", "GET", "awake", "POST"]);
  app.stop();
});

test("ends with a request in its socket: that one is sent again, to who is awake", async () => {
  const seen: string[] = [];
  const path = join(folder, "hail.sock");
  const frozen = Bun.listen({
    unix: path,
    socket: { data: (_, chunk) => void seen.push(`frozen ${chunk.toString("latin1", 0, 3)}`) },
  });
  const socket: UnixEndpoint = { kind: "unix", path };
  rig.setApps({
    "default/hail": appRoute("hail", [routeInstance("h1", { kind: "asleep", socket })]),
  });
  const awake: ReturnType<typeof appAt>[] = [];
  rig.onWake(async () => {
    await Bun.sleep(100);
    frozen.stop(true);
    await Bun.sleep(10);
    rmSync(path, { force: true });
    awake.push(appAt("hail"));
    return { ok: true, endpoint: socket };
  });
  await Bun.sleep(20);
  expect(await ask("hail", "GET")).toBe(200);
  expect(seen).toEqual(["frozen GET"]);
  expect(awake[0]?.seen).toEqual(["connection", "GET"]);
  awake[0]?.stop();
});

test("has ended meanwhile: the connection is of no use, and costs nothing", async () => {
  const before = appAt("melt");
  rig.setApps({
    "default/melt": appRoute("melt", [
      routeInstance("m1", { kind: "asleep", socket: before.socket }),
    ]),
  });
  const seen: string[][] = [];
  rig.onWake(async () => {
    await Bun.sleep(100);
    before.stop();
    rmSync(before.socket.path, { force: true });
    // The kernel tells of a program's end before its node, which starts it again, can hear of it.
    await Bun.sleep(10);
    const after = appAt("melt");
    seen.push(before.seen, after.seen);
    return { ok: true, endpoint: after.socket };
  });
  await Bun.sleep(20);
  expect(await ask("melt", "POST")).toBe(200);
  expect(seen).toEqual([["connection"], ["connection", "POST"]]);
});

test("cannot be connected to, or speaks first: the request has its own connection", async () => {
  const socket: UnixEndpoint = { kind: "unix", path: join(folder, "absent.sock") };
  const app = appAt("late");
  const forward = Bun.listen({
    unix: join(folder, "loud.sock"),
    socket: {
      open: (peer) => void peer.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"),
      data() {},
    },
  });
  const loud: UnixEndpoint = { kind: "unix", path: join(folder, "loud.sock") };
  for (const [name, from] of [
    ["late", socket],
    ["loud", loud],
  ] as const) {
    rig.setApps({
      [`default/${name}`]: appRoute(name, [
        routeInstance(`${name}1`, { kind: "asleep", socket: from }),
      ]),
    });
    rig.onWake(async () => {
      await Bun.sleep(100);
      return { ok: true, endpoint: app.socket };
    });
    await Bun.sleep(20);
    expect(await ask(name, "POST")).toBe(200);
  }
  expect(app.seen).toEqual(["connection", "POST", "connection", "POST"]);
  forward.stop(true);
  app.stop();
});

/** A program that stands still until it is thawed. */
async function stoppedAt(name: string) {
  const socket: UnixEndpoint = { kind: "unix", path: join(folder, `${name}.sock`) };
  const source = `Bun.serve({ unix: ${JSON.stringify(socket.path)}, fetch: (request) =>
    new Response(request.method) }); console.log("listens");`;
  const child = Bun.spawn([process.execPath, "-e", source], { stdout: "pipe" });
  await child.stdout.getReader().read();
  child.kill("SIGSTOP");
  return { socket, child };
}

test("is thawed here: its answer comes before its node is told, which it is all the same", async () => {
  const { socket, child } = await stoppedAt("thaw");
  const seen: string[] = [];
  thaw = (instance) => {
    seen.push(`thawed ${instance}`);
    child.kill("SIGCONT");
    return true;
  };
  rig.setApps({
    "default/thaw": appRoute("thaw", [routeInstance("t1", { kind: "asleep", socket })]),
  });
  const told = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  rig.onWake(async (instance) => {
    seen.push(`told of ${instance}`);
    told.resolve();
    await answer.promise;
    return { ok: true, endpoint: socket };
  });
  await Bun.sleep(20);
  expect(await ask("thaw", "GET")).toBe(200);
  await told.promise;
  expect(seen).toEqual(["thawed t1", "told of t1"]);
  // What may not be sent twice waits for the node's word.
  let isAnswered = false;
  const other = ask("thaw", "POST").then((status) => {
    isAnswered = true;
    return status;
  });
  await Bun.sleep(50);
  expect(isAnswered).toBe(false);
  answer.resolve();
  expect(await other).toBe(200);
  thaw = () => false;
  child.kill("SIGKILL");
  await child.exited;
});

test("was asked to be quiet and has frozen since, which the table does not tell yet", async () => {
  const { socket, child } = await stoppedAt("new-ice");
  rig.setApps({
    "default/new-ice": appRoute("new-ice", [
      routeInstance("n1", { kind: "running", endpoint: socket }),
    ]),
  });
  await Bun.sleep(20);
  const quiet = await rig.wire.request(
    subjects.gatewayQuiesce("g0"),
    { instance: "n1" },
    { timeoutMs: 1000 },
  );
  expect(quiet).toMatchObject({ ok: true, value: { inFlight: 0 } });
  const seen: string[] = [];
  thaw = (instance) => {
    seen.push(`thawed ${instance}`);
    child.kill("SIGCONT");
    return true;
  };
  const told = Promise.withResolvers<void>();
  rig.onWake(async (instance) => {
    seen.push(`told of ${instance}`);
    told.resolve();
    return { ok: true, endpoint: socket };
  });
  expect(await ask("new-ice", "GET")).toBe(200);
  await told.promise;
  expect(await ask("new-ice", "POST")).toBe(200);
  expect(seen).toEqual(["thawed n1", "told of n1"]);
  thaw = () => false;
  child.kill("SIGKILL");
  await child.exited;
});
