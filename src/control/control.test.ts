import { afterEach, expect, test } from "bun:test";
import { helloFiles, procfile, World, type WorldOptions } from "../../sim/world.ts";
import type { Result } from "../base/result.ts";
import type { Assignment, InstanceStatus } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import { defaultProject, type NodeName, type ProcessType } from "../model/names.ts";
import { type AppCosts, type DeploymentEvent, type LogLine, subjects } from "../model/wire.ts";

const actor = { id: "tester" };
const web = "web" as ProcessType;
const worker = "worker" as ProcessType;
let world: World;

async function makeWorld(options: WorldOptions = {}): Promise<World> {
  world = new World(options);
  await world.start();
  return world;
}

afterEach(() => world.close());

function must<Value, Failure>(result: Result<Value, Failure>): Value {
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
}

function refused<Value, Failure>(result: Result<Value, Failure>): Failure {
  if (result.ok) throw new Error(`unexpected success: ${JSON.stringify(result.value)}`);
  return result.error;
}

async function view(app: string) {
  return must(await world.control.operations.getApp(world.ref(app)));
}

async function serves(app: string, release: number): Promise<void> {
  await world.until(`${app} serves v${release}`, async () => (await view(app)).serving === release);
}

async function deployed(
  app: string,
  files: Readonly<Record<string, string>> = helloFiles,
): Promise<void> {
  const { release } = must(await world.deploy(app, files));
  await serves(app, release);
}

/** Watched from wherever it stands to its end, while time goes on. */
async function eventsOf(app: string, release: number): Promise<DeploymentEvent[]> {
  const { signal } = new AbortController();
  const watched = await world.control.operations.watchDeployment(world.ref(app), release, signal);
  const events: DeploymentEvent[] = [];
  let ended = false;
  void (async () => {
    for await (const event of must(watched)) events.push(event);
    ended = true;
  })();
  await world.until("the deployment ended", () => ended);
  return events;
}

test("a deploy is recorded with its first assignment in one transaction, and comes to serve", async () => {
  await makeWorld();
  await deployed("warm");
  const before = must(await world.ledger.list("")).revision;
  const { release, url, recognition } = must(await world.deploy("hello", helloFiles));
  expect(must(await world.ledger.list("")).revision).toBe(before + 1);
  expect({ release, url, kind: recognition.kind }).toEqual({
    release: 1,
    url: "http://hello.localhost:8080",
    kind: "fetch",
  });
  expect((await view("hello")).state).toBe("deploying");
  await serves("hello", 1);
  const [instance] = world.gateway.routeOf("default/hello")?.instances ?? [];
  expect(instance?.state.kind).toBe("running");
  expect((await view("hello")).state).toBe("serving");
  const events = await eventsOf("hello", 1);
  expect(
    events.map((event) => (event.kind === "stage" ? `${event.stage} ${event.state}` : event.kind)),
  ).toEqual(["start begin", "start end", "switch begin", "switch end", "end"]);
  expect(events.at(-1)).toMatchObject({ state: "serving", reason: null, durationMs: { build: 0 } });
});

test("requests always have a running instance through a switch, and the old one drains", async () => {
  await makeWorld();
  await deployed("hello");
  const [old] = (await view("hello")).instances;
  must(await world.deploy("hello", { "app.ts": `${helloFiles["app.ts"]}// two\n` }));
  await world.until("v2 serves", async () => {
    const route = world.gateway.routeOf("default/hello");
    expect(route?.instances.some(({ state }) => state.kind === "running")).toBe(true);
    return route?.release === 2;
  });
  expect(world.gateway.routeOf("default/hello")?.draining).toEqual([old?.instance as never]);
  await world.until(
    "the old one is gone",
    async () => (await view("hello")).instances.length === 1,
  );
  expect(world.gateway.routeOf("default/hello")?.draining).toEqual([]);
  const { items } = must(
    await world.control.operations.listReleases(world.ref("hello"), { after: null, limit: 10 }),
  );
  expect(items.map(({ deployment }) => deployment.state)).toEqual(["serving", "replaced"]);
});

