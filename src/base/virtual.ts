import { assert } from "./assert.ts";
import type { Clock, Random, Timer, Timestamp } from "./time.ts";

interface VirtualTimer {
  readonly id: number;
  dueAt: Timestamp;
  readonly periodMs: number | null;
  readonly callback: () => void;
}

/** Microtask turns granted to what a due timer set off, before the next one fires. */
const turnsPerTimer = 64;

/**
 * Time that moves only when told to. Timers fire in the order of their due time, those due at
 * the same time in the order they were set; `now()` is a timer's due time while it fires.
 */
export class VirtualClock implements Clock {
  #now: Timestamp;
  #nextId = 0;
  readonly #timers = new Map<number, VirtualTimer>();

  constructor(startAt: Timestamp = 1_700_000_000_000) {
    this.#now = startAt;
  }

  now(): Timestamp {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): Timer {
    return this.#set(Math.max(0, delayMs), null, callback);
  }

  every(periodMs: number, callback: () => void): Timer {
    assert(periodMs > 0, `a period of ${periodMs} ms`);
    return this.#set(periodMs, periodMs, callback);
  }

  /** Timers set and not yet fired or cancelled. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time on, firing what falls due, also what those callbacks set. Awaits nothing. */
  advance(durationMs: number): void {
    const end = this.#now + durationMs;
    for (let timer = this.#due(end); timer !== null; timer = this.#due(end)) this.#fire(timer);
    this.#now = end;
  }

  /** As `advance`, and lets promises settle before, between and after the timers. */
  async run(durationMs: number): Promise<void> {
    const end = this.#now + durationMs;
    await settle();
    for (let timer = this.#due(end); timer !== null; timer = this.#due(end)) {
      this.#fire(timer);
      await settle();
    }
    this.#now = end;
  }

  #set(delayMs: number, periodMs: number | null, callback: () => void): Timer {
    const id = this.#nextId++;
    this.#timers.set(id, { id, dueAt: this.#now + delayMs, periodMs, callback });
    return { cancel: () => this.#timers.delete(id) };
  }

  #due(end: Timestamp): VirtualTimer | null {
    let first: VirtualTimer | null = null;
    for (const timer of this.#timers.values()) {
      if (timer.dueAt <= end && (first === null || timer.dueAt < first.dueAt)) first = timer;
    }
    return first;
  }

  #fire(timer: VirtualTimer): void {
    this.#now = timer.dueAt;
    this.#timers.delete(timer.id);
    if (timer.periodMs !== null) {
      timer.dueAt += timer.periodMs;
      this.#timers.set(timer.id, timer);
    }
    timer.callback();
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < turnsPerTimer; turn++) await Promise.resolve();
}

const tokenAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";

/** Reproducible randomness: the same seed, the same sequence. Source: mulberry32 (T. Ettinger). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const letter = (): string => tokenAlphabet.charAt(Math.floor(next() * tokenAlphabet.length));
  return { next, token: (length) => Array.from({ length }, letter).join("") };
}
