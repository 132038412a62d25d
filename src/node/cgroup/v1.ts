import { ptr } from "bun:ffi";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/time.ts";
import type { Confinement } from "../decide/suppression.ts";
import type { KernelEvents } from "../linux/kernel-events.ts";
import { libc, mount, must, unmount } from "../linux/libc.ts";
import { pause } from "../linux/time.ts";
import type { Cgroup, CgroupLimits, CgroupTree, CgroupUsage, Freezer } from "./cgroup.ts";
import { Confined } from "./confined.ts";
import {
  isCgroupName,
  letThaw,
  mustWrite,
  readControl,
  readField,
  readNumber,
  readPids,
  removeDirectory,
  writeAside,
  writeControl,
} from "./control-files.ts";
import { killUntilEmpty } from "./kill.ts";
import { type MemoryCeilings, reclaimBytesMin, withinCeiling } from "./memory.ts";
import { firstCores, rationedQuotaOf, sharesOf } from "./shares.ts";

/** Controllers used, in the order they are joined. */
export const controllersV1 = ["cpu", "cpuacct", "memory", "pids", "freezer"] as const;
const freezerFile = "freezer.state";
const thawed = "THAWED";
export type ControllerV1 = (typeof controllersV1)[number];
/** A directory for each; without `cpuset` nothing can be held to some of the cores. */
export type PathsV1 = Readonly<Record<ControllerV1, string>> & { readonly cpuset?: string };

export interface TreeV1Options {
  readonly cloud: string;
  /** Mount point of each controller's hierarchy; controllers mounted together share one. */
  readonly mounts: PathsV1;
  /** Where the helper hierarchy is mounted (see `favourMoves`); made when absent. */
  readonly helperMount: string;
  readonly cores: number;
  readonly memory: MemoryCeilings;
  /** Who besides root may thaw what is frozen; null: nobody. */
  readonly thawUid: number | null;
  readonly clock: Clock;
  readonly events: KernelEvents;
}

/** cgroup v1, also where its controllers lie in separate hierarchies or beside an empty v2. */
export function openTreeV1(options: TreeV1Options): CgroupTree {
  const directories = directoriesOf(options.mounts, `lode-${options.cloud}`);
  for (const directory of new Set(Object.values(directories))) {
    mkdirSync(directory, { recursive: true });
  }
  // Kernels before 5.11 let a hierarchy be flat; limits must count the children.
  if (readControl(`${directories.memory}/memory.use_hierarchy`) === "0") {
    mustWrite(`${directories.memory}/memory.use_hierarchy`, "1");
  }
  // One busy thread of the host outside weighs as much as one core of the tree.
  mustWrite(`${directories.cpu}/cpu.shares`, String(sharesOf(options.cores)));
  setMemoryMax(directories.memory, options.memory.treeBytes);
  if (directories.cpuset !== undefined) openCores(directories.cpuset);
  favourMoves(options);
  return new TreeV1(options, directories);
}

/**
 * Moving a process between cgroups waits for an RCU grace period, 7–16 ms here, more than
 * the rest of a launch. The mount option `favordynmods` (Linux 6.0) of any hierarchy turns
 * that wait off for all (forks get slower by nanoseconds). It is set on an empty hierarchy of
 * our own, so the host's mounts stay as they are and unmounting undoes it. Without it
 * launches are slower and otherwise the same.
 */
function favourMoves(options: TreeV1Options): void {
  if (isMounted(options.helperMount)) return;
  mkdirSync(options.helperMount, { recursive: true });
  const name = `lode-${options.cloud}`;
  mount(name, options.helperMount, "cgroup", 0, `none,name=${name},favordynmods`);
}

function isMounted(path: string): boolean {
  return (readControl("/proc/self/mountinfo") ?? "").includes(` ${path} `);
}

/** A new cgroup has no cores and no memory to run with until somebody writes which. */
function openCores(directory: string): void {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    mustWrite(`${directory}/${file}`, readControl(`${directory}/../${file}`) ?? "");
  }
  // Those below it have the same from the beginning.
  mustWrite(`${directory}/cgroup.clone_children`, "1");
}

function directoriesOf(parents: PathsV1, name: string): PathsV1 {
  return {
    cpu: `${parents.cpu}/${name}`,
    cpuacct: `${parents.cpuacct}/${name}`,
    memory: `${parents.memory}/${name}`,
    pids: `${parents.pids}/${name}`,
    freezer: `${parents.freezer}/${name}`,
    ...(parents.cpuset === undefined ? {} : { cpuset: `${parents.cpuset}/${name}` }),
  };
}

class TreeV1 implements CgroupTree {
  readonly version = 1;
  readonly canConfine: boolean;
  readonly freezer: Freezer;
  readonly #options: TreeV1Options;
  readonly #directories: PathsV1;

  constructor(options: TreeV1Options, directories: PathsV1) {
    this.#options = options;
    this.#directories = directories;
    this.canConfine = directories.cpuset !== undefined;
    this.freezer = { directory: directories.freezer, file: freezerFile, thawed };
  }