test("a failing release says why and leaves the old one serving", async () => {
  await makeWorld({
    fateOf: ({ release }) =>
      release === 2
        ? { kind: "fails", reason: "exit code 1, 3 times in a row" }
        : { kind: "healthy" },
  });
  await deployed("hello");
  must(await world.deploy("hello", helloFiles));
  const events = await eventsOf("hello", 2);
  expect(events.at(-1)).toMatchObject({
    kind: "end",
    state: "failed",
    reason: "exit code 1, 3 times in a row",
    logTail: ["last words"],
  });
  expect(await view("hello")).toMatchObject({ serving: 1, target: 1, state: "serving" });
  const release = must(await world.control.operations.getRelease(world.ref("hello"), 2));
  expect(release.deployment).toMatchObject({ state: "failed", stage: "start" });
});

test("a first release that fails explains itself on the error page", async () => {
  await makeWorld({ fateOf: () => ({ kind: "fails", reason: "no such file" }) });
  must(await world.deploy("hello", helloFiles));
  await world.clock.run(1);
  expect(world.gateway.routeOf("default/hello")?.problem).toBe(
    "hello is being deployed for the first time.",
  );
  await world.until("it failed", async () => (await view("hello")).state === "failed");
  expect(world.gateway.routeOf("default/hello")).toMatchObject({
    release: null,
    hosts: ["hello.localhost"],
    instances: [],
    problem: "hello v1 could not be deployed: no such file.",
  });
});

test("of concurrent deploys the later wins, in order, and none is lost", async () => {
  await makeWorld();
  const variants = Array.from({ length: 8 }, (_, index) => ({
    "app.ts": `${helloFiles["app.ts"]}// ${index}\n`,
  }));
  const accepted = await Promise.all(variants.map((files) => world.deploy("hello", files)));
  const numbers = accepted.map((result) => must(result).release).sort((one, other) => one - other);
  expect(numbers).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  await serves("hello", 8);
  const { items } = must(
    await world.control.operations.listReleases(world.ref("hello"), { after: null, limit: 10 }),
  );
  const states = items.map(({ deployment }) => deployment.state);
  expect(states[0]).toBe("serving");
  expect(new Set(states.slice(1))).toEqual(new Set(["superseded"]));
});

test("a release process runs first and alone; web and worker follow", async () => {
  await makeWorld({
    fateOf: ({ process }) =>
      process === "release" ? { kind: "ends", code: 0 } : { kind: "healthy" },
  });
  const files = procfile({ release: "sh server.sh", web: "sh server.sh", worker: "sh server.sh" });
  must(await world.deploy("shop", files));
  const first = (await view("shop")).instances.map(({ process }) => process as string);
  expect(first).toEqual(["release"]);
  await serves("shop", 1);
  const after = (await view("shop")).instances.map(({ process }) => process as string);
  expect(after).toEqual(["web", "worker"]);
  const stages = (await eventsOf("shop", 1)).flatMap((event) =>
    event.kind === "stage" && event.state === "begin" ? [event.stage] : [],
  );
  expect(stages).toEqual(["release", "start", "switch"]);
});

