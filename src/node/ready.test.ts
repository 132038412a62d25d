import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Assignment } from "../model/instance.ts";
import { type StatusesReply, subjects } from "../model/wire.ts";
import { holdsNothing } from "./drivers/process.ts";
import { createInstanceFiles } from "./instance-files.ts";
import { nodePaths } from "./paths.ts";
import {
  type AppOptions,
  assign,
  type Cloud,
  cleanUp,
  deploy,
  type Files,
  fetchApp,
  get,
  helloFetch,
  must,
  node,
  reach,
  report,
  startCloud,
  unassign,
  until,
  wake,
} from "./testing/rig.ts";

// Sandboxes made ahead, on the real thing.

setDefaultTimeout(60_000);
afterEach(cleanUp);

async function pidsOf(cloud: Cloud, { instance }: Assignment): Promise<readonly number[]> {
  return (await (await cloud.cgroups().open(instance))?.pids()) ?? [];
}

/** Its program waits: the one that is not bubblewrap's, asleep in a read of a pipe. */
async function untilReady(cloud: Cloud, assignment: Assignment): Promise<readonly number[]> {
  await until("it is ready", async () => (await waitingOf(cloud, assignment)).length > 0);
  return pidsOf(cloud, assignment);
}

async function waitingOf(cloud: Cloud, assignment: Assignment): Promise<number[]> {
  return (await pidsOf(cloud, assignment)).filter((pid) => {
    try {
      const isWrapper = readFileSync(`/proc/${pid}/comm`, "utf8").startsWith("bwrap");
      return !isWrapper && /pipe_read/.test(readFileSync(`/proc/${pid}/wchan`, "utf8"));
    } catch {
      return false;
    }
  });
}

async function sleep(cloud: Cloud, assignment: Assignment): Promise<void> {
  const request = { instances: [assignment.instance] };
  must(await cloud.wire.request(subjects.nodeSleep(node), request, { timeoutMs: 10_000 }));
  await reach(cloud, assignment, "asleep");
}

async function answer(cloud: Cloud, assignment: Assignment, path = "/"): Promise<string> {
  const reply = await wake(cloud, assignment);
  if (!reply.ok) throw new Error(reply.reason);
  return get(reply.endpoint, path);
}

async function start(cloud: Cloud, name: string, files: Files, options: Partial<AppOptions> = {}) {
  const assignment = await deploy(cloud, name, files, {
    ...{ ...fetchApp, keepAwake: false },
    ...options,
  });
  await reach(cloud, assignment, "running");
  return assignment;
}

/** All that a program can tell of its sandbox, but for numbers of the moment. */
const inspect = `
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
const read = (path) => readFileSync(path, "utf8");
const status = /^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Umask|NSpid):.*$/gm;
const links = (folder) => readdirSync(folder).map((name) => {
  try { return name + " " + readlinkSync(folder + "/" + name); } catch { return name + " gone"; }
});
const look = () => JSON.stringify({
  status: read("/proc/self/status").match(status).filter((line) => !line.startsWith("NSpid")),
  limits: read("/proc/self/limits"),
  mounts: read("/proc/self/mountinfo").split("\\n").map((line) => line.split(" ").slice(3).join(" ")),
  interfaces: readdirSync("/proc/self/net").length,
  addresses: read("/proc/net/fib_trie"),
  open: links("/proc/self/fd").map((line) => line.replace(/\\d+\\]/, "]").replace(/^\\d+ /, "")).sort(),
  session: read("/proc/self/stat").split(") ")[1].split(" ").slice(4, 5),
  argv: process.argv, env: process.env, cwd: process.cwd(), hosts: read("/etc/hosts"),
}, null, 1).replaceAll(/net:\\[\\d+/g, "").replaceAll(/upperdir=\\S+|uuid=\\S+/g, "");
const seen = look();
export default { fetch: () => new Response(seen) };
`;

