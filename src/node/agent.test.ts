import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Json } from "../base/json.ts";
import { systemRandom } from "../fabric/system.ts";
import { keys } from "../model/keys.ts";
import { defaultLimits } from "../model/limits.ts";
import { defaultProject, type InstanceId, type ProcessType } from "../model/names.ts";
import type { BuildStep } from "../model/release.ts";
import { type ExecOutput, type ExecRequest, type NodeCollected, subjects } from "../model/wire.ts";
import { dataPaths, nodePaths } from "./paths.ts";

import {
  assign,
  type Cloud,
  cleanUp,
  deploy,
  fetchApp,
  get,
  helloFetch,
  logText,
  must,
  node,
  nodeServer,
  phaseOf,
  put,
  putManifest,
  reach,
  report,
  startCloud,
  unassign,
  until,
  wake,
} from "./testing/rig.ts";

// The agent as control sees it, on the real thing.

setDefaultTimeout(60_000);
afterEach(cleanUp);

test("a fetch app serves on its socket; its removal leaves nothing", async () => {
  const cloud = await startCloud();
  const assignment = await deploy(cloud, "hello", { "app.ts": helloFetch }, fetchApp);
  const running = await reach(cloud, assignment, "running");
  expect(await get(running.endpoint)).toStartWith("hello from hello");
  const status = readFileSync(`/proc/${running.pid}/status`, "utf8");
  expect(status).toContain(`Uid:\t${cloud.uidBase + assignment.uidOffset}\t`);
  await unassign(cloud, assignment);
  await until("it is gone", async () => (await phaseOf(cloud, assignment)) === null);
  expect(readdirSync(nodePaths.instances(cloud.paths))).toEqual([]);
  expect(readdirSync(nodePaths.instanceSockets(cloud.paths))).toEqual([]);
  expect(readdirSync(dataPaths.appSockets(cloud.paths))).toEqual([]);
});

test("a node:http app listens on PORT; its secret is in the environment only", async () => {
  const cloud = await startCloud();
  const assignment = await deploy(
    cloud,
    "web",
    { "server.js": nodeServer },
    {
      command: { kind: "shell", line: "node server.js" },
      listen: "tcp",
      healthPath: "/",
      secrets: { SECRET: "sealed:hush" },
    },
  );
  const running = await reach(cloud, assignment, "running");
  expect(await get(running.endpoint)).toBe("node 8080 hush");
  const command = readFileSync(`/proc/${running.pid}/cmdline`, "utf8");
  expect(command).not.toContain("hush");
  expect(await logText(cloud, assignment)).not.toContain("hush");
});

test("an app that never comes up fails with the reason and its last lines", async () => {
  const cloud = await startCloud();
  const crashing = await deploy(
    cloud,
    "crash",
    { "app.ts": "console.log('boom'); process.exit(3);" },
    fetchApp,
  );
  const failed = await reach(cloud, crashing, "failed");
  expect(failed.stage).toBe("start");
  expect(failed.reason).toContain("exit code 3");
  expect(failed.logTail).toContain("boom");
  const local = await deploy(
    cloud,
    "local",
    {
      "server.py":
        "import socket, time\ns = socket.create_server(('127.0.0.1', 8080))\ntime.sleep(60)",
    },
    {
      command: { kind: "shell", line: "exec python3 -S server.py" },
      listen: "tcp",
      timeoutMs: 3000,
    },
  );
  const unreachable = await reach(cloud, local, "failed");
  expect(unreachable.reason).toContain("listens only on 127.0.0.1:8080");
  const noFetch = await deploy(cloud, "nofetch", { "app.ts": "export const a = 1;" }, fetchApp);
  const explained = await reach(cloud, noFetch, "failed");
  expect(explained.logTail.join("\n")).toContain(
    "must have a default export with a fetch function",
  );
});

