import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { systemClock, systemRandom } from "../../fabric/system.ts";
import { openKernelEvents } from "../linux/kernel-events.ts";
import type { Cgroup, CgroupLimits, CgroupTree } from "./cgroup.ts";
import { detectCgroups, openCgroupTree } from "./detect.ts";
import { memoryCeilings, withinCeiling } from "./memory.ts";
import { firstCores, quotaOf, rationedQuotaOf, sharesOf, weightOf } from "./shares.ts";
import { openTreeV2 } from "./v2.ts";

setDefaultTimeout(60_000);

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const noLimits: CgroupLimits = {
  cpuMaxCores: null,
  memoryMinBytes: null,
  memoryHighBytes: null,
  memoryMaxBytes: null,
  pidsMax: null,
};

function kernelEvents() {
  const events = openKernelEvents();
  if (!events.ok) throw new Error(events.error);
  cleanups.push(() => events.value.close());
  return events.value;
}

/** A tree of its own; afterwards nothing of it may be left. */
function tree(options: { readonly thawUid?: number } = {}): CgroupTree {
  const cloud = systemRandom.token(6);
  const runDirectory = `/run/lode-${cloud}`;
  const opened = openCgroupTree({
    cloud,
    runDirectory,
    clock: systemClock,
    events: kernelEvents(),
    ...options,
  });
  if (!opened.ok) throw new Error(opened.error);
  cleanups.push(async () => {
    await opened.value.destroy();
    rmSync(runDirectory, { recursive: true, force: true });
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(cloud);
    expect(Bun.spawnSync(["find", "/sys/fs/cgroup", "-name", `lode-${cloud}`]).stdout.length).toBe(
      0,
    );
  });
  return opened.value;
}

/** Runs a shell command inside. */
function start(group: Cgroup, command: string) {
  const joins = group.joinPaths.map((path) => `echo 0 > ${path}`).join("; ");
  const child = Bun.spawn(["sh", "-c", `${joins}; ${command}`], { stdout: "pipe" });
  cleanups.push(() => child.kill("SIGKILL"));
  return child;
}

/** In Python, as a shell ends when it cannot fork: that bomb has burnt out when nobody looks. */
function forkBomb(child: "forks" | "sleeps"): string {
  const lives = child === "forks" ? "pass" : "time.sleep(0.001), os._exit(0)";
  return `exec python3 -S -c '
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
  try:
    if os.fork() == 0: ${lives}
  except OSError: pass'`;
}

/** Null when it has just ended. */
function allowedCores(pid: number): string | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return /Cpus_allowed_list:\s+(\S+)/.exec(status)?.[1] ?? null;
  } catch {
    return null;
  }
}

/** The first of the files that its directories have. */
function cpuOf(group: Cgroup, files: readonly string[]): string {
  const directories = group.joinPaths.map((path) => path.slice(0, path.lastIndexOf("/")));
  const paths = directories.flatMap((directory) => files.map((file) => `${directory}/${file}`));
  const found = paths.find((path) => existsSync(path));
  return found === undefined ? "none" : readFileSync(found, "utf8").trim();
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await Bun.sleep(2);
}

test("processes join, are listed, use CPU, freeze, thaw and die", async () => {
  const group = await tree().create("app-1");
  await group.setLimits({ ...noLimits, pidsMax: 50 });
  const child = start(group, "while :; do :; done");
  await until(
    async () => (await group.pids()).length === 1 && (await group.usage()).cpuTimeUs > 5000,
  );
  expect(await group.pids()).toEqual([child.pid]);
  await group.freeze();
  const frozen = (await group.usage()).cpuTimeUs;
  await Bun.sleep(40);
  expect((await group.usage()).cpuTimeUs - frozen).toBeLessThan(2000);
  await group.thaw();
  await until(async () => (await group.usage()).cpuTimeUs > frozen + 10_000);
  await group.freeze();
  await group.kill();
  expect(await child.exited).toBe(137);
  expect(await group.pids()).toEqual([]);
  await group.remove();
});

test("who may thaw can, once it was frozen, and nobody else", async () => {
  const thawUid = 612_345;
  const cgroups = tree({ thawUid });
  const group = await cgroups.create("app-1");
  const child = start(group, "while :; do :; done");
  const { directory, file, thawed } = cgroups.freezer;
  const thawAs = (uid: number) => {
    const command = ["sh", "-c", `echo ${thawed} > ${directory}/app-1/${file}`];
    const as = ["setpriv", "--reuid", String(uid), "--regid", String(uid), "--clear-groups"];
    return Bun.spawnSync([...as, ...command], { stderr: "ignore" }).exitCode === 0;
  };
  expect(thawAs(thawUid)).toBe(false);
  await group.freeze();
  expect(thawAs(thawUid + 1)).toBe(false);
  const frozen = (await group.usage()).cpuTimeUs;
  expect(thawAs(thawUid)).toBe(true);
  await until(async () => (await group.usage()).cpuTimeUs > frozen + 10_000);
  await group.kill();
  await child.exited;
});

