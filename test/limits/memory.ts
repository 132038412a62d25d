// A min of memory, under pressure: only cgroup v2 can promise one, so this is for the rig. Two
// apps hold the same pages of a file in memory, one of them guaranteed; a third takes memory until
// the kernel must take some back.

import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cloud, repository } from "../harness/cloud.ts";
import { type Claim, deployLoad } from "./claims.ts";

const ballastMebibytes = 96;
const mebibyte = 1024 ** 2;

/** Drops the machine's page cache, as the files were brought in by lode and count as its own. */
function dropCaches(): void {
  Bun.spawnSync(["sync"]);
  writeFileSync("/proc/sys/vm/drop_caches", "3");
}

export async function memoryMinClaim(cloud: Cloud): Promise<Claim> {
  const folder = await cloud.folder({});
  cpSync(join(repository, "test/limits/app"), folder, { recursive: true });
  const load = async (name: string, fill: number) => {
    writeFileSync(join(folder, "ballast"), Buffer.alloc(ballastMebibytes * mebibyte, fill));
    return await deployLoad(cloud, name, folder);
  };
  const guarded = await load("guarded", 1);
  const plain = await load("plain", 2);
  const hog = await deployLoad(cloud, "hog");
  await guarded.limit("--memory", "256M::");
  dropCaches();
  for (const app of [guarded, plain]) await app.ask("/ballast");
  const before = [guarded, plain].map(({ counters }) => counters.fileCacheBytes());
  const left = () =>
    [guarded, plain].map(({ counters }, index) => counters.fileCacheBytes() / (before[index] ?? 0));
  for (let held = 0; held < 4096 && (left()[1] ?? 0) > 0.2; held += 32) {
    // It may die of it: then the machine had no more, which is pressure enough.
    const answer = await hog.ask("/hold?mebibytes=32").catch(() => null);
    if (answer === null) break;
  }
  const [kept = 0, lost = 0] = left();
  for (const app of [guarded, plain, hog]) await cloud.ok(["rm", app.name, "--yes"]);
  const percent = (value: number) => `${(value * 100).toFixed(0)} %`;
  return {
    name: "a memory min under pressure",
    wanted: "the guarded app keeps 95 % of its pages while the other loses most",
    measured: `${percent(kept)} of ${ballastMebibytes} MiB kept; the other kept ${percent(lost)}`,
    holds: kept >= 0.95 && lost < 0.5,
  };
}
