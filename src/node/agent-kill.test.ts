import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../base/virtual.ts";
import { systemClock, systemRandom } from "../fabric/system.ts";
import type { Assignment, InstancePhase } from "../model/instance.ts";
import type { NodeReport } from "../model/wire.ts";
import { type CloudPaths, dataPaths, nodePaths } from "./paths.ts";
import type { Seed } from "./testing/life.ts";
import {
  cleanUp,
  cleanups,
  deploy,
  fetchApp,
  get,
  helloFetch,
  memoryRecords,
  must,
  newPaths,
  newUidBase,
  nodeServer,
  openHost,
  type Records,
  until,
} from "./testing/rig.ts";

// kill -9 of lode, at random moments, again and again. An app that serves notices nothing, and
// the last life finds or mends everything.

setDefaultTimeout(180_000);
afterEach(cleanUp);

const lives = 12;
const lifeMsMax = 1200;

interface Life {
  report(): Promise<NodeReport>;
  kill(): Promise<void>;
}

function startLife(seedFile: string): Life & { readonly started: Promise<void> } {
  const program = join(import.meta.dir, "testing/life.ts");
  const child = Bun.spawn([process.execPath, program, seedFile], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = readLines(child.stdout);
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await child.exited;
  };
  cleanups.push(kill);
  return {
    started: lines.next().then(({ value }) => expect(value).toBe("started")),
    async report() {
      child.stdin.write("report\n");
      child.stdin.flush();
      return JSON.parse((await lines.next()).value ?? "") as NodeReport;
    },
    kill,
  };
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

async function writeSeed(
  path: string,
  paths: CloudPaths,
  uidBase: number,
  records: Records,
): Promise<void> {
  const { entries } = must(await records.ledger.list("/"));
  const blobs: Record<string, string> = {};
  for await (const digest of records.blobs.list()) {
    blobs[digest] = Buffer.from(must(await records.blobs.read(digest))).toString("base64");
  }
  const seed: Seed = { data: paths.data, cloud: paths.cloud, uidBase, entries, blobs };
  writeFileSync(path, JSON.stringify(seed));
}

/** Programs of one app that run on this machine; not those that wait for init to reap them. */
function processesOf(uid: number): number {
  return readdirSync("/proc").filter((name) => {
    try {
      if (!/^\d+$/.test(name) || statSync(`/proc/${name}`).uid !== uid) return false;
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${name}/status`, "utf8"));
    } catch {
      return false;
    }
  }).length;
}

test("an app serves through every kill, and the last life converges", async () => {
  const seedNumber = Math.floor(systemRandom.next() * 2 ** 31);
  console.log(`seed ${seedNumber}`);
  const random = seededRandom(seedNumber);
  const records = memoryRecords();
  const paths = newPaths();
  const uidBase = newUidBase();
  cleanups.push(async () => (await openHost(paths)).destroy());
  const files = { "app.ts": helloFetch };
  const stable = await deploy(records, "stable", files, fetchApp);
  const others = [
    await deploy(records, "second", files, fetchApp),
    await deploy(records, "naps", files, { ...fetchApp, keepAwake: false, idleMs: 150 }),
    await deploy(
      records,
      "tcp",
      { "server.js": nodeServer },
      {
        command: { kind: "shell", line: "node server.js" },
        listen: "tcp",
      },
    ),
    await deploy(records, "ice", files, { ...fetchApp, keepAwake: false, freezeMs: 150 }),
    await deploy(records, "crashes", { "app.ts": "process.exit(1)" }, fetchApp),
  ];
  const seedFile = join(paths.data, "seed.json");
  await writeSeed(seedFile, paths, uidBase, records);

  const first = startLife(seedFile);
  await first.started;
  const socket = join(dataPaths.appSockets(paths), `${stable.instance}.sock`);
  await until("it serves", () => existsSync(socket));
  const requests = { count: 0, failures: [] as string[] };
  const load = systemClock.every(10, () => {
    requests.count += 1;
    get({ kind: "unix", path: socket }).catch((cause) => requests.failures.push(String(cause)));
  });
  cleanups.push(() => load.cancel());
  await Bun.sleep(random.next() * lifeMsMax);
  await first.kill();
  for (let life = 1; life < lives; life++) {
    const next = startLife(seedFile);
    next.started.catch(() => {});
    await Bun.sleep(random.next() * lifeMsMax);
    await next.kill();
  }

  const last = startLife(seedFile);
  await last.started;
  await expectConverged(last, stable, others);
  load.cancel();
  expect(requests.failures).toEqual([]);
  expect(requests.count).toBeGreaterThan(100);
  // bubblewrap's two and the program.
  for (const { uidOffset } of [stable, others[0]].filter((one) => one !== undefined)) {
    expect(processesOf(uidBase + uidOffset)).toBe(3);
  }
  await last.kill();
  await writeSeed(seedFile, paths, uidBase, memoryRecords());
  const cleaner = startLife(seedFile);
  await cleaner.started;
  for (const { uidOffset } of [stable, ...others]) {
    expect(processesOf(uidBase + uidOffset)).toBe(0);
  }
  expect(readdirSync(dataPaths.appSockets(paths))).toEqual([]);
  expect(readdirSync(nodePaths.instances(paths))).toEqual([]);
  await cleaner.kill();
});

test("what was made ahead ends with the lode that is killed, and the next makes it anew", async () => {
  const records = memoryRecords();
  const paths = newPaths();
  const uidBase = newUidBase();
  cleanups.push(async () => (await openHost(paths)).destroy());
  const files = { "app.ts": helloFetch };
  const stable = await deploy(records, "stable", files, fetchApp);
  const naps = { ...fetchApp, keepAwake: false, idleMs: 100 };
  const napping = await deploy(records, "naps", files, naps);
  const uid = uidBase + napping.uidOffset;
  const seedFile = join(paths.data, "seed.json");
  await writeSeed(seedFile, paths, uidBase, records);
  const states = async (life: Life) => {
    const { instances } = await life.report();
    return [stable, napping].map(
      ({ instance }) => instances.find((one) => one.instance === instance)?.phase,
    );
  };
  let served: number | null = null;
  for (let life = 0; life < 3; life++) {
    const next = startLife(seedFile);
    await next.started;
    await until("one serves, one sleeps with its next start made", async () => {
      const [up, asleep] = await states(next);
      if (up?.state !== "running" || asleep?.state !== "asleep") return false;
      served ??= up.pid;
      expect(up.pid).toBe(served);
      return processesOf(uid) === 3;
    });
    await Bun.sleep(100);
    expect(processesOf(uid)).toBe(3);
    await next.kill();
    // Without any lode: the pipe that they wait at has ended.
    await until("they have ended", () => processesOf(uid) === 0);
    expect(existsSync(`/proc/${served}`)).toBe(true);
  }
  await writeSeed(seedFile, paths, uidBase, memoryRecords());
  const cleaner = startLife(seedFile);
  await cleaner.started;
  expect(readdirSync(nodePaths.instances(paths))).toEqual([]);
  expect(readdirSync(nodePaths.instanceSockets(paths))).toEqual([]);
  expect(readdirSync(nodePaths.statuses(paths))).toEqual([]);
  await cleaner.kill();
});

async function expectConverged(
  life: Life,
  stable: Assignment,
  others: readonly Assignment[],
): Promise<void> {
  const wanted: readonly InstancePhase["state"][] = [
    "running",
    "asleep",
    "running",
    "frozen",
    "failed",
  ];
  const phases = async () => {
    const { instances } = await life.report();
    return new Map(instances.map((status) => [status.instance, status.phase.state]));
  };
  await until("all are as they should be", async () => {
    const seen = await phases();
    const othersAre = others.every(({ instance }, index) => seen.get(instance) === wanted[index]);
    return othersAre && seen.get(stable.instance) === "running";
  });
}