test("a thaw undoes a freeze that is under way; page cache is given back", async () => {
  const group = await tree().create("app-1");
  const folder = mkdtempSync("/tmp/lode-cache-");
  cleanups.push(() => rmSync(folder, { recursive: true }));
  const child = start(
    group,
    `dd if=/dev/zero of=${folder}/f bs=1M count=24 status=none; echo there; while :; do :; done`,
  );
  await child.stdout.getReader().read();
  for (let round = 0; round < 20; round++) {
    const frozen = group.freeze();
    await group.thaw();
    await frozen;
    const before = (await group.usage()).cpuTimeUs;
    await until(async () => (await group.usage()).cpuTimeUs > before);
  }
  expect(await group.freeze()).toBe(true);
  const before = await group.usage();
  expect(before.cacheBytes).toBeGreaterThan(16 * 1024 ** 2);
  await group.reclaim();
  const after = await group.usage();
  expect(before.memoryBytes - after.memoryBytes).toBeGreaterThan(16 * 1024 ** 2);
  // SIGKILL reaches what is frozen.
  await group.kill();
  expect(await child.exited).toBe(137);
  await group.remove();
});

test("a fork bomb is held to one core, also what it forks meanwhile, and let go", async () => {
  const cgroups = tree();
  expect(cgroups.canConfine).toBe(true);
  const group = await cgroups.create("bomb");
  await group.setLimits({ ...noLimits, pidsMax: 200 });
  group.setCpuWeight(3);
  const coresOf = async () =>
    [...new Set((await group.pids()).map(allowedCores))].filter((list) => list !== null);
  start(group, forkBomb("sleeps"));
  await until(async () => (await group.pids()).length > 3);
  group.confine({ cores: 1, yields: true, rationCores: null });
  for (let look = 0; look < 20; look++) {
    expect(await coresOf()).toEqual(["0"]);
    await Bun.sleep(5);
  }
  expect(cpuOf(group, ["cpu.idle"])).toBe("1");
  group.setCpuWeight(2);
  expect(group.confinement).toEqual({ cores: 1, yields: true, rationCores: null });
  group.confine(null);
  expect(cpuOf(group, ["cpu.idle"])).toBe("0");
  expect(group.confinement).toBeNull();
  const { confinedUs } = await group.usage();
  expect(confinedUs).toBeGreaterThan(90_000);
  await Bun.sleep(5);
  expect((await group.usage()).confinedUs).toBe(confinedUs);
  expect(["2048", "200"]).toContain(cpuOf(group, ["cpu.shares", "cpu.weight"]));
  expect(await coresOf()).toEqual([allowedCores(process.pid) ?? ""]);
  await group.kill();
  await group.remove();
});

test("a helper runs as the group does, on its cores and its account, and dies with it", async () => {
  const group = await tree().create("flooding");
  await group.setLimits({ ...noLimits, pidsMax: 1 });
  group.confine({ cores: 1, yields: true, rationCores: null });
  const joins = group.runPaths.map((path) => `echo 0 > ${path}`).join("; ");
  const helper = Bun.spawn(["sh", "-c", `${joins}; while :; do :; done`]);
  await until(async () => group.cpuTimeUs() > 20_000);
  expect(allowedCores(helper.pid)).toBe("0");
  await group.kill();
  expect(await helper.exited).toBe(137);
  await group.remove();
});

test("a fork bomb dies", async () => {
  const group = await tree().create("bomb");
  await group.setLimits({ ...noLimits, pidsMax: 200 });
  start(group, forkBomb("forks"));
  await until(async () => (await group.pids()).length > 100);
  await group.kill();
  expect(await group.pids()).toEqual([]);
  await group.remove();
});

test("memory above the maximum is an OOM kill, told by an event", async () => {
  const group = await tree().create("oom");
  const limit = 32 * 1024 * 1024;
  await group.setLimits({ ...noLimits, memoryMaxBytes: limit, memoryMinBytes: 1024 * 1024 });
  let told = 0;
  const watching = group.onOomKill(() => (told += 1));
  const child = start(group, "exec python3 -c 'x = bytearray(200 << 20)'");
  await child.exited;
  await until(async () => told > 0);
  expect((await group.usage()).oomKills).toBe(1);
  watching.cancel();
  await group.remove();
});