test("a crash of a healthy app is seen, backed off and started again", async () => {
  const cloud = await startCloud();
  const code = `export default { fetch: (r: Request) => {
    if (r.url.endsWith("/crash")) process.exit(7);
    return new Response(String(process.pid));
  } };`;
  const assignment = await deploy(cloud, "frail", { "app.ts": code }, fetchApp);
  const first = await reach(cloud, assignment, "running");
  await get(first.endpoint, "/crash").catch(() => {});
  const backingOff = await reach(cloud, assignment, "backing-off");
  expect(backingOff.cause).toEqual({ kind: "exit", code: 7 });
  const second = await reach(cloud, assignment, "running");
  expect(second.pid).not.toBe(first.pid);
  const status = (await report(cloud)).instances[0];
  expect(status).toMatchObject({ restarts: 1, wasHealthy: true });
  expect(await logText(cloud, assignment)).toContain("lode: ended: exit code 7");
});

test("a kill for lack of memory is named as such", async () => {
  const cloud = await startCloud();
  const code = `export default { fetch: () => {
    const hoard = []; for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
  } };`;
  const memory = { min: null, max: 96 * 1024 ** 2, burst: null };
  const assignment = await deploy(
    cloud,
    "hoard",
    { "app.ts": code },
    {
      ...fetchApp,
      limits: { ...defaultLimits, memory },
    },
  );
  const running = await reach(cloud, assignment, "running");
  await get(running.endpoint).catch(() => {});
  const backingOff = await reach(cloud, assignment, "backing-off");
  expect(backingOff.cause).toEqual({ kind: "out-of-memory", limitBytes: memory.max });
  expect(await logText(cloud, assignment)).toContain("out of memory: the kernel killed a process");
});

test("limits change on the live process", async () => {
  const cloud = await startCloud();
  const spin = `export default { fetch: () => {
    const until = Date.now() + 300; while (Date.now() < until) {}
    return new Response("spun");
  } };`;
  const assignment = await deploy(cloud, "spin", { "app.ts": spin }, fetchApp);
  const before = await reach(cloud, assignment, "running");
  const throttledUs = async () =>
    (await (await cloud.cgroups().open(assignment.instance))?.usage())?.throttledUs;
  await get(before.endpoint);
  expect(await throttledUs()).toBe(0);
  const cpu = { min: null, max: 0.05, burst: null };
  await assign(cloud, { ...assignment, limits: { ...assignment.limits, cpu } });
  await until("the kernel holds it back", async () => {
    await get(before.endpoint);
    return ((await throttledUs()) ?? 0) > 0;
  });
  await assign(cloud, assignment);
  const after = await reach(cloud, assignment, "running");
  expect(after.pid).toBe(before.pid);
});

test("an idle app sleeps, and concurrent wakes share one start", async () => {
  const cloud = await startCloud();
  const quiesced: string[] = [];
  cloud.gateways.push("g1");
  cloud.wire.respond(subjects.gatewayQuiesce("g1"), async (payload) => {
    quiesced.push((payload as { instance: string }).instance);
    return { inFlight: 0, lastRequestAt: null };
  });
  const assignment = await deploy(
    cloud,
    "nap",
    { "app.ts": helloFetch },
    {
      ...fetchApp,
      keepAwake: false,
      idleMs: 300,
    },
  );
  const first = await reach(cloud, assignment, "running");
  await reach(cloud, assignment, "asleep");
  expect(quiesced).toEqual([assignment.instance]);
  expect(existsSync(`/proc/${first.pid}`)).toBe(false);
  const replies = await Promise.all([1, 2, 3, 4, 5].map(() => wake(cloud, assignment)));
  const bodies = await Promise.all(
    replies.map((reply) => (reply.ok ? get(reply.endpoint) : reply.reason)),
  );
  expect(new Set(bodies).size).toBe(1);
  expect(bodies[0]).toStartWith("hello from nap");
  const { instance } = assignment;
  const slept = await cloud.wire.request(
    subjects.nodeSleep(node),
    { instances: [instance] },
    { timeoutMs: 5000 },
  );
  expect(must(slept)).toEqual({ asleep: [instance] });
});