test("uploads that lack files, lie about sizes, or claim a taken host are refused", async () => {
  await makeWorld();
  const manifest = await world.upload(helloFiles);
  const [entry] = manifest.entries;
  if (entry?.kind !== "file") throw new Error("no file");
  const deploy = (entries: (typeof entry)[]) =>
    world.control.operations.deploy(world.ref("hello"), { manifest: { entries } }, actor);
  const missing = refused(await deploy([{ ...entry, digest: "0".repeat(64) as never }]));
  expect(missing.code).toBe("conflict");
  expect(missing.message).toContain("app.ts");
  expect(refused(await deploy([{ ...entry, size: 3 }]))).toMatchObject({
    code: "invalid",
    at: "app.ts",
  });
  expect(refused(await deploy([{ ...entry, path: "../app.ts" }])).code).toBe("invalid");
  expect(refused(await deploy([])).code).toBe("unprocessable");
  must(await deploy([entry]));
  const host = {
    ...helloFiles,
    "lode.toml": '[http]\nhosts = ["www.example.org", "hello.localhost"]\n',
  };
  const taken = refused(await world.deploy("other", host));
  expect(taken.code).toBe("conflict");
  expect(taken.message).toBe("hello.localhost belongs to the app hello of project default");
  expect(refused(await world.control.operations.getApp(world.ref("other"))).code).toBe("notFound");
});

test("rollback goes to the release before, or to the one named", async () => {
  await makeWorld();
  const { operations } = world.control;
  const none = refused(await operations.rollback(world.ref("hello"), null, actor));
  expect(none.code).toBe("notFound");
  await deployed("hello");
  expect(refused(await operations.rollback(world.ref("hello"), null, actor)).code).toBe("conflict");
  await deployed("hello", { "app.ts": `${helloFiles["app.ts"]}// two\n` });
  const first = must(await operations.getRelease(world.ref("hello"), 1)).release.manifest;
  const { release } = must(await operations.rollback(world.ref("hello"), null, actor));
  expect(release).toBe(3);
  const made = must(await operations.getRelease(world.ref("hello"), 3)).release;
  expect(made).toMatchObject({ manifest: first, cause: "rollback to v1", createdBy: "tester" });
  await serves("hello", 3);
  must(await operations.rollback(world.ref("hello"), 2, actor));
  await serves("hello", 4);
  expect(refused(await operations.rollback(world.ref("hello"), 9, actor)).code).toBe("notFound");
});

test("environment and secrets make releases; secrets are sealed and never shown", async () => {
  await makeWorld();
  const { operations } = world.control;
  const ref = world.ref("hello");
  expect(refused(await operations.setEnv(ref, { A: null }, actor)).code).toBe("notFound");
  expect(must(await operations.setEnv(ref, { A: "1" }, actor))).toEqual({ release: null });
  expect(await view("hello")).toMatchObject({ state: "empty", env: { A: "1" }, urls: [] });
  await deployed("hello");
  expect(must(await operations.setSecrets(ref, { KEY: "hunter2" }, actor))).toEqual({ release: 2 });
  await serves("hello", 2);
  const release = must(await operations.getRelease(ref, 2));
  expect(release.release).toMatchObject({ cause: "secrets set KEY", secretNames: ["KEY"] });
  expect(await view("hello")).toMatchObject({ env: { A: "1" }, secretNames: ["KEY"] });
  const stored = JSON.stringify(must(await world.ledger.list("")));
  expect(stored).not.toContain("hunter2");
  expect(JSON.stringify([release, await view("hello")])).not.toContain('secrets"');
  expect(must(await operations.setEnv(ref, { A: "1" }, actor))).toEqual({ release: 2 });
  expect(must(await operations.setEnv(ref, { KEY: "plain", A: null }, actor))).toEqual({
    release: 3,
  });
  expect(await view("hello")).toMatchObject({ env: { KEY: "plain" }, secretNames: [] });
  expect(refused(await operations.setEnv(ref, { PORT: "1" }, actor))).toMatchObject({
    code: "invalid",
    at: "/PORT",
  });
});

