import type { Clock, Timer, Timestamp } from "../base/time.ts";
import type { InstanceId } from "../model/names.ts";
import type { CgroupTree } from "./cgroup/cgroup.ts";
import type { CpuShares, SharingMember } from "./cpu-shares.ts";
import {
  batchCores,
  type Confinement,
  confinements,
  isBatch,
  kernelShareAfter,
  type Runner,
  signMs,
} from "./decide/suppression.ts";

// Keeps batch work off some cores while other apps are asked, and rations what does nothing but
// system calls, by the rule of decide/suppression.ts.
//
//   resting ─a request─→ glancing ─the cloud is busy─→ looking ─batch beside others─→ confining
//      ↑                 │      ↑                      │     ↑                        │
//      └─ none for 2 s ──┴──────┼────── it is not ─────┘     └─ nobody is asked, ─────┘
//                               └────────────────────────────── or no batch is left
//
// Resting costs nothing. A glance reads one file; only a look reads one for each that runs.

const tickMs = 50;
/** A look at so many takes longer than a hundredth of a core allows in one tick. */
const membersPerMs = 1;
/** What the newest reading counts in the smoothed use. */
const newestShare = 1 / 3;

interface Reading {
  readonly at: Timestamp;
  readonly cpuTimeUs: number;
  readonly usedCores: number;
  /** Null: it was no batch work. */
  readonly kernelTimeUs: number | null;
  readonly kernelShare: number;
  readonly batchAt: Timestamp | null;
}

interface Requests {
  readonly at: Timestamp;
  readonly count: number;
}

export class Suppression {
  readonly #tree: Pick<CgroupTree, "canConfine" | "cpuTimeUs">;
  readonly #shares: CpuShares;
  readonly #cores: number;
  readonly #clock: Clock;
  readonly #requests = new Map<string, Requests[]>();
  #readings = new Map<SharingMember, Reading>();
  #confined = new Map<SharingMember, Confinement>();
  #total: { at: Timestamp; cpuTimeUs: number } | null = null;
  #askedAt: Timestamp = 0;
  #timer: Timer | null = null;

  constructor(
    tree: Pick<CgroupTree, "canConfine" | "cpuTimeUs">,
    shares: CpuShares,
    cores: number,
    clock: Clock,
  ) {
    this.#tree = tree;
    this.#shares = shares;
    this.#cores = cores;
    this.#clock = clock;
  }

