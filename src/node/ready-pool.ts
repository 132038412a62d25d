import { readFileSync } from "node:fs";
import type { Clock, Timer, Timestamp } from "../base/time.ts";
import type { CgroupLimits } from "./cgroup/cgroup.ts";
import type { InstanceProcess, LaunchRequest, WaitingProcess } from "./drivers/process.ts";

// Sandboxes made ahead for instances that sleep, so that a wake only lets one go. Each belongs
// to one instance, and so to one app, release and environment: it has that one's uid, network,
// cgroup, mounts and seccomp filter from the beginning, nothing of the app has run in it, and it
// is used once at most. The most recently used instances have one:
//
//             offer                 has a place          claim
//   awake ───────────→ candidate ─────────────→ made ───────────→ its process
//                        ↑  └── withdraw ──→ ─┐  │
//                        └── loses its place, memory is short ──┘ (it ends)
//
// They are made one after another. One that cannot be made or ends by itself is not made again
// before its instance sleeps the next time.

/** Who can use a sandbox made ahead. */
export interface ReadyOwner {
  readonly lastUsedAt: Timestamp;
  /** Null: not now, or never. */
  makeReady(): Promise<WaitingProcess | null>;
}

/** How much of the machine's memory must be available to make one, and to keep them. */
const memoryShares = { toMake: 1 / 8, toKeep: 1 / 16 } as const;
const memoryCheckMs = 5000;

interface Candidate {
  readonly owner: ReadyOwner;
  readonly lastUsedAt: Timestamp;
  made: Promise<WaitingProcess | null> | null;
}

export class ReadyPool {
  readonly #places: number;
  readonly #availableMemory: () => number;
  readonly #timer: Timer;
  readonly #candidates = new Map<ReadyOwner, Candidate>();
  /** Those whose sandbox ends: they must not begin another before. */
  readonly #ending = new Map<ReadyOwner, Promise<void>>();
  #work = Promise.resolve();
  #isMaking = false;
  #begun = false;
  #closed = false;

  /**
   * @param places how many there are at most
   * @param availableMemory part of the machine's memory that programs could have, 0–1
   */
  constructor(places: number, clock: Clock, availableMemory: () => number) {
    this.#places = places;
    this.#availableMemory = availableMemory;
    this.#timer = clock.every(memoryCheckMs, () => this.#lookAtMemory());
  }

  /** Everybody who slept before is known: who was used last is only clear now. */
  begin(): void {
    this.#begun = true;
    this.#fill();
  }

  /** It sleeps: make it a sandbox when it is among the most recently used. */
  offer(owner: ReadyOwner): void {
    if (this.#closed || this.#places === 0 || this.#candidates.has(owner)) return;
    this.#candidates.set(owner, { owner, lastUsedAt: owner.lastUsedAt, made: null });
    // A few in reserve, for when a place becomes free; not every app that sleeps.
    if (this.#candidates.size > 2 * this.#places) {
      const last = this.#ranked().at(-1);
      if (last !== undefined) void this.withdraw(last.owner);
    }
    this.#fill();
  }

  /** It has one, may get one, or its last has not ended: the pool holds on to it. */
  knows(owner: ReadyOwner): boolean {
    return this.#candidates.has(owner) || this.#ending.has(owner);
  }

  /** It has no use for one any more. Resolves when it has none; null: it has none. */
  withdraw(owner: ReadyOwner): Promise<void> | null {
    const candidate = this.#candidates.get(owner);
    this.#candidates.delete(owner);
    if (candidate !== undefined) {
      this.#end(candidate);
      this.#fill();
    }
    return this.#ending.get(owner) ?? null;
  }

  /** What it was made with has changed. */
  renew(owner: ReadyOwner): void {
    const candidate = this.#candidates.get(owner);
    if (candidate === undefined) return;
    this.#end(candidate);
    this.#fill();
  }

  /** Lets the owner's sandbox go, which is what `request` would start. Null: start anew. */
  async claim(
    owner: ReadyOwner,
    request: LaunchRequest,
    limits: CgroupLimits,
  ): Promise<InstanceProcess | null> {
    const candidate = this.#candidates.get(owner);
    this.#candidates.delete(owner);
    // What is being made is ready sooner than another would be.
    const waiting = (await candidate?.made) ?? null;
    const goes = waiting !== null && (await waiting.go(request, limits));
    if (candidate !== undefined && !goes) this.#end(candidate);
    await this.#ending.get(owner);
    this.#fill();
    return goes ? waiting.process : null;
  }

  /** None is left then. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer.cancel();
    for (const owner of [...this.#candidates.keys()]) void this.withdraw(owner);
    await Promise.all([this.#work, ...this.#ending.values()]);
  }

  #ranked(): Candidate[] {
    const all = [...this.#candidates.values()];
    return all.sort((one, other) => other.lastUsedAt - one.lastUsedAt);
  }

  #fill(): void {
    // Who makes looks who is next after each: nothing is missed.
    if (this.#isMaking) return;
    this.#isMaking = true;
    this.#work = this.#makeAll();
  }

  async #makeAll(): Promise<void> {
    for (let next = this.#next(); next !== null; next = this.#next()) {
      const made = next.owner.makeReady();
      next.made = made;
      this.#follow(next, made, await made);
    }
    this.#isMaking = false;
  }

  #follow(candidate: Candidate, made: Candidate["made"], waiting: WaitingProcess | null): void {
    const { owner } = candidate;
    const forget = (): void => {
      // One that was taken from it leaves it a candidate.
      if (this.#candidates.get(owner) !== candidate || candidate.made !== made) return;
      this.#candidates.delete(owner);
      this.#fill();
    };
    if (waiting === null) forget();
    else void waiting.process.ended.then(forget);
  }

  /** Takes away what others need more, and gives who is next; null: nobody. */
  #next(): Candidate | null {
    if (!this.#begun || this.#closed) return null;
    const ranked = this.#ranked();
    for (const candidate of ranked.slice(this.#places)) this.#end(candidate);
    const next = ranked
      .slice(0, this.#places)
      .find(({ owner, made }) => made === null && !this.#ending.has(owner));
    if (next === undefined || this.#availableMemory() < memoryShares.toMake) return null;
    return next;
  }

  #end(candidate: Candidate): void {
    const { owner, made } = candidate;
    if (made === null) return;
    candidate.made = null;
    const ended = made
      // What cannot be ended is told by the next start, which needs its place.
      .then((waiting) => waiting?.discard())
      .catch(() => {})
      .finally(() => {
        this.#ending.delete(owner);
        this.#fill();
      });
    this.#ending.set(owner, ended);
  }

  #lookAtMemory(): void {
    if (this.#candidates.size === 0) return;
    if (this.#availableMemory() < memoryShares.toKeep) {
      for (const candidate of this.#candidates.values()) this.#end(candidate);
    } else this.#fill();
  }
}

/** By the kernel's estimate (MemAvailable). */
export function availableMemory(): number {
  const text = readFileSync("/proc/meminfo", "utf8");
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
  return field("MemAvailable") / Math.max(1, field("MemTotal"));
}