test("scaling adds, takes away, and puts to sleep", async () => {
  await makeWorld();
  const { operations } = world.control;
  const ref = world.ref("shop");
  await deployed("shop", procfile({ web: "sh server.sh", worker: "sh server.sh" }));
  must(await operations.scale(ref, { [web]: 3, [worker]: 0 }, actor));
  const running = async () =>
    (await view("shop")).instances.filter(({ phase }) => phase.state === "running").length;
  await world.until("three run", async () => (await running()) === 3);
  expect(world.gateway.routeOf("default/shop")?.instances.length).toBe(3);
  const columns = world.gateway.routeOf("default/shop")?.instances.map(({ column }) => column);
  expect(new Set(columns).size).toBe(3);
  must(await operations.scale(ref, { [web]: 1 }, actor));
  await world.until("one runs", async () => (await view("shop")).instances.length === 1);
  must(await operations.scale(ref, { [web]: 0 }, actor));
  await world.until("it sleeps", async () => (await view("shop")).state === "asleep");
  expect((await view("shop")).counts).toEqual({ [web]: 1, [worker]: 0 });
  expect(world.gateway.routeOf("default/shop")?.instances[0]?.state.kind).toBe("asleep");
  const unknown = refused(await operations.scale(ref, { ["cron" as ProcessType]: 1 }, actor));
  expect(unknown).toMatchObject({ code: "invalid", remedy: "its processes are: web, worker" });
  expect(refused(await operations.scale(ref, { [web]: -1 }, actor)).code).toBe("invalid");
  expect(refused(await operations.scale(ref, { [web]: 1.5 }, actor)).code).toBe("invalid");
});

test("more instances than one transaction takes arrive all the same", async () => {
  await makeWorld();
  await deployed("wide");
  must(await world.control.operations.scale(world.ref("wide"), { [web]: 300 }, actor));
  const count = async () => (await view("wide")).instances.length;
  await world.until("300 are there", async () => (await count()) === 300);
  must(await world.deploy("wide", { "app.ts": `${helloFiles["app.ts"]}// two\n` }));
  await serves("wide", 2);
  await world.until("the old 300 are gone", async () => (await count()) === 300);
  let removed = false;
  void world.control.operations.removeApp(world.ref("wide"), actor).then(() => {
    removed = true;
  });
  await world.until("the app is gone", () => removed);
  expect(must(await world.ledger.list(keys.assignments)).entries).toEqual([]);
  expect(world.problems).toEqual([]);
});

test("work in flight makes instances at once, and quiet takes them away again", async () => {
  await makeWorld({ nodes: 2 });
  await deployed("busy", {
    ...helloFiles,
    "lode.toml": "[scale]\nmax = 4\ninFlight = 10\n",
  });
  const assigned = async () => {
    const { entries } = must(await world.ledger.list(keys.assignments));
    const all = entries.map(({ value }) => JSON.parse(value) as Assignment);
    return all
      .filter(({ drain }) => drain === null)
      .sort((one, other) => one.createdAt - other.createdAt);
  };
  const [first] = await assigned();
  if (first === undefined) throw new Error("it has no instance");
  const load = async (inFlight: number, heldCount = 0) => {
    const instances = [
      { instance: first.instance, requests: 1, inFlight, lastRequestAt: world.clock.now() },
    ];
    const held = [{ app: "default/busy", requests: heldCount }];
    world.wire.publish(subjects.gatewayLoad("g0"), { gateway: "g0", at: 0, instances, held });
    await world.clock.run(100);
  };
  // After its start control does not know for a minute what there was before.
  await world.clock.run(61_000);
  await load(5);
  expect((await assigned()).length).toBe(1);
  await load(15, 8);
  expect((await assigned()).length).toBe(3);
  await load(500);
  expect((await assigned()).length).toBe(4);
  const route = world.gateway.routeOf("default/busy");
  expect(route?.requestsPerInstance).toBe(10);
  await world.until("all serve", () => {
    const table = world.gateway.routeOf("default/busy");
    return table?.instances.every(({ state }) => state.kind === "running") === true;
  });
  await load(0);
  await world.clock.run(55_000);
  expect((await assigned()).length).toBe(4);
  // The oldest stays, the others drain.
  await world.clock.run(6_000);
  expect((await assigned()).map(({ instance }) => instance)).toEqual([first.instance]);
  await world.until("they are gone", async () => (await view("busy")).instances.length === 1);
  // A gateway that dies with requests in flight falls silent; a dead control forgets them.
  await load(35);
  expect((await assigned()).length).toBe(4);
  await world.killControl();
  await world.clock.run(30_000);
  expect((await assigned()).length).toBe(4);
  await world.until("they go again", async () => (await assigned()).length === 1);
});