test("a request in flight keeps an idle app awake", async () => {
  const cloud = await startCloud();
  cloud.gateways.push("g1");
  let inFlight = 1;
  cloud.wire.respond(subjects.gatewayQuiesce("g1"), async () => ({
    inFlight,
    lastRequestAt: null,
  }));
  const assignment = await deploy(
    cloud,
    "busy",
    { "app.ts": helloFetch },
    {
      ...fetchApp,
      keepAwake: false,
      idleMs: 100,
    },
  );
  await reach(cloud, assignment, "running");
  await Bun.sleep(500);
  expect((await phaseOf(cloud, assignment))?.state).toBe("running");
  inFlight = 0;
  await reach(cloud, assignment, "asleep");
});

test("the next lode adopts what runs, keeps sleepers asleep and restarts what died", async () => {
  const cloud = await startCloud();
  const files = { "app.ts": helloFetch };
  const lives = await deploy(cloud, "lives", files, fetchApp);
  const sleeps = await deploy(cloud, "sleeps", files, {
    ...fetchApp,
    keepAwake: false,
    idleMs: 200,
  });
  const dies = await deploy(cloud, "dies", files, fetchApp);
  const orphan = await deploy(cloud, "orphan", files, fetchApp);
  const before = await reach(cloud, lives, "running");
  const dying = await reach(cloud, dies, "running");
  const unwanted = await reach(cloud, orphan, "running");
  await reach(cloud, sleeps, "asleep");
  await cloud.cgroups().create("gateway-1");
  await cloud.cgroups().create("build-left");
  await cloud.agent.close();
  await unassign(cloud, orphan);
  process.kill(dying.pid, "SIGKILL");
  expect(await get(before.endpoint)).toStartWith("hello from lives");
  await cloud.restart();
  const after = await reach(cloud, lives, "running");
  expect(after).toEqual(before);
  expect(await get(after.endpoint)).toStartWith("hello from lives");
  expect((await phaseOf(cloud, sleeps))?.state).toBe("asleep");
  const restarted = await reach(cloud, dies, "running");
  expect(restarted.pid).not.toBe(dying.pid);
  expect(existsSync(`/proc/${unwanted.pid}`)).toBe(false);
  const left = await cloud.cgroups().list();
  expect(left).toContain("gateway-1");
  expect(left).not.toContain("build-left");
  expect(existsSync(join(dataPaths.appSockets(cloud.paths), `${orphan.instance}.sock`))).toBe(
    false,
  );
  // An adopted one is watched like any other.
  process.kill(after.pid, "SIGKILL");
  const again = await reach(cloud, lives, "backing-off");
  expect(again.cause).toEqual({ kind: "signal", signal: "SIGKILL" });
  expect((await wake(cloud, sleeps)).ok).toBe(true);
});

test("a draining instance ends when nothing is in flight, or at its deadline", async () => {
  const cloud = await startCloud();
  cloud.gateways.push("g1");
  let inFlight = 1;
  cloud.wire.respond(subjects.gatewayQuiesce("g1"), async () => ({
    inFlight,
    lastRequestAt: null,
  }));
  const assignment = await deploy(cloud, "old", { "app.ts": helloFetch }, fetchApp);
  await reach(cloud, assignment, "running");
  const since = Date.now();
  await assign(cloud, { ...assignment, drain: { since, deadline: since + 30_000 } });
  await Bun.sleep(900);
  expect((await phaseOf(cloud, assignment))?.state).toBe("running");
  inFlight = 0;
  await until("it has drained", async () => (await phaseOf(cloud, assignment)) === null);
});

test("the release process runs once and tells its end", async () => {
  const cloud = await startCloud();
  const process = "release" as ProcessType;
  const listen = "none";
  const good = await deploy(
    cloud,
    "good",
    { "go.sh": { run: "#!/bin/sh\necho migrated > /data/m; cat /data/m" } },
    {
      ...{ process, listen },
      command: { kind: "argv", argv: ["./go.sh"] },
    },
  );
  expect((await reach(cloud, good, "done")).code).toBe(0);
  expect(await logText(cloud, good)).toContain("out: migrated");
  const bad = await deploy(
    cloud,
    "bad",
    {},
    {
      ...{ process, listen },
      command: { kind: "shell", line: "echo cannot migrate; exit 4" },
    },
  );
  const failed = await reach(cloud, bad, "failed");
  expect(failed).toMatchObject({ stage: "release", logTail: ["cannot migrate"] });
});

