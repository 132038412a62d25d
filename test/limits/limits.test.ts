import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { until } from "../harness/host.ts";
import { patienceMs } from "../harness/pace.ts";
import { sharedCloud } from "../harness/suite.ts";
import { cores, deployLoad, type Loaded, usedCores } from "./claims.ts";

// What holds on a machine however busy it is; `npm run proof:limits` measures the rest.

setDefaultTimeout(patienceMs(60_000));

let first: Loaded;
let second: Loaded;

const cloud = await sharedCloud();

beforeAll(async () => {
  [first, second] = [await deployLoad(cloud, "first"), await deployLoad(cloud, "second")];
});

test("a CPU max is never exceeded", async () => {
  await first.limit("--cpu", "0.3");
  await until("the kernel has the ceiling", () => first.counters.ceilingCores() === 0.3);
  await first.ask(`/spin?processes=${cores}`);
  expect(await usedCores(first, 3)).toBeLessThan(0.3 * 1.05);
  await first.limit("--cpu", ":0.3:0.9");
  await until("there is credit to burst", () => first.counters.ceilingCores() === 0.9);
  await first.limit("--cpu", "-");
  await until("it has the whole machine", () => !Number.isFinite(first.counters.ceilingCores()));
});

test("of two that want everything the one with the larger min gets more, at once", async () => {
  await first.limit("--cpu", `${0.8 * cores}::`);
  for (const app of [first, second]) await app.ask(`/spin?processes=${cores}`);
  const [ours, theirs] = await Promise.all([usedCores(first, 3), usedCores(second, 3)]);
  expect(ours).toBeGreaterThan(2 * theirs);
  for (const app of [first, second]) await app.ask("/rest");
});

/** Those that a process of the app may run on, as the kernel writes them. */
async function coresOf(app: Loaded): Promise<string> {
  const status = readFileSync(`/proc/${await cloud.pidOf(app.name)}/status`, "utf8");
  return /Cpus_allowed_list:\s+(\S+)/.exec(status)?.[1] ?? "";
}

/** Apps that the table of `lode top` marks. */
async function confinedNow(): Promise<readonly string[]> {
  const frame = JSON.parse(await cloud.ok(["top", "--once", "--json"])) as {
    readonly apps: readonly {
      readonly app: string;
      readonly instances: readonly { readonly usage: { readonly confined: boolean } | null }[];
    }[];
  };
  return frame.apps
    .filter(({ instances }) => instances.some(({ usage }) => usage?.confined === true))
    .map(({ app }) => app);
}

test.skipIf(cores < 2)(
  "batch work leaves a core to an app that is asked, and only then",
  async () => {
    const all = await coresOf(first);
    await first.limit("--cpu", "-");
    await first.ask(`/spin?processes=${cores}`);
    let isAsking = true;
    const asking = (async () => {
      for (; isAsking; await Bun.sleep(20)) await second.ask("/");
    })();
    await until("the one that spins is confined", async () => (await coresOf(first)) !== all);
    expect(await coresOf(second)).toBe(all);
    expect(await usedCores(first, 2)).toBeLessThan(1.05 * (cores - 1));
    expect(await coresOf(first)).not.toBe(all);
    expect(await confinedNow()).toEqual([first.name]);
    isAsking = false;
    await asking;
    await until("it may run everywhere", async () => (await coresOf(first)) === all);
    await first.ask("/rest");
  },
);

test.skipIf(cores < 2)("batch work that floods the kernel is rationed as long", async () => {
  await first.limit("--cpu", "-");
  await first.ask(`/copy?processes=${cores}`);
  expect(Number.isFinite(first.counters.ceilingCores())).toBe(false);
  let isAsking = true;
  const asking = (async () => {
    for (; isAsking; await Bun.sleep(20)) await second.ask("/");
  })();
  await until("it is rationed", () => Number.isFinite(first.counters.ceilingCores()));
  const ration = first.counters.ceilingCores();
  expect(ration).toBeLessThan(cores / 8);
  expect(await usedCores(first, 2)).toBeLessThan(1.5 * ration);
  // Its limits are its own, and its ration stays.
  await first.limit("--cpu", ":0.5");
  expect(first.counters.ceilingCores()).toBe(ration);
  isAsking = false;
  await asking;
  await until("it has its max again", () => first.counters.ceilingCores() === 0.5);
  await first.ask("/rest");
  await first.limit("--cpu", "-");
});

test("an app measures its own growth", async () => {
  const grown = JSON.parse(await second.ask("/growth?threads=2&rounds=2")) as number[];
  expect(grown).toHaveLength(2);
  for (const growthMs of grown) expect(growthMs).toBeGreaterThan(0);
});