  cpuTimeUs(): number {
    return cpuTimeUsIn(this.#directories);
  }

  async create(name: string): Promise<Cgroup> {
    assert(isCgroupName(name), `cgroup name ${JSON.stringify(name)}`);
    const directories = directoriesOf(this.#directories, name);
    for (const directory of new Set(Object.values(directories))) {
      mkdirSync(directory, { recursive: true });
    }
    return new CgroupV1(name, directories, this.#options);
  }

  async open(name: string): Promise<Cgroup | null> {
    const directories = directoriesOf(this.#directories, name);
    const { cpuset } = directories;
    const whole = controllersV1.every((controller) => existsSync(directories[controller]));
    // An earlier lode may have made it without.
    if (whole && cpuset !== undefined) mkdirSync(cpuset, { recursive: true });
    return whole ? new CgroupV1(name, directories, this.#options) : null;
  }

  /** Also those that exist in some hierarchies only, left by a crash halfway. */
  async list(): Promise<readonly string[]> {
    const names = new Set<string>();
    for (const directory of new Set(Object.values(this.#directories))) {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (entry.isDirectory()) names.add(entry.name);
      }
    }
    return [...names].sort();
  }

  async destroy(): Promise<void> {
    const names = await this.list();
    await Promise.all(
      names.map(async (name) => {
        const directories = directoriesOf(this.#directories, name);
        const group = new CgroupV1(name, directories, this.#options);
        await group.kill();
        await group.remove();
      }),
    );
    for (const directory of new Set(Object.values(this.#directories))) {
      await removeDirectory(directory, this.#options.clock);
    }
    const { helperMount, clock } = this.#options;
    if (isMounted(helperMount)) unmount(helperMount);
    if (existsSync(helperMount)) await removeDirectory(helperMount, clock);
  }
}

class CgroupV1 implements Cgroup {
  readonly name: string;
  readonly joinPaths: readonly string[];
  readonly runPaths: readonly string[];
  readonly #directories: PathsV1;
  readonly #options: TreeV1Options;
  readonly #confined: Confined;
  #weightCores: number | null = null;
  #cpuMaxCores: number | null = null;

  constructor(name: string, directories: PathsV1, options: TreeV1Options) {
    this.name = name;
    this.#directories = directories;
    this.#options = options;
    this.#confined = new Confined(options.clock);
    const procs = (directory: string) => `${directory}/cgroup.procs`;
    this.joinPaths = this.#unique().map(procs);
    const { cpu, cpuacct, cpuset } = directories;
    const running = cpuset === undefined ? [cpu, cpuacct] : [cpu, cpuacct, cpuset];
    this.runPaths = [...new Set(running)].map(procs);
  }

  async setLimits(limits: CgroupLimits): Promise<void> {
    const { memory, pids } = this.#directories;
    this.#cpuMaxCores = limits.cpuMaxCores;
    for (const [path, value] of this.#quotaFiles()) mustWrite(path, value);
    mustWrite(`${pids}/pids.max`, limits.pidsMax === null ? "max" : String(limits.pidsMax));
    // Reclaim takes from groups above their soft limit first: v1 has no better protection, and
    // a real-time kernel not even this.
    writeControl(`${memory}/memory.soft_limit_in_bytes`, String(limits.memoryMinBytes ?? -1));
    setMemoryMax(
      this.#directories.memory,
      withinCeiling(limits.memoryMaxBytes, this.#options.memory),
    );
  }

  setCpuWeight(cores: number): void {
    this.#weightCores = cores;
    writeControl(`${this.#directories.cpu}/cpu.shares`, String(sharesOf(cores)));
  }

  confine(to: Confinement | null): void {
    const { cpu, cpuset } = this.#directories;
    if (cpuset === undefined) return;
    const all = readControl(`${cpuset}/../cpuset.cpus`) ?? "";
    writeControl(`${cpuset}/cpuset.cpus`, to === null ? all : firstCores(all, to.cores));
    const yields = to?.yields === true;
    writeControl(`${cpu}/cpu.idle`, yields ? "1" : "0");
    // The kernel has forgotten it, or would not take it, in between.
    if (!yields && this.#weightCores !== null) this.setCpuWeight(this.#weightCores);
    const rationed = this.confinement?.rationCores ?? null;
    this.#confined.move(to);
    if (rationed === (to?.rationCores ?? null)) return;
    for (const [path, value] of this.#quotaFiles()) writeControl(path, value);
  }

  /** Its ceiling, or its ration where that is less. */
  #quotaFiles(): readonly (readonly [string, string])[] {
    const { cpu } = this.#directories;
    const ration = this.confinement?.rationCores ?? null;
    const { periodUs, quotaUs } = rationedQuotaOf(this.#cpuMaxCores, ration);
    return [
      [`${cpu}/cpu.cfs_period_us`, String(periodUs)],
      [`${cpu}/cpu.cfs_quota_us`, String(quotaUs ?? -1)],
    ];
  }

  get confinement(): Confinement | null {
    return this.#confined.place;
  }

  cpuTimeUs(): number {
    return cpuTimeUsIn(this.#directories);
  }

  kernelTimeUs(): number {
    return Math.round(readNumber(`${this.#directories.cpuacct}/cpuacct.usage_sys`) / 1000);
  }

  async usage(): Promise<CgroupUsage> {
    const { cpu, memory } = this.#directories;
    return {
      cpuTimeUs: this.cpuTimeUs(),
      memoryBytes: readNumber(`${memory}/memory.usage_in_bytes`),
      cacheBytes: this.#cacheBytes(),
      oomKills: this.#oomKills(),
      throttledUs: Math.round(readField(`${cpu}/cpu.stat`, "throttled_time") / 1000),
      confinedUs: this.#confined.us,
    };
  }

  async pids(): Promise<readonly number[]> {
    return this.#pids();
  }

  async freeze(): Promise<boolean> {
    const attempts = 500;
    const file = this.#freezerFile();
    letThaw(file, this.#options.thawUid);
    mustWrite(file, "FROZEN");
    for (let attempt = 0; attempt < attempts; attempt++) {
      const state = readControl(file);
      if (state !== "FREEZING") return state === "FROZEN";
      // Again for a process that was just being forked.
      mustWrite(file, "FROZEN");
      await pause(this.#options.clock, 1);
    }
    throw new Error(`cgroup ${this.name}: not frozen after ${attempts} attempts`);
  }

  async thaw(): Promise<void> {
    mustWrite(this.#freezerFile(), thawed);
  }

  #freezerFile(): string {
    return `${this.#directories.freezer}/${freezerFile}`;
  }

  async reclaim(): Promise<void> {
    if (this.#cacheBytes() < reclaimBytesMin) return;
    await writeAside(`${this.#directories.memory}/memory.force_empty`, "0");
  }

  kill(): Promise<void> {
    const { clock } = this.#options;
    const state = this.#freezerFile();
    const group = {
      name: this.name,
      pids: () => this.#pids(),
      // A process in uninterruptible sleep may not stop in time; the next round gets it.
      stop: async () => {
        for (let attempt = 0; attempt < 20; attempt++) {
          writeControl(state, "FROZEN");
          if (readControl(state) !== "FREEZING") return;
          await pause(clock, 1);
        }
      },
      go: () => void writeControl(state, thawed),
      killAtOnce: () => false,
    };
    return killUntilEmpty(group, clock);
  }

  onOomKill(callback: () => void): { cancel(): void } {
    const { memory } = this.#directories;
    const closeOnExecNonBlocking = 0x8_0000 | 0x800;
    const counter = must("eventfd", libc.eventfd(0, closeOnExecNonBlocking));
    const control = openSync(`${memory}/memory.oom_control`, "r");
    mustWrite(`${memory}/cgroup.event_control`, `${counter} ${control}`);
    // The event comes when memory ran out, just before the kill; removal of the cgroup
    // signals too.
    const watching = this.#options.events.watch(counter, "readable", () => {
      const drained = new BigUint64Array(1);
      libc.read(counter, ptr(drained), 8n);
      if (existsSync(memory)) callback();
    });
    return {
      cancel: () => {
        watching.cancel();
        closeSync(control);
        closeSync(counter);
      },
    };
  }

  async remove(): Promise<void> {
    for (const directory of this.#unique()) {
      await removeDirectory(directory, this.#options.clock);
    }
  }

  #unique(): readonly string[] {
    return [...new Set(Object.values(this.#directories))];
  }

  /** Of all hierarchies: a launcher that is halfway through joining is in some of them. */
  #pids(): readonly number[] {
    return [...new Set(this.#unique().flatMap(readPids))];
  }

  #cacheBytes(): number {
    return readField(`${this.#directories.memory}/memory.stat`, "total_inactive_file");
  }

  #oomKills(): number {
    return readField(`${this.#directories.memory}/memory.oom_control`, "oom_kill");
  }
}

function cpuTimeUsIn({ cpuacct }: PathsV1): number {
  return Math.round(readNumber(`${cpuacct}/cpuacct.usage`) / 1000);
}

/**
 * memsw (memory + swap) may never be below the memory limit, so growth writes it first and
 * shrinking last; both equal means no swap. Shrinking below what is used is refused by the
 * kernel (EBUSY) after it reclaimed what it could.
 */
function setMemoryMax(memory: string, bytes: number): void {
  const limit = `${memory}/memory.limit_in_bytes`;
  const withSwap = `${memory}/memory.memsw.limit_in_bytes`;
  const accountsSwap = existsSync(withSwap);
  if (!accountsSwap) writeControl(`${memory}/memory.swappiness`, "0");
  const grows = bytes >= readNumber(limit);
  const order = !accountsSwap ? [limit] : grows ? [withSwap, limit] : [limit, withSwap];
  for (const path of order) {
    let code = writeControl(path, String(bytes));
    if (code === "EBUSY") {
      writeControl(`${memory}/memory.force_empty`, "0");
      code = writeControl(path, String(bytes));
    }
    if (code === null) continue;
    const used = readNumber(`${memory}/memory.usage_in_bytes`);
    throw new Error(
      code === "EBUSY"
        ? `memory max of ${bytes} bytes refused: ${used} bytes are in use`
        : `writing "${bytes}" to ${path} failed: ${code}`,
    );
  }
}
