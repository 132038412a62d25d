import type { Timestamp } from "../base/time.ts";
import type { InstanceUsage } from "../model/instance.ts";
import type { Limits } from "../model/limits.ts";
import type { Cgroup, CgroupUsage } from "./cgroup/cgroup.ts";
import type { CpuSharer, CpuShares } from "./cpu-shares.ts";
import {
  account,
  type Ceilings,
  type Credit,
  ceilings,
  creditLeft,
  fullCredit,
  needsAccounting,
  rebase,
} from "./decide/credit.ts";
import type { Tally } from "./tally.ts";

export interface CpuSample {
  readonly at: Timestamp;
  /** Since its process started. */
  readonly cpuTimeUs: number;
  /** The ceiling in force; null: the whole machine. */
  readonly coresMax: number | null;
}

/** What an instance uses, what it may, and what credit that leaves: one for its whole life. */
export class Meter {
  readonly #shares: CpuShares;
  readonly #tally: Tally;
  #sharer: CpuSharer | null = null;
  #limits: Limits;
  #credit: Credit;
  #cgroup: Cgroup | null = null;
  #ceilings: Ceilings | null = null;
  #usage: InstanceUsage | null = null;
  #sampledAt: Timestamp = 0;

  constructor(limits: Limits, shares: CpuShares, tally: Tally) {
    this.#shares = shares;
    this.#tally = tally;
    this.#limits = limits;
    this.#credit = fullCredit(limits);
  }

  get credit(): Credit {
    return this.#credit;
  }

  /** Those that the credit was earned under. */
  get limits(): Limits {
    return this.#limits;
  }

  /** Null while it does not run. */
  get usage(): InstanceUsage | null {
    return this.#cgroup === null ? null : this.#usage;
  }

  /** What it had used when it was read last; null while it does not run. */
  get cpuSample(): CpuSample | null {
    const { usage } = this;
    if (usage === null) return null;
    const coresMax = this.#ceilings?.cpuMaxCores ?? null;
    return { at: this.#sampledAt, cpuTimeUs: usage.cpuTimeUs, coresMax };
  }

  /** What kills it when it uses more; null: only the machine's end. */
  get memoryMaxBytes(): number | null {
    return this.#ceilings?.memoryMaxBytes ?? null;
  }

  /** A ceiling depends on its use: it must be read often. */
  get needsAccounting(): boolean {
    return needsAccounting(this.#limits, this.#credit);
  }

  /** Takes up the credit that an earlier lode wrote down. */
  restore(credit: Credit, earnedUnder: Limits): void {
    this.#credit = rebase(credit, earnedUnder, this.#limits);
  }

  /** The ceilings of a launch, were there one now. */
  get expected(): Ceilings {
    return ceilings(this.#limits, this.#credit, 0);
  }

  /** The ceilings for a launch, which sets them. */
  begin(): Ceilings {
    this.#tally.begin();
    const none = { cpuCores: 0, cpuTimeUs: 0, memoryBytes: 0, oomKills: 0, confined: false };
    this.#usage = { ...none, ...this.#creditLeft };
    this.#ceilings = this.expected;
    return this.#ceilings;
  }

  attach(cgroup: Cgroup, now: Timestamp): void {
    this.#cgroup = cgroup;
    this.#sampledAt = now;
    this.#sharer = this.#shares.enter(cgroup, this.#limits.cpu.min ?? 0);
  }

  /** A process that was adopted has used CPU before anybody looked. */
  async adopt(cgroup: Cgroup, now: Timestamp): Promise<void> {
    this.#usage = null;
    this.#tally.adopt();
    // The lode that ended may have confined it.
    cgroup.confine(null);
    this.attach(cgroup, now);
    await this.sample(now);
    await this.#apply();
  }

  /** @param last what the process had used at its end; null when that could not be read. */
  detach(last: CgroupUsage | null): void {
    if (last !== null) this.#tally.read(last);
    this.#cgroup = null;
    this.#ceilings = null;
    this.#sharer?.leave();
    this.#sharer = null;
  }

  async setLimits(limits: Limits): Promise<void> {
    this.#credit = rebase(this.#credit, this.#limits, limits);
    this.#limits = limits;
    this.#sharer?.setMin(limits.cpu.min ?? 0);
    await this.#apply();
  }

  /**
   * Reads the use since the last time and accounts for it; null when it does not run. The same
   * object as the last time: nothing changed.
   */
  async sample(now: Timestamp): Promise<InstanceUsage | null> {
    const cgroup = this.#cgroup;
    const confined = cgroup !== null && cgroup.confinement !== null;
    if (cgroup !== null && this.#stoodStill(cgroup)) return this.#rest(now, confined);
    const read = (await cgroup?.usage().catch(() => null)) ?? null;
    if (read === null || this.#cgroup !== cgroup) return null;
    const { cpuTimeUs, oomKills } = read;
    const seconds = Math.max(0.001, (now - this.#sampledAt) / 1000);
    const spentUs = this.#usage === null ? 0 : Math.max(0, cpuTimeUs - this.#usage.cpuTimeUs);
    const memoryBytes = Math.max(0, read.memoryBytes - read.cacheBytes);
    const cpuCores = spentUs / 1e6 / seconds;
    this.#tally.read(read);
    this.#sampledAt = now;
    this.#sharer?.observe(cpuCores);
    const { cpu, memory } = this.#limits;
    this.#credit = {
      cpu: account(this.#credit.cpu, cpu, cpuCores, seconds),
      memory: account(this.#credit.memory, memory, memoryBytes, seconds),
    };
    const usage = { cpuCores, cpuTimeUs, memoryBytes, oomKills, confined, ...this.#creditLeft };
    this.#usage = usage;
    await this.#apply();
    return usage;
  }

  /** One file tells, where a reading takes five: most instances do nothing most of the time. */
  #stoodStill(cgroup: Cgroup): boolean {
    if (this.#usage === null || this.needsAccounting) return false;
    return cgroup.cpuTimeUs() === this.#usage.cpuTimeUs;
  }

  #rest(now: Timestamp, confined: boolean): InstanceUsage | null {
    this.#sampledAt = now;
    this.#sharer?.observe(0);
    const usage = this.#usage;
    if (usage !== null && (usage.cpuCores > 0 || usage.confined !== confined)) {
      this.#usage = { ...usage, cpuCores: 0, confined };
    }
    return this.#usage;
  }

  get #creditLeft(): Pick<InstanceUsage, "cpuCredit" | "memoryCredit"> {
    const { cpu, memory } = this.#limits;
    return {
      cpuCredit: creditLeft(cpu, this.#credit.cpu),
      memoryCredit: creditLeft(memory, this.#credit.memory),
    };
  }

  async #apply(): Promise<void> {
    const cgroup = this.#cgroup;
    if (cgroup === null) return;
    const wanted = ceilings(this.#limits, this.#credit, this.#usage?.memoryBytes ?? 0);
    if (JSON.stringify(wanted) === JSON.stringify(this.#ceilings)) return;
    this.#ceilings = wanted;
    try {
      await cgroup.setLimits(wanted);
    } catch (cause) {
      // It has just ended, and its cgroup with it.
      if (this.#cgroup === cgroup) throw cause;
    }
  }
}