test("out of memory the kernel takes one process; the rest of the app lives on", async () => {
  const group = await tree().create("oom-child");
  await group.setLimits({ ...noLimits, memoryMaxBytes: 64 * 1024 * 1024 });
  const child = start(group, "python3 -c 'x = bytearray(200 << 20)'; echo $?");
  expect(await new Response(child.stdout).text()).toBe("137\n");
  expect((await group.usage()).oomKills).toBe(1);
  await child.exited;
  await group.remove();
});

test("memory limits grow and shrink live; one below use is refused and nothing dies", async () => {
  const group = await tree().create("resize");
  const mib = 1024 * 1024;
  const child = start(
    group,
    `exec python3 -c '
import time
x = bytearray(64 << 20)
print("up", flush=True)
time.sleep(60)'`,
  );
  await child.stdout.getReader().read();
  await group.setLimits({ ...noLimits, memoryMaxBytes: 256 * mib });
  await group.setLimits({ ...noLimits, memoryMaxBytes: 512 * mib });
  await group.setLimits({ ...noLimits, memoryMaxBytes: 128 * mib });
  const refused = group.setLimits({ ...noLimits, memoryMaxBytes: 16 * mib });
  expect(refused).rejects.toThrow("bytes are in use");
  await refused.catch(() => null);
  expect((await group.usage()).memoryBytes).toBeGreaterThan(60 * mib);
  expect(await group.pids()).toEqual([child.pid]);
  await group.setLimits(noLimits);
  await group.kill();
});

test("a CPU ceiling throttles", async () => {
  const group = await tree().create("capped");
  await group.setLimits({ ...noLimits, cpuMaxCores: 0.1 });
  start(group, "while :; do :; done");
  await until(async () => (await group.usage()).throttledUs > 0);
});

test("what works the kernel is seen to, held to a ration, and has its ceiling again", async () => {
  const group = await tree().create("rationed");
  await group.setLimits({ ...noLimits, cpuMaxCores: 0.9 });
  const ceiling = cpuOf(group, ["cpu.cfs_quota_us", "cpu.max"]);
  start(group, "exec dd if=/dev/zero of=/dev/null bs=1M");
  await until(async () => group.cpuTimeUs() > 100_000);
  expect(group.kernelTimeUs() / group.cpuTimeUs()).toBeGreaterThan(0.6);
  const confined = { cores: 1, yields: true, rationCores: 0.1 };
  group.confine(confined);
  const ration = cpuOf(group, ["cpu.cfs_quota_us", "cpu.max"]);
  expect(["1000", "1000 10000"]).toContain(ration);
  const before = { at: performance.now(), usedUs: group.cpuTimeUs() };
  await Bun.sleep(500);
  const seconds = (performance.now() - before.at) / 1000;
  expect((group.cpuTimeUs() - before.usedUs) / 1e6 / seconds).toBeLessThan(0.2);
  expect((await group.usage()).throttledUs).toBeGreaterThan(0);
  // A change of its limits leaves the ration, up to a ceiling that is less.
  await group.setLimits({ ...noLimits, cpuMaxCores: 0.8 });
  expect(cpuOf(group, ["cpu.cfs_quota_us", "cpu.max"])).toBe(ration);
  await group.setLimits({ ...noLimits, cpuMaxCores: 0.05 });
  expect(["1000", "1000 20000"]).toContain(cpuOf(group, ["cpu.cfs_quota_us", "cpu.max"]));
  await group.setLimits({ ...noLimits, cpuMaxCores: 0.9 });
  group.confine({ ...confined, rationCores: null });
  expect(cpuOf(group, ["cpu.cfs_quota_us", "cpu.max"])).toBe(ceiling);
  group.confine(confined);
  group.confine(null);
  expect(cpuOf(group, ["cpu.cfs_quota_us", "cpu.max"])).toBe(ceiling);
  await group.kill();
  await group.remove();
});

test("trees are adopted, list what is there and remove half-made groups", async () => {
  const cgroups = tree();
  await cgroups.create("a");
  await cgroups.create("b");
  expect(await cgroups.list()).toEqual(["a", "b"]);
  expect((await cgroups.open("a"))?.name).toBe("a");
  expect(await cgroups.open("c")).toBeNull();
  expect(cgroups.create("../evil")).rejects.toThrow("cgroup name");
});