test("what was made ahead is in every respect the sandbox of a start from nothing", async () => {
  const cloud = await startCloud();
  const assignment = await start(cloud, "twin", { "app.ts": inspect });
  const fromNothing = await answer(cloud, assignment);
  await sleep(cloud, assignment);
  const waiting = await untilReady(cloud, assignment);
  const fromReady = await answer(cloud, assignment);
  expect(fromReady).toBe(fromNothing);
  expect(fromNothing).toContain("Seccomp:\\t2");
  expect(await pidsOf(cloud, assignment)).toEqual(waiting);
});

test("while it waits it takes no CPU", async () => {
  const cloud = await startCloud();
  const assignment = await start(cloud, "still", { "app.ts": helloFetch });
  await sleep(cloud, assignment);
  await untilReady(cloud, assignment);
  const cgroup = await cloud.cgroups().open(assignment.instance);
  const usedUs = async () => (await cgroup?.usage())?.cpuTimeUs;
  // What its start left to do in the background is done when there is a core for it.
  await until("it does nothing at all for a second", async () => {
    const before = await usedUs();
    await Bun.sleep(1000);
    return before !== undefined && (await usedUs()) === before;
  });
});

test("it is used once, and nothing of the app runs in it before", async () => {
  const cloud = await startCloud();
  const counting = `import { appendFileSync } from "node:fs";
appendFileSync("/data/starts", process.pid + "\\n");
${helloFetch}`;
  const assignment = await start(cloud, "count", { "app.ts": counting });
  const { project, app } = assignment;
  const file = join(nodePaths.volumeOf(cloud.paths, project, app), "starts");
  const starts = () => readFileSync(file, "utf8").trim().split("\n").length;
  const seen = new Set<number>();
  for (let round = 1; round <= 5; round++) {
    await sleep(cloud, assignment);
    for (const pid of await untilReady(cloud, assignment)) {
      expect(seen.has(pid)).toBe(false);
      seen.add(pid);
    }
    expect(starts()).toBe(round);
    expect(await answer(cloud, assignment)).toContain("hello from count");
    expect(starts()).toBe(round + 1);
  }
});

test("one that has died, or is not what would be started now, is not used", async () => {
  const cloud = await startCloud();
  const assignment = await start(cloud, "other", { "app.ts": helloFetch });
  await sleep(cloud, assignment);
  const [dead = 0] = await untilReady(cloud, assignment);
  process.kill(dead, "SIGKILL");
  expect(await answer(cloud, assignment)).toContain("hello from other");
  await sleep(cloud, assignment);
  const before = await untilReady(cloud, assignment);
  await assign(cloud, { ...assignment, limits: { ...assignment.limits, openFiles: 777 } });
  await until("it is made anew", async () => {
    const now = await waitingOf(cloud, assignment);
    return now.length > 0 && now.every((pid) => !before.includes(pid));
  });
  const [program = 0] = await waitingOf(cloud, assignment);
  expect(readFileSync(`/proc/${program}/limits`, "utf8")).toMatch(/Max open files +777 +777/);
  expect(await answer(cloud, assignment)).toContain("hello from other");
});