const npmStep = (cacheKey: string, commands: readonly string[]): BuildStep => ({
  produces: "dependencies",
  inputs: ["package.json"],
  commands,
  output: "node_modules",
  cacheKey,
});

// In the rig (test/rig) there is neither npm nor a registry.
const withNpm = test.skipIf(Bun.which("npm") === null);

withNpm("dependencies are built once, into a shared layer over the release", async () => {
  const cloud = await startCloud();
  const events: Json[] = [];
  cloud.wire.subscribe("progress.>", ({ payload }) => events.push(payload));
  const code = `import isNumber from "is-number";
export default { fetch: () => new Response(String(isNumber(5))) };`;
  const files = {
    "app.ts": code,
    "package.json": JSON.stringify({ name: "x", dependencies: { "is-number": "7.0.0" } }),
  };
  const cacheKey = createHash("sha256").update("is-number").digest("hex");
  const build = [npmStep(cacheKey, ["npm install --no-audit --no-fund"])];
  const first = await deploy(cloud, "deps", files, { ...fetchApp, build });
  const running = await reach(cloud, first, "running");
  expect(await get(running.endpoint)).toBe("true");
  expect(events).toContainEqual(expect.objectContaining({ kind: "stage", state: "end" }));
  events.length = 0;
  const second = await deploy(cloud, "deps2", files, { ...fetchApp, build });
  await reach(cloud, second, "running");
  expect(events).toEqual([]);
  expect(readdirSync(nodePaths.builds(cloud.paths))).toEqual([]);
});

test("a failing build leaves nothing and shows its last lines; an app step replaces the tree", async () => {
  const cloud = await startCloud();
  const cacheKey = createHash("sha256").update("fails").digest("hex");
  const bad = await deploy(
    cloud,
    "bad",
    { "app.ts": helloFetch },
    {
      ...fetchApp,
      build: [npmStep(cacheKey, ["echo going wrong", "exit 9"])],
    },
  );
  const failed = await reach(cloud, bad, "failed");
  expect(failed).toMatchObject({ stage: "build", reason: "the build failed with exit code 9" });
  expect(failed.logTail).toContain("going wrong");
  expect(readdirSync(nodePaths.layers(cloud.paths))).toEqual([]);
  const good = await deploy(
    cloud,
    "good",
    { "page.txt": "raw" },
    {
      command: { kind: "static", root: "out" },
      listen: "unix",
      build: [
        {
          ...{ produces: "app", inputs: null, output: "." },
          commands: ["mkdir out", "tr a-z A-Z < page.txt > out/index.html"],
          cacheKey: createHash("sha256").update("app").digest("hex"),
        },
      ],
    },
  );
  const running = await reach(cloud, good, "running");
  expect(await get(running.endpoint)).toBe("RAW");
});

function session(cloud: Cloud, request: Omit<ExecRequest, "session">) {
  const id = systemRandom.token(8);
  const output = { stdout: "", stderr: "" };
  let exit: (code: number) => void;
  const code = new Promise<number>((resolve) => {
    exit = resolve;
  });
  cloud.wire.subscribe(subjects.sessionOutput(id), ({ payload }) => {
    const message = payload as unknown as ExecOutput;
    if (message.kind === "exit") exit(message.code);
    else output[message.stream] += Buffer.from(message.data, "base64").toString();
  });
  const send = (input: Json) => cloud.wire.publish(subjects.sessionInput(id), input);
  const type = (text: string) => send({ kind: "data", data: Buffer.from(text).toString("base64") });
  const start = async () => {
    const payload = { session: id, ...request } as unknown as Json;
    const reply = await cloud.wire.request(subjects.nodeExec(node), payload, { timeoutMs: 5000 });
    expect(must(reply)).toEqual({ ok: true });
  };
  return { start, send, type, output, code };
}

