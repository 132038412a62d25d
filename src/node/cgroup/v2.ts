import { closeSync, existsSync, mkdirSync, openSync, readdirSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Confinement } from "../decide/suppression.ts";
import type { KernelEvents } from "../linux/kernel-events.ts";
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
import { firstCores, rationedQuotaOf, weightOf } from "./shares.ts";

export const controllersV2 = ["cpu", "memory", "pids"] as const;
/** Without it nothing can be held to some of the cores. */
const coresController = "cpuset";
const freezerFile = "cgroup.freeze";
const thawed = "0";

export interface TreeV2Options {
  readonly cloud: string;
  /** The cgroup below which the tree is made: the mount's root, or one delegated to Lode. */
  readonly parent: string;
  /** Enabled for the instances; must be in the parent's `cgroup.controllers`. */
  readonly controllers: readonly string[];
  readonly cores: number;
  readonly memory: MemoryCeilings;
  /** Who besides root may thaw what is frozen; null: nobody. */
  readonly thawUid: number | null;
  readonly clock: Clock;
  readonly events: KernelEvents;
}

/** The unified hierarchy. Errors say which file refused what. */
export function openTreeV2(options: TreeV2Options): Result<CgroupTree, string> {
  const root = `${options.parent}/lode-${options.cloud}`;
  const enable = options.controllers.map((controller) => `+${controller}`).join(" ");
  try {
    if (enable !== "") mustWrite(`${options.parent}/cgroup.subtree_control`, enable);
    mkdirSync(root, { recursive: true });
    if (enable !== "") mustWrite(`${root}/cgroup.subtree_control`, enable);
    if (options.controllers.includes("cpu")) {
      mustWrite(`${root}/cpu.weight`, String(weightOf(options.cores)));
    }
    if (options.controllers.includes("memory")) {
      mustWrite(`${root}/memory.max`, String(options.memory.treeBytes));
    }
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    const hint = cause.endsWith("EBUSY")
      ? " (a cgroup with processes cannot have controlled children: give Lode one of its own)"
      : "";
    return err(`cgroup v2: ${cause}${hint}`);
  }
  return ok(new TreeV2(root, options));
}

class TreeV2 implements CgroupTree {
  readonly version = 2;
  readonly canConfine: boolean;
  readonly freezer: Freezer;
  readonly #root: string;
  readonly #options: TreeV2Options;
  readonly #guaranteed = new Map<string, number>();

  constructor(root: string, options: TreeV2Options) {
    this.#root = root;
    this.#options = options;
    this.canConfine = options.controllers.includes(coresController);
    this.freezer = { directory: root, file: freezerFile, thawed };
  }

  cpuTimeUs(): number {
    return readField(`${this.#root}/cpu.stat`, "usage_usec");
  }

  async create(name: string): Promise<Cgroup> {
    assert(isCgroupName(name), `cgroup name ${JSON.stringify(name)}`);
    const directory = `${this.#root}/${name}`;
    mkdirSync(directory, { recursive: true });
    return this.#group(name);
  }

  async open(name: string): Promise<Cgroup | null> {
    const directory = `${this.#root}/${name}`;
    return existsSync(directory) ? this.#group(name) : null;
  }