test("what Bun would load first waits before Bun; what the loader would is not made", async () => {
  const cloud = await startCloud();
  const early = {
    "app.ts": helloFetch,
    "bunfig.toml": 'preload = ["./early.ts"]',
    "early.ts": `
import { writeFileSync } from "node:fs";
writeFileSync("/data/early", "");`,
  };
  const preloads = await start(cloud, "preload", early);
  const file = join(nodePaths.volumeOf(cloud.paths, preloads.project, preloads.app), "early");
  await Bun.write(file, "first");
  await sleep(cloud, preloads);
  const pids = await untilReady(cloud, preloads);
  const names = pids.map((pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim());
  expect(names.sort()).toEqual(["bwrap", "bwrap", "sh"]);
  expect(readFileSync(file, "utf8")).toBe("first");
  expect(await answer(cloud, preloads)).toContain("hello from preload");
  expect(readFileSync(file, "utf8")).toBe("");
  const env = { LD_LIBRARY_PATH: "/app" };
  const loads = await start(cloud, "load", { "app.ts": helloFetch }, { env });
  await sleep(cloud, loads);
  await Bun.sleep(300);
  expect(await pidsOf(cloud, loads)).toEqual([]);
  expect(await answer(cloud, loads)).toContain("hello from load");
});

test("there are so many at most, for those used last; a removed app's goes with it", async () => {
  const cloud = await startCloud();
  const all: Assignment[] = [];
  for (const name of ["a", "b", "c", "d", "e", "f"]) {
    all.push(await start(cloud, name, { "app.ts": helloFetch }));
  }
  for (const assignment of all) {
    await answer(cloud, assignment);
    await sleep(cloud, assignment);
    await untilReady(cloud, assignment);
  }
  const ready = async () => {
    const found = await Promise.all(all.map((one) => waitingOf(cloud, one)));
    return found.flatMap((pids, at) => (pids.length > 0 ? [all[at]?.app] : [])).join("");
  };
  await until("the last four have one", async () => (await ready()) === "cdef");
  const last = all.at(-1);
  if (last === undefined) return;
  const pids = await pidsOf(cloud, last);
  await unassign(cloud, last);
  await until("its sandbox is gone", () => pids.every((pid) => !existsSync(`/proc/${pid}`)));
  await until("another has its place", async () => (await ready()) === "bcde");
});

test("a lode that ends takes them along, and the next makes them anew", async () => {
  const cloud = await startCloud();
  const assignment = await start(cloud, "again", { "app.ts": helloFetch });
  await sleep(cloud, assignment);
  const before = await untilReady(cloud, assignment);
  await cloud.agent.close();
  // Reaped by init, as those are that lode leaves behind when it is killed.
  await until("they are gone", () => before.every((pid) => !existsSync(`/proc/${pid}`)));
  await cloud.restart();
  await reach(cloud, assignment, "asleep");
  await untilReady(cloud, assignment);
  expect(await answer(cloud, assignment)).toContain("hello from again");
});

test("who has one stays in memory; who lost it goes to bed with nothing, and wakes", async () => {
  const cloud = await startCloud({ bedMs: 300, readyMax: 1 });
  const all: Assignment[] = [];
  for (const name of ["a", "b", "c"]) {
    all.push(await start(cloud, name, { "app.ts": helloFetch }));
  }
  const [a, b, c] = all as [Assignment, Assignment, Assignment];
  for (const assignment of all) {
    await answer(cloud, assignment);
    await sleep(cloud, assignment);
  }
  const inMemory = async () => {
    const { instances } = await report(cloud);
    return instances.map(({ app }) => app as string).sort();
  };
  const states = async () => {
    const request = { instances: all.map(({ instance }) => instance) };
    const reply = await cloud.wire.request(subjects.nodeStatuses(node), request, {
      timeoutMs: 2000,
    });
    return (must(reply) as unknown as StatusesReply).statuses.map(({ phase }) => phase.state);
  };
  const inBed = async (assignment: Assignment) => {
    await until("it is in bed", async () => !(await inMemory()).includes(assignment.app));
    const { paths } = cloud;
    const files = createInstanceFiles(nodePaths.instances(paths), nodePaths.beds(paths));
    expect(files.sleeper(assignment.instance)).toMatchObject({ file: { held: holdsNothing } });
    expect(files.readAll().map(({ file }) => file.instance)).not.toContain(assignment.instance);
    expect(await cloud.cgroups().open(assignment.instance)).toBeNull();
  };
  // One is next in line for the place.
  await inBed(a);
  const waiting = await untilReady(cloud, c);
  await Bun.sleep(1000);
  expect(await inMemory()).toEqual(["b", "c"]);
  expect(await pidsOf(cloud, c)).toEqual(waiting);
  expect(await states()).toEqual(["asleep", "asleep", "asleep"]);

  expect(await answer(cloud, a)).toContain("hello from a");
  await sleep(cloud, a);
  await untilReady(cloud, a);
  await inBed(b);
  expect(await inMemory()).toEqual(["a", "c"]);
  await until("its sandbox ended", async () => (await pidsOf(cloud, c)).length === 0);
  await cloud.restart();
  await untilReady(cloud, a);
  for (const assignment of all) {
    expect(await answer(cloud, assignment)).toContain(`hello from ${assignment.app}`);
  }
});