test("limits change in place and are checked against the machine", async () => {
  await makeWorld({ cores: 2 });
  const { operations } = world.control;
  const ref = world.ref("hello");
  await deployed("hello");
  const before = (await view("hello")).instances[0]?.instance;
  must(await operations.setLimits(ref, { cpu: { min: 0.5, max: 1, burst: 2 } }, actor));
  await world.until("the limits hold", async () => {
    const { entries } = must(await world.ledger.list(keys.assignments));
    const [assignment] = entries.map(({ value }) => JSON.parse(value) as Assignment);
    return assignment?.limits.cpu.burst === 2;
  });
  expect((await view("hello")).instances[0]?.instance).toBe(before as never);
  const wrong = refused(
    await operations.setLimits(ref, { cpu: { min: 2, max: 1, burst: null } }, actor),
  );
  expect(wrong).toMatchObject({ code: "invalid" });
  const much = refused(
    await operations.setLimits(ref, { cpu: { min: 3, max: null, burst: null } }, actor),
  );
  expect(much.message).toContain("no node can guarantee");
  must(await operations.setLimits(ref, { cpu: { min: 1, max: null, burst: null } }, actor));
  const growth = refused(await operations.scale(ref, { [web]: 3 }, actor));
  expect(growth.message).toContain("lacks 1 cores");
});

test("a deploy that does not fit fails and says how much is missing", async () => {
  await makeWorld({ cores: 1 });
  const files = { ...helloFiles, "lode.toml": '[resources]\ncpu = "1.5:2"\n' };
  must(await world.deploy("big", files));
  expect((await view("big")).state).toBe("failed");
  expect((await eventsOf("big", 1)).at(-1)).toMatchObject({
    state: "failed",
    reason: expect.stringContaining("lacks 0.5 cores"),
  });
});

test("an app is removed with all its records when its instances have ended", async () => {
  await makeWorld();
  await deployed("hello");
  let outcome: unknown = null;
  void world.control.operations.removeApp(world.ref("hello"), actor).then((result) => {
    outcome = result;
  });
  await world.until("it is removed", () => outcome !== null);
  expect(outcome).toEqual({ ok: true, value: undefined });
  const { entries } = must(await world.ledger.list(""));
  expect(entries.map(({ key }) => key).filter((key) => key.includes("hello"))).toEqual([]);
  expect(world.gateway.routeOf("default/hello")).toBeNull();
  await deployed("hello");
});

test("lists are paged in order", async () => {
  await makeWorld();
  for (const app of ["delta", "alpha", "charlie", "bravo"]) await deployed(app);
  const { operations } = world.control;
  const first = must(await operations.listApps(defaultProject, { after: null, limit: 3 }));
  expect(first.items.map(({ name }) => name as string)).toEqual(["alpha", "bravo", "charlie"]);
  expect(first.next).toBe("charlie");
  const second = must(await operations.listApps(defaultProject, { after: first.next, limit: 3 }));
  expect(second.items.map(({ name }) => name as string)).toEqual(["delta"]);
  expect(second.next).toBeNull();
  expect(refused(await operations.listApps(defaultProject, { after: null, limit: 0 })).code).toBe(
    "invalid",
  );
  const all = await operations.listInstances(defaultProject, { after: null, limit: 100 });
  expect(must(all).items.length).toBe(4);
  expect(must(await operations.status())).toMatchObject({
    apps: 4,
    instances: 4,
    nodes: [{ name: "n1", alive: true }],
  });
});