test("v2: core files on the real unified hierarchy", async () => {
  const mounted = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m;
  const parent = mounted.exec(readFileSync("/proc/self/mountinfo", "utf8"))?.[1];
  if (parent === undefined) return;
  const cloud = systemRandom.token(6);
  const events = kernelEvents();
  const memory = memoryCeilings(4 * 1024 ** 3);
  const shared = { cloud, parent, cores: 2, memory, clock: systemClock, events };
  const opened = openTreeV2({ ...shared, thawUid: null, controllers: [] });
  if (!opened.ok) throw new Error(opened.error);
  cleanups.push(() => opened.value.destroy());
  const group = await opened.value.create("app");
  const child = start(group, "sleep 60 & sleep 60 & wait");
  await until(async () => (await group.pids()).length === 3);
  const announced = openSync(`${parent}/lode-${cloud}/app/cgroup.events`, "r");
  let changes = 0;
  const watching = events.watch(announced, "priority", () => (changes += 1));
  await Bun.sleep(5);
  const before = changes;
  await group.freeze();
  await until(async () => changes > before);
  watching.cancel();
  closeSync(announced);
  await group.thaw();
  await group.freeze();
  await group.kill();
  await child.exited;
  await group.remove();
  expect(await opened.value.list()).toEqual([]);
});

test("v2: what is written where (a plain directory in place of the kernel)", async () => {
  const parent = mkdtempSync("/tmp/lode-cgroup-");
  cleanups.push(() => rmSync(parent, { recursive: true }));
  const opened = openTreeV2({
    cloud: "abc123",
    parent,
    controllers: ["cpu", "memory", "pids"],
    thawUid: null,
    cores: 8,
    memory: { treeBytes: 9000, instanceBytes: 8000 },
    clock: systemClock,
    events: kernelEvents(),
  });
  if (!opened.ok) throw new Error(opened.error);
  const root = `${parent}/lode-abc123`;
  const group = await opened.value.create("app");
  const read = (file: string) => readFileSync(`${root}/app/${file}`, "utf8");
  expect(readFileSync(`${root}/cgroup.subtree_control`, "utf8")).toBe("+cpu +memory +pids");
  expect(readFileSync(`${root}/cpu.weight`, "utf8")).toBe("800");
  const limits: CgroupLimits = {
    cpuMaxCores: 1.5,
    memoryMinBytes: 10,
    memoryHighBytes: 20,
    memoryMaxBytes: 30,
    pidsMax: 7,
  };
  await group.setLimits(limits);
  group.setCpuWeight(0.25);
  const files = ["cpu.weight", "cpu.max", "pids.max", "memory.min", "memory.high", "memory.max"];
  expect(files.map(read)).toEqual(["25", "30000 20000", "7", "10", "20", "30"]);
  expect(read("memory.swap.max")).toBe("0");
  expect(readFileSync(`${root}/memory.min`, "utf8")).toBe("10");
  const confined = { cores: 1, yields: true, rationCores: 0.1 };
  group.confine(confined);
  expect(read("cpu.max")).toBe("1000 10000");
  await group.setLimits({ ...limits, cpuMaxCores: 1.4 });
  expect(read("cpu.max")).toBe("1000 10000");
  group.confine({ ...confined, rationCores: null });
  expect(read("cpu.max")).toBe("28000 20000");
  group.confine(null);
  await group.setLimits(noLimits);
  expect(readFileSync(`${root}/memory.min`, "utf8")).toBe("0");
  expect(files.map(read)).toEqual(["25", "max 20000", "max", "0", "max", "8000"]);
  expect(readFileSync(`${root}/memory.max`, "utf8")).toBe("9000");
  writeFileSync(`${root}/app/memory.current`, "100");
  expect(group.setLimits(limits)).rejects.toThrow("100 bytes are in use");
  writeFileSync(`${root}/app/cpu.stat`, "usage_usec 5000\nsystem_usec 4000\nthrottled_usec 30\n");
  writeFileSync(`${root}/app/memory.stat`, "active_file 7\ninactive_file 40\n");
  writeFileSync(`${root}/app/memory.events`, "oom 3\noom_kill 2\n");
  expect(await group.usage()).toEqual({
    cpuTimeUs: 5000,
    memoryBytes: 100,
    cacheBytes: 40,
    oomKills: 2,
    throttledUs: 30,
    confinedUs: expect.any(Number),
  });
  expect(group.kernelTimeUs()).toBe(4000);
});