  async list(): Promise<readonly string[]> {
    return readdirSync(this.#root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort();
  }

  async destroy(): Promise<void> {
    const names = await this.list();
    await Promise.all(
      names.map(async (name) => {
        const group = this.#group(name);
        await group.kill();
        await group.remove();
      }),
    );
    await removeDirectory(this.#root, this.#options.clock);
  }

  #group(name: string): CgroupV2 {
    const guarantee = (bytes: number) => this.#guarantee(name, bytes);
    return new CgroupV2(name, `${this.#root}/${name}`, this.#options, guarantee);
  }

  /** What a cgroup is guaranteed counts only within its parent's guarantee. */
  #guarantee(name: string, bytes: number): void {
    this.#guaranteed.set(name, bytes);
    if (bytes === 0) this.#guaranteed.delete(name);
    const sum = [...this.#guaranteed.values()].reduce((total, one) => total + one, 0);
    writeControl(`${this.#root}/memory.min`, String(sum));
  }
}

class CgroupV2 implements Cgroup {
  readonly name: string;
  readonly joinPaths: readonly string[];
  readonly runPaths: readonly string[];
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #events: KernelEvents;
  readonly #memory: MemoryCeilings;
  readonly #thawUid: number | null;
  readonly #guarantee: (bytes: number) => void;
  readonly #confined: Confined;
  #weightCores: number | null = null;
  #cpuMaxCores: number | null = null;

  constructor(
    name: string,
    directory: string,
    options: TreeV2Options,
    guarantee: (bytes: number) => void,
  ) {
    this.name = name;
    this.joinPaths = [`${directory}/cgroup.procs`];
    this.runPaths = this.joinPaths;
    this.#directory = directory;
    this.#clock = options.clock;
    this.#confined = new Confined(options.clock);
    this.#events = options.events;
    this.#memory = options.memory;
    this.#thawUid = options.thawUid;
    this.#guarantee = guarantee;
  }

  /**
   * Memory limits are written so that they never contradict each other on the way: a lower
   * max last, after its pages were reclaimed.
   */
  async setLimits(limits: CgroupLimits): Promise<void> {
    this.#cpuMaxCores = limits.cpuMaxCores;
    this.#write("cpu.max", this.#quota());
    this.#write("pids.max", orMax(limits.pidsMax));
    this.#writeOptional("memory.swap.max", "0");
    this.#writeOptional("memory.zswap.max", "0");
    const memoryMaxBytes = withinCeiling(limits.memoryMaxBytes, this.#memory);
    this.#reclaimTo(memoryMaxBytes);
    this.#write("memory.min", String(limits.memoryMinBytes ?? 0));
    this.#guarantee(limits.memoryMinBytes ?? 0);
    this.#write("memory.high", orMax(limits.memoryHighBytes));
    this.#write("memory.max", String(memoryMaxBytes));
  }

  setCpuWeight(cores: number): void {
    this.#weightCores = cores;
    this.#writeOptional("cpu.weight", String(weightOf(cores)));
  }

  confine(to: Confinement | null): void {
    const all = readControl(`${this.#directory}/../cpuset.cpus.effective`) ?? "";
    // Linux 6.1 leaves the processes where they are when the list is emptied.
    this.#writeOptional("cpuset.cpus", to === null ? all : firstCores(all, to.cores));
    const yields = to?.yields === true;
    this.#writeOptional("cpu.idle", yields ? "1" : "0");
    // The kernel has forgotten it, or would not take it, in between.
    if (!yields && this.#weightCores !== null) this.setCpuWeight(this.#weightCores);
    const rationed = this.confinement?.rationCores ?? null;
    this.#confined.move(to);
    if (rationed !== (to?.rationCores ?? null)) this.#writeOptional("cpu.max", this.#quota());
  }

  /** Its ceiling, or its ration where that is less. */
  #quota(): string {
    const ration = this.confinement?.rationCores ?? null;
    const { periodUs, quotaUs } = rationedQuotaOf(this.#cpuMaxCores, ration);
    return `${quotaUs ?? "max"} ${periodUs}`;
  }

  get confinement(): Confinement | null {
    return this.#confined.place;
  }

  cpuTimeUs(): number {
    return readField(`${this.#directory}/cpu.stat`, "usage_usec");
  }

  kernelTimeUs(): number {
    return readField(`${this.#directory}/cpu.stat`, "system_usec");
  }

  async usage(): Promise<CgroupUsage> {
    const directory = this.#directory;
    return {
      cpuTimeUs: this.cpuTimeUs(),
      memoryBytes: readNumber(`${directory}/memory.current`),
      cacheBytes: this.#cacheBytes(),
      oomKills: this.#oomKills(),
      throttledUs: readField(`${directory}/cpu.stat`, "throttled_usec"),
      confinedUs: this.#confined.us,
    };
  }

  async pids(): Promise<readonly number[]> {
    return readPids(this.#directory);
  }

  async freeze(): Promise<boolean> {
    letThaw(`${this.#directory}/${freezerFile}`, this.#thawUid);
    this.#write(freezerFile, "1");
    const attempts = 500;
    for (let attempt = 0; attempt < attempts; attempt++) {
      if (readControl(`${this.#directory}/${freezerFile}`) !== "1") return false;
      if (readField(`${this.#directory}/cgroup.events`, "frozen") === 1) return true;
      await pause(this.#clock, 1);
    }
    throw new Error(`cgroup ${this.name}: not frozen after ${attempts} ms`);
  }

  async thaw(): Promise<void> {
    this.#write(freezerFile, thawed);
  }

  async reclaim(): Promise<void> {
    const cacheBytes = this.#cacheBytes();
    if (cacheBytes < reclaimBytesMin) return;
    await writeAside(`${this.#directory}/memory.reclaim`, String(cacheBytes));
  }

  /** `cgroup.kill` (Linux 5.14) takes all at once; a v2-frozen process dies as it is. */
  kill(): Promise<void> {
    const freezeFile = `${this.#directory}/${freezerFile}`;
    const group = {
      name: this.name,
      pids: () => readPids(this.#directory),
      stop: async () => {
        writeControl(freezeFile, "1");
        await pause(this.#clock, 1);
      },
      go: () => void writeControl(freezeFile, thawed),
      killAtOnce: () => writeControl(`${this.#directory}/cgroup.kill`, "1") === null,
    };
    return killUntilEmpty(group, this.#clock);
  }

  onOomKill(callback: () => void): { cancel(): void } {
    const descriptor = openSync(`${this.#directory}/memory.events`, "r");
    let seen = this.#oomKills();
    const watching = this.#events.watch(descriptor, "priority", () => {
      const kills = this.#oomKills();
      if (kills > seen) callback();
      seen = kills;
    });
    return {
      cancel: () => {
        watching.cancel();
        closeSync(descriptor);
      },
    };
  }

  remove(): Promise<void> {
    this.#guarantee(0);
    return removeDirectory(this.#directory, this.#clock);
  }

  #cacheBytes(): number {
    return readField(`${this.#directory}/memory.stat`, "inactive_file");
  }

  /**
   * How often the kernel killed one of its processes for memory. One, as on v1: an app may live
   * on when it was a child of it that took too much (`memory.oom.group` stays 0).
   */
  #oomKills(): number {
    return readField(`${this.#directory}/memory.events`, "oom_kill");
  }

  /**
   * v2 kills when its max is lowered below what is used; so what is above is reclaimed first
   * (`memory.reclaim`, Linux 5.19), and what cannot be is an error, as on v1.
   */
  #reclaimTo(bytes: number): void {
    const used = readNumber(`${this.#directory}/memory.current`);
    if (used <= bytes) return;
    this.#writeOptional("memory.reclaim", String(used - bytes));
    const left = readNumber(`${this.#directory}/memory.current`);
    if (left <= bytes) return;
    throw new Error(`memory max of ${bytes} bytes refused: ${left} bytes are in use`);
  }

  #write(file: string, value: string): void {
    mustWrite(`${this.#directory}/${file}`, value);
  }

  /** For files that older kernels or hosts without swap do not have. */
  #writeOptional(file: string, value: string): void {
    writeControl(`${this.#directory}/${file}`, value);
  }
}

function orMax(value: number | null): string {
  return value === null ? "max" : String(value);
}

/** Those that Lode uses of what the hierarchy has. */
export function usedControllers(parent: string): readonly string[] {
  const used: readonly string[] = [...controllersV2, coresController];
  return availableControllers(parent).filter((controller) => used.includes(controller));
}

function availableControllers(parent: string): readonly string[] {
  return (readControl(`${parent}/cgroup.controllers`) ?? "").split(" ");
}

/** Says whether the hierarchy has what Lode needs; null: it has. */
export function missingControllers(parent: string): string | null {
  const available = availableControllers(parent);
  const missing = controllersV2.filter((controller) => !available.includes(controller));
  return missing.length === 0 ? null : missing.join(", ");
}