test("what sleeps leaves memory, and is there again for whoever looks", async () => {
  await makeWorld();
  const { operations } = world.control;
  for (const app of ["one", "two", "busy"]) await deployed(app);
  for (const app of ["one", "two"]) {
    must(await operations.scale(world.ref(app), { [web]: 0 }, actor));
    await world.until(`${app} sleeps`, async () => (await view(app)).state === "asleep");
  }
  const tableOf = async () => {
    const reply = world.wire.request(subjects.routesSnapshot, { keep: [] }, { timeoutMs: 1_000 });
    await world.clock.run(1);
    return Object.keys((must(await reply) as { apps: object }).apps);
  };
  const asleep = async () => {
    const families = must(await operations.metrics());
    const { samples = [] } = families.find(({ name }) => name === "lode_app_instances") ?? {};
    return samples.find(({ labels }) => labels["state"] === "asleep")?.value;
  };
  await world.until("they left", async () => (await tableOf()).length === 1);
  expect(await tableOf()).toEqual(["default/busy"]);
  expect(await asleep()).toBe(2);
  expect(must(await operations.status())).toMatchObject({ apps: 3, instances: 3 });
  const page = must(await operations.listApps(defaultProject, { after: null, limit: 10 }));
  expect(page.items.map(({ name, state }) => `${name} ${state}`)).toEqual([
    ...["busy serving", "one asleep", "two asleep"],
  ]);
  const listed = must(await operations.listInstances(defaultProject, { after: null, limit: 10 }));
  const states = listed.items.map(({ app, phase }) => `${app} ${phase.state}`);
  expect(states.sort()).toEqual(["busy running", "one asleep", "two asleep"]);
  // A glance keeps nothing.
  expect(await tableOf()).toEqual(["default/busy"]);

  const found = await world.gateway.find("one.localhost");
  expect(found?.key).toBe("default/one");
  expect(found?.route.instances.map(({ state }) => state.kind)).toEqual(["asleep"]);
  expect(await world.gateway.find("nobody.localhost")).toBeNull();
  const [{ instance = "" } = {}] = found?.route.instances ?? [];
  await world.wire.request(subjects.nodeWake("n1" as NodeName), { instance }, { timeoutMs: 100 });
  await world.until("the gateways know that it runs", () => {
    const route = world.gateway.routeOf("default/one");
    return route?.instances[0]?.state.kind === "running";
  });

  // One that is cold is deployed, scaled and removed as any other.
  expect(await tableOf()).not.toContain("default/two");
  await deployed("two", { "app.ts": "export default { fetch: () => new Response('2') };" });
  await world.killControl();
  await serves("two", 2);
  must(await world.control.operations.removeApp(world.ref("two"), actor));
  expect(must(await world.control.operations.status()).apps).toBe(2);
  expect(await world.gateway.find("two.localhost")).toBeNull();
});

test("what is known of an app's costs outlives its sleep, but not its release", async () => {
  await makeWorld();
  const { operations } = world.control;
  await deployed("one");
  const app = "default/one";
  const each = { costUs: 2000, requests: 9, confidence: 1, reported: false };
  const costs: AppCosts = {
    ...{ app, release: 1, gateway: "g0", row: 0, at: 1, idleUs: 0 },
    ...{ classes: [{ name: "GET /", ...each }], meanUs: 2000, knownShare: 1, sure: true },
  };
  world.wire.publish(subjects.costs, { ...costs, app: "default/other" } as never);
  world.wire.publish(subjects.costs, costs as never);
  must(await operations.scale(world.ref("one"), { [web]: 0 }, actor));
  await world.until("it left", async () => {
    const state = (await view("one")).state;
    await world.clock.run(60_000);
    return state === "asleep";
  });
  const found = await world.gateway.find("one.localhost");
  expect(found?.costs).toEqual(costs);
  expect(world.gateway.table?.costs).toEqual([costs]);
  expect(must(await operations.costs(world.ref("one"))).classes.length).toBe(1);
  await deployed("one", { "app.ts": "export default { fetch: () => new Response('2') };" });
  await serves("one", 2);
  expect((await world.gateway.find("one.localhost"))?.costs).toBeNull();
  expect(must(await operations.costs(world.ref("one"))).classes).toEqual([]);
});