test("exec joins a running instance, run starts a sandbox of the release", async () => {
  const cloud = await startCloud();
  const assignment = await deploy(
    cloud,
    "shell",
    { "app.ts": helloFetch },
    {
      ...fetchApp,
      env: { COLOUR: "green" },
    },
  );
  const running = await reach(cloud, assignment, "running");
  const { project, app, uidOffset, instance } = assignment;
  const ref = { project, app, uidOffset };
  const joined = session(cloud, {
    ...ref,
    target: { kind: "inside", instance },
    argv: ["sh", "-c", "echo $COLOUR; ls /run/lode-app; cat; exit 5"],
    terminal: null,
  });
  await joined.start();
  joined.type("typed\n");
  joined.send({ kind: "eof" });
  expect(await joined.code).toBe(5);
  expect(joined.output.stdout).toBe("green\nhttp.sock\nhttp.sock.listens\ntyped\n");
  expect(await phaseOf(cloud, assignment)).toEqual(running);
  const alone = session(cloud, {
    ...ref,
    target: { kind: "oneOff", release: 1 },
    argv: [],
    terminal: { columns: 91, rows: 17 },
  });
  await alone.start();
  alone.type("stty size; echo $COLOUR $-\n");
  await until("the size shows", () => /green \S*m/.test(alone.output.stdout));
  alone.send({ kind: "resize", columns: 60, rows: 20 });
  alone.type("stty size; exit 6\n");
  expect(await alone.code).toBe(6);
  expect(alone.output.stdout).toContain("17 91");
  expect(alone.output.stdout).toContain("20 60");
});

test("lines are published to followers as they are written", async () => {
  const cloud = await startCloud();
  const code = `export default { fetch: (r: Request) => {
    console.log("saw " + new URL(r.url).pathname); return new Response("ok"); } };`;
  const assignment = await deploy(cloud, "talk", { "app.ts": code }, fetchApp);
  const running = await reach(cloud, assignment, "running");
  const lines: string[] = [];
  cloud.wire.subscribe(subjects.logs(defaultProject, assignment.app), ({ payload }) => {
    lines.push((payload as { text: string }).text);
  });
  await get(running.endpoint, "/unheard");
  await until("it is written", async () => (await logText(cloud, assignment)).includes("/unheard"));
  expect(lines).toEqual([]);
  await logText(cloud, assignment, 10_000);
  await get(running.endpoint, "/heard");
  await until("it is told", () => lines.includes("saw /heard"));
});

test("a session ends with lode, and leaves the instance alone", async () => {
  const cloud = await startCloud();
  const assignment = await deploy(cloud, "host", { "app.ts": helloFetch }, fetchApp);
  const running = await reach(cloud, assignment, "running");
  const { project, app, uidOffset, instance } = assignment;
  const ref = { project, app, uidOffset, terminal: null };
  const argv = ["sh", "-c", "echo up; sleep 4242"];
  const joined = session(cloud, { ...ref, argv, target: { kind: "inside", instance } });
  const alone = session(cloud, { ...ref, argv, target: { kind: "oneOff", release: 1 } });
  await Promise.all([joined.start(), alone.start()]);
  await until("both are up", () => joined.output.stdout !== "" && alone.output.stdout !== "");
  const cgroups = cloud.cgroups();
  const pids = async () => (await (await cgroups.open(instance))?.pids())?.length;
  const crowded = await pids();
  await cloud.restart();
  expect(await joined.code).toBe(137);
  expect(await alone.code).toBe(137);
  expect(await reach(cloud, assignment, "running")).toEqual(running);
  expect(await pids()).toBeLessThan(crowded ?? 0);
  const keeper = expect.stringMatching(/^log-keeper-/);
  expect(await cloud.cgroups().list()).toEqual([instance, keeper]);
});

