import type { Cgroup } from "./cgroup/cgroup.ts";
import { type CpuClaim, corrections, idleCores, spareCores } from "./decide/cpu-shares.ts";

/** What takes part in sharing the node's cores: an instance's process, a build, a session. */
export interface CpuSharer {
  setMin(cores: number): void;
  /** What it used of late. One that is never observed counts as busy. */
  observe(cores: number): void;
  leave(): void;
}

/** Of those that take part. */
export interface SharingMember {
  readonly cgroup: Cgroup;
  readonly minCores: number;
  /** Somebody waits for its end. */
  readonly isAwaited: boolean;
}

interface Member extends CpuClaim, SharingMember {
  minCores: number;
  busy: boolean;
  usedCores: number;
  /** By the rule. */
  weightCores: number;
  correction: number;
  /** What the kernel has: both. */
  writtenCores: number;
}

/** Gives every cgroup its weight by the rule of decide/cpu-shares.ts. */
export class CpuShares {
  readonly #cores: number;
  readonly #members = new Set<Member>();

  constructor(cores: number) {
    this.#cores = cores;
  }

  get members(): Iterable<SharingMember> {
    return this.#members;
  }

  /**
   * It counts as busy at first: a start is when an app needs most.
   *
   * @param isAwaited somebody waits for its end.
   */
  enter(cgroup: Cgroup, minCores: number, isAwaited = false): CpuSharer {
    const none = { usedCores: 0, weightCores: 0, correction: 1, writtenCores: 0 };
    const member = { cgroup, minCores, isAwaited, busy: true, ...none };
    this.#members.add(member);
    this.#balance();
    return {
      setMin: (cores) => {
        member.minCores = cores;
        this.#balance();
      },
      observe: (cores) => {
        member.busy = cores >= idleCores;
        member.usedCores = cores;
      },
      leave: () => void this.#members.delete(member),
    };
  }

  /** Instances together use nearly all there is: then it matters who else begins to. */
  get isContended(): boolean {
    let used = 0;
    for (const { usedCores } of this.#members) used += usedCores;
    return used >= 0.8 * this.#cores;
  }

  /** Call after observing: writes those weights that are no longer right. */
  balance(): void {
    const members = [...this.#members];
    const found = this.isContended ? corrections(members) : [];
    for (const [index, member] of members.entries()) member.correction = found[index] ?? 1;
    this.#balance();
  }

  #balance(): void {
    const spare = spareCores(this.#members, this.#cores);
    for (const member of this.#members) {
      member.weightCores = member.minCores + (member.busy ? spare.busy : spare.idle);
      const cores = member.weightCores * member.correction;
      if (cores === member.writtenCores) continue;
      member.writtenCores = cores;
      member.cgroup.setCpuWeight(cores);
    }
  }
}