test("a wish that was written just before control died is seen though its app sleeps", async () => {
  await makeWorld();
  const { operations } = world.control;
  await deployed("one");
  must(await operations.scale(world.ref("one"), { [web]: 0 }, actor));
  await world.until("it sleeps", async () => (await view("one")).state === "asleep");
  await world.control.close();
  const key = keys.app(defaultProject, world.ref("one").app);
  const { value } = must(await world.ledger.get(key)) ?? { value: "" };
  const wish = JSON.stringify({ ...JSON.parse(value), counts: { [web]: 3 } });
  must(
    await world.ledger.transact({ conditions: [], writes: [{ kind: "put", key, value: wish }] }),
  );
  await world.killControl();
  const prefix = keys.assignmentsOf("n1" as NodeName);
  await world.until("three are assigned", async () => {
    return must(await world.ledger.list(prefix)).entries.length === 3;
  });
});

test("logs come from every node, and new lines follow", async () => {
  await makeWorld({ nodes: 2 });
  const { operations } = world.control;
  await deployed("hello");
  must(await operations.scale(world.ref("hello"), { [web]: 2 }, actor));
  await world.until("two run", async () => (await view("hello")).instances.length === 2);
  const query = { process: null, instance: null, since: null, tail: 10, follow: true };
  const abort = new AbortController();
  const lines: LogLine[] = [];
  const read = (async () => {
    const stream = must(await operations.logs(world.ref("hello"), query, abort.signal));
    for await (const line of stream) lines.push(line);
  })();
  await world.until("history came", () => lines.length === 2);
  const line = { ...(lines[0] as LogLine), stream: "out", text: "live" };
  world.wire.publish("logs.default.hello", line as never);
  await world.until("the line came", () => lines.length === 3);
  expect(lines[2]?.text).toBe("live");
  abort.abort();
  await read;
});

test("a restarted control takes nothing away from gateways and goes on where it was", async () => {
  await makeWorld({ nodes: 2 });
  for (const app of ["one", "two", "three"]) await deployed(app);
  must(await world.deploy("one", { "app.ts": `${helloFiles["app.ts"]}// two\n` }));
  await world.killControl();
  const table = world.gateway.table;
  await world.until("v2 of one serves", async () => {
    for (const app of ["one", "two", "three"]) {
      const instances = world.gateway.routeOf(`default/${app}`)?.instances ?? [];
      expect(instances.some(({ state }) => state.kind === "running")).toBe(true);
    }
    return (await view("one")).serving === 2;
  });
  await world.until("the gateway follows", () => world.gateway.table?.epoch !== table?.epoch);
  expect(world.gateway.routeOf("default/one")?.release).toBe(2);
  expect((await view("two")).state).toBe("serving");
});

test("a crash shows in the app's state and on the error page until it is mended", async () => {
  await makeWorld();
  await deployed("hello");
  const [instance] = (await view("hello")).instances as readonly InstanceStatus[];
  world.nodes[0]?.kill(instance?.instance as never);
  await world.clock.run(10);
  expect((await view("hello")).state).toBe("degraded");
  expect(world.gateway.routeOf("default/hello")).toMatchObject({
    instances: [{ state: { kind: "starting" } }],
    problem: "web of v1 ended with signal SIGKILL and is being started again.",
  });
  await world.until("it runs", async () => (await view("hello")).state === "serving");
  expect(world.gateway.routeOf("default/hello")?.problem).toBeNull();
});
