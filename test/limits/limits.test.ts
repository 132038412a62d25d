import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
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

test("an app measures its own growth", async () => {
  const grown = JSON.parse(await second.ask("/growth?threads=2&rounds=2")) as number[];
  expect(grown).toHaveLength(2);
  for (const growthMs of grown) expect(growthMs).toBeGreaterThan(0);
});