test("what no app and no release needs any more goes", async () => {
  const cloud = await startCloud();
  const assignment = await deploy(cloud, "kept", { "app.ts": helloFetch }, fetchApp);
  const removed = await deploy(cloud, "removed", { "app.ts": helloFetch }, fetchApp);
  await reach(cloud, assignment, "running");
  await reach(cloud, removed, "running");
  const { paths } = cloud;
  const kept = () => [
    readdirSync(join(nodePaths.volumes(paths), defaultProject)),
    readdirSync(join(nodePaths.logs(paths), defaultProject)),
    readdirSync(nodePaths.releases(paths)),
  ];
  await unassign(cloud, removed);
  const key = keys.app(defaultProject, removed.app);
  must(await cloud.ledger.transact({ conditions: [], writes: [{ kind: "delete", key }] }));
  const wanted = [["kept"], ["kept"], [String(assignment.uidOffset)]];
  await until("its data is gone", () => JSON.stringify(kept()) === JSON.stringify(wanted));
  const stray = join(nodePaths.layers(paths), "0".repeat(64));
  const partial = join(nodePaths.releasesOf(paths, assignment.uidOffset), "f00.partial");
  mkdirSync(stray);
  mkdirSync(partial);
  mkdirSync(join(nodePaths.volumes(paths), "default", "stray"));
  await cloud.restart();
  await until("strays are gone", () => !existsSync(stray) && !existsSync(partial));
  expect(kept()).toEqual(wanted);
  expect((await phaseOf(cloud, assignment))?.state).toBe("running");
});

test("trees and layers go with their release, unless something here still uses them", async () => {
  const cloud = await startCloud({ leftoversMs: 200 });
  const { paths, ledger } = cloud;
  const told: NodeCollected[] = [];
  cloud.wire.subscribe(subjects.nodeCollected("*"), ({ payload }) => {
    told.push(payload as unknown as NodeCollected);
  });
  const cacheKey = createHash("sha256").update("leftover").digest("hex");
  const first = await deploy(
    cloud,
    "grows",
    { "app.ts": helloFetch, "package.json": "{}" },
    {
      ...fetchApp,
      build: [
        {
          ...{ produces: "dependencies", inputs: ["package.json"], output: "node_modules" },
          commands: ["mkdir node_modules", "head -c 100000 /dev/zero > node_modules/layer"],
          cacheKey,
        },
      ],
    },
  );
  const { project, app, uidOffset } = first;
  const running = await reach(cloud, first, "running");
  const key = keys.release(project, app, 1);
  const old = JSON.parse(must(await ledger.get(key))?.value ?? "");
  const manifest = await putManifest(cloud, { "app.ts": `${helloFetch}// two\n` });
  const config = { ...old.config, build: [] };
  await put(cloud, keys.release(project, app, 2), { ...old, number: 2, manifest, config });
  const second = { ...first, instance: `i${systemRandom.token(11)}` as InstanceId, release: 2 };
  await assign(cloud, second);
  await reach(cloud, second, "running");
  const layer = join(nodePaths.layers(paths), cacheKey);
  const trees = () => readdirSync(nodePaths.releasesOf(paths, uidOffset)).sort();
  const both = [old.manifest as string, manifest as string].sort();
  expect(trees()).toEqual(both);
  const alone = session(cloud, {
    ...{ project, app, uidOffset },
    target: { kind: "oneOff", release: 1 },
    argv: ["sh", "-c", "cat; wc -c < node_modules/layer; cat app.ts"],
    terminal: null,
  });
  await alone.start();
  // Its record goes while an instance and a one-off program use it.
  must(await ledger.transact({ conditions: [], writes: [{ kind: "delete", key }] }));
  const rounds = async () => {
    const record = { project, name: app, uidOffset };
    await put(cloud, keys.app(project, app), record);
    await Bun.sleep(1500);
  };
  await rounds();
  expect(trees()).toEqual(both);
  expect(existsSync(layer)).toBe(true);
  expect(await get(running.endpoint)).toStartWith("hello from grows");
  await unassign(cloud, first);
  await until("it has ended", async () => (await phaseOf(cloud, first)) === null);
  await rounds();
  expect(trees()).toEqual(both);
  expect(told).toEqual([]);
  alone.send({ kind: "eof" });
  expect(await alone.code).toBe(0);
  expect(alone.output.stdout).toBe(`100000\n${helloFetch}`);
  await rounds();
  const collected = () => told.reduce((sum, each) => sum + each.trees, 0);
  await until("the tree and the layer are gone", () => collected() === 2);
  expect(trees()).toEqual([manifest]);
  expect(existsSync(layer)).toBe(false);
  expect(told.reduce((sum, each) => sum + each.bytes, 0)).toBeGreaterThan(100_000);
  expect((await phaseOf(cloud, second))?.state).toBe("running");
});