test("detection: v2 first, then v1, else one line that says why", () => {
  const root = mkdtempSync("/tmp/lode-detect-");
  cleanups.push(() => rmSync(root, { recursive: true }));
  const line = (path: string, type: string, options: string) =>
    `30 25 0:26 / ${root}/${path} rw,nosuid shared:9 - ${type} cgroup rw,${options}`;
  for (const path of ["unified", "cpu,cpuacct", "cpuset", "memory", "pids", "freezer"]) {
    mkdirSync(`${root}/${path}`);
  }
  const v1 = [
    line("cpu,cpuacct", "cgroup", "cpu,cpuacct"),
    line("memory", "cgroup", "memory"),
    line("pids", "cgroup", "pids"),
    line("freezer", "cgroup", "freezer"),
  ];
  const cores = [v1, [...v1, line("cpuset", "cgroup", "cpuset")]].map((lines) => {
    const found = detectCgroups(lines.join("\n"), null);
    return found.ok && found.value.version === 1 ? found.value.mounts.cpuset : "none";
  });
  expect(cores).toEqual([undefined, `${root}/cpuset`]);
  const unified = line("unified", "cgroup2", "nsdelegate");
  writeFileSync(`${root}/unified/cgroup.controllers`, "hugetlb");
  const hybrid = detectCgroups([...v1, unified].join("\n"), null);
  expect(hybrid.ok && hybrid.value.version === 1 && hybrid.value.mounts.cpuacct).toBe(
    `${root}/cpu,cpuacct`,
  );
  const lacking = detectCgroups([v1[0], v1[2], v1[3], unified].join("\n"), null);
  expect(lacking.ok ? "" : lacking.error).toContain("v2 lacks cpu, memory, pids; v1 lacks memory");
  writeFileSync(`${root}/unified/cgroup.controllers`, "cpuset cpu io memory pids");
  const v2 = detectCgroups([...v1, unified].join("\n"), null);
  expect(v2.ok && v2.value.version === 2 && v2.value.parent).toBe(`${root}/unified`);
  const none = detectCgroups("", null);
  expect(none.ok ? "" : none.error).toContain("no cgroups are mounted");
  expect(existsSync(root)).toBe(true);
});

test("the first cores of a list", () => {
  expect(firstCores("0-1", 1)).toBe("0");
  expect(firstCores("0-3,8,10-11", 6)).toBe("0,1,2,3,8,10");
  expect(firstCores("5", 3)).toBe("5");
});

test("weights and quotas", () => {
  expect([0, 0.01, 0.25, 2, 1000].map(sharesOf)).toEqual([2, 10, 256, 2048, 262_144]);
  expect([0, 0.01, 0.25, 2, 1000].map(weightOf)).toEqual([1, 1, 25, 200, 10_000]);
  expect(quotaOf(0.5)).toEqual({ quotaUs: 10_000, periodUs: 20_000 });
  expect(quotaOf(0.01)).toEqual({ quotaUs: 1000, periodUs: 100_000 });
  expect(quotaOf(0.0001)).toEqual({ quotaUs: 1000, periodUs: 1_000_000 });
  expect(quotaOf(null).quotaUs).toBeNull();
});

test("of a ceiling and a ration the lesser holds, a ration in short periods", () => {
  const rationed = { quotaUs: 1000, periodUs: 10_000 };
  expect(rationedQuotaOf(null, 0.1)).toEqual(rationed);
  expect(rationedQuotaOf(1, 0.1)).toEqual(rationed);
  expect(rationedQuotaOf(0.05, 0.1)).toEqual(quotaOf(0.05));
  expect(rationedQuotaOf(1, null)).toEqual(quotaOf(1));
  expect(rationedQuotaOf(null, null)).toEqual(quotaOf(null));
});

test("apps never get all of a machine's memory", () => {
  const gibibyte = 1024 ** 3;
  for (const machine of [0.5, 1, 8, 24, 512].map((size) => size * gibibyte)) {
    const ceilings = memoryCeilings(machine);
    expect(machine - ceilings.treeBytes).toBeGreaterThanOrEqual(machine / 20);
    expect(ceilings.treeBytes - ceilings.instanceBytes).toBeGreaterThan(0);
    expect(ceilings.instanceBytes).toBeGreaterThan(machine / 2);
    expect(withinCeiling(null, ceilings)).toBe(ceilings.instanceBytes);
    expect(withinCeiling(2 * machine, ceilings)).toBe(ceilings.instanceBytes);
    expect(withinCeiling(1000, ceilings)).toBe(1000);
  }
});