  /** It got so many since the last call. */
  requested(instance: InstanceId, count: number): void {
    if (count === 0 || this.#cores < 2 || !this.#tree.canConfine) return;
    const at = this.#clock.now();
    const known = this.#requests.get(instance);
    if (known === undefined) this.#requests.set(instance, [{ at, count }]);
    else known.push({ at, count });
    this.#askedAt = at;
    if (this.#timer === null) this.#tick();
  }

  /** Everything may run everywhere again. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#rest();
  }

  #tick(): void {
    const now = this.#clock.now();
    this.#timer = null;
    if (now - this.#askedAt > signMs) return this.#rest();
    this.#forget(now - signMs);
    const looked = this.#isBusy(now) || this.#confined.size > 0 ? this.#look(now) : 0;
    if (looked === 0) this.#readings.clear();
    this.#timer = this.#clock.after(Math.max(tickMs, looked / membersPerMs), () => this.#tick());
  }

  #rest(): void {
    this.#apply(new Map());
    this.#requests.clear();
    this.#readings.clear();
    this.#total = null;
  }

  #forget(before: Timestamp): void {
    for (const [name, told] of this.#requests) {
      const lasting = told.filter(({ at }) => at >= before);
      if (lasting.length === 0) this.#requests.delete(name);
      else if (lasting.length < told.length) this.#requests.set(name, lasting);
    }
  }

  /** The whole cloud, so that nothing else need be read as long as it is not. */
  #isBusy(now: Timestamp): boolean {
    const cpuTimeUs = this.#tree.cpuTimeUs();
    const before = this.#total;
    this.#total = { at: now, cpuTimeUs };
    if (before === null) return false;
    return usedCores(before, this.#total) >= batchCores;
  }

  /** Returns how many it read. */
  #look(now: Timestamp): number {
    const members = [...this.#shares.members];
    const runners = members.map((member) => this.#read(member, now));
    const places = confinements(runners, this.#cores, now);
    const confined = new Map<SharingMember, Confinement>();
    for (const [index, member] of members.entries()) {
      const place = places[index] ?? null;
      if (place !== null) confined.set(member, place);
    }
    // What has left is forgotten.
    this.#readings = new Map(
      members.flatMap((member) => {
        const reading = this.#readings.get(member);
        return reading === undefined ? [] : [[member, reading] as const];
      }),
    );
    this.#apply(confined);
    return members.length;
  }

  #read(member: SharingMember, now: Timestamp): Runner {
    const cpuTimeUs = member.cgroup.cpuTimeUs();
    const before = this.#readings.get(member);
    const newest = before === undefined ? 0 : usedCores(before, { at: now, cpuTimeUs });
    const smoothed = before?.usedCores ?? 0;
    const used = smoothed + newestShare * (newest - smoothed);
    const kernel = this.#readKernel(member, before, cpuTimeUs);
    const told = this.#requests.get(member.cgroup.name) ?? [];
    const count = told.reduce((sum, one) => sum + one.count, 0);
    const runner = {
      minCores: member.minCores,
      usedCores: used,
      requestsPerSecond: count / (signMs / 1000),
      kernelShare: kernel.kernelShare,
      isAwaited: member.isAwaited,
      rationCores: this.#confined.get(member)?.rationCores ?? null,
      askedAt: told.at(-1)?.at ?? null,
      batchAt: before?.batchAt ?? null,
    };
    const batchAt = isBatch(runner) ? now : runner.batchAt;
    this.#readings.set(member, { at: now, cpuTimeUs, usedCores: used, ...kernel, batchAt });
    return { ...runner, batchAt };
  }

  /** Only of what was batch work: it is one more file. */
  #readKernel({ cgroup }: SharingMember, before: Reading | undefined, cpuTimeUs: number) {
    if (before === undefined || before.batchAt === null) {
      return { kernelTimeUs: null, kernelShare: 0 };
    }
    const kernelTimeUs = cgroup.kernelTimeUs();
    const usedUs = cpuTimeUs - before.cpuTimeUs;
    if (before.kernelTimeUs === null || usedUs <= 0)
      return { kernelTimeUs, kernelShare: before.kernelShare };
    const newest = (kernelTimeUs - before.kernelTimeUs) / usedUs;
    return {
      kernelTimeUs,
      kernelShare: kernelShareAfter(before.kernelShare, newest, usedUs / 1e6),
    };
  }

  #apply(wanted: Map<SharingMember, Confinement>): void {
    // What has left may have a successor whose cgroup has the same name.
    const present = new Set(this.#shares.members);
    for (const member of this.#confined.keys()) {
      if (present.has(member) && !wanted.has(member)) member.cgroup.confine(null);
    }
    for (const [member, place] of wanted) {
      const now = this.#confined.get(member);
      if (now !== undefined && isSame(now, place)) continue;
      member.cgroup.confine(place);
    }
    this.#confined = wanted;
  }
}

function isSame(one: Confinement, other: Confinement): boolean {
  const isThere = one.cores === other.cores && one.yields === other.yields;
  return isThere && one.rationCores === other.rationCores;
}

type Moment = Pick<Reading, "at" | "cpuTimeUs">;

function usedCores(before: Moment, after: Moment): number {
  const us = Math.max(1, after.at - before.at) * 1000;
  return Math.max(0, after.cpuTimeUs - before.cpuTimeUs) / us;
}
