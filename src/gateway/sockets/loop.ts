import { drainMicrotasks } from "bun:jsc";
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/time.ts";
import { findBunLoop } from "./bun-loop.ts";
import { LoopClock } from "./clock.ts";
import { calls, FixedBytes } from "./system-calls.ts";

/** <sys/epoll.h> */
export const epollEvent = {
  in: 0x1,
  out: 0x4,
  error: 0x8,
  hangup: 0x10,
  peerHangup: 0x2000,
  edge: 0x8000_0000,
} as const;
const control = { add: 1, remove: 2, modify: 3 } as const;
const closedOnExec = 0x80000;

/** struct epoll_event, which only x86-64 packs: its events, then what came with `watch`. */
const eventBytes = process.arch === "x64" ? 12 : 16;
const eventWords = eventBytes / 4;
const descriptorWord = eventWords - 2;
const lifeWord = eventWords - 1;
const eventsPerWait = 256;

/** Bun's own loop gets its turn after so many of ours at the latest. */
const waitsPerTurn = 64;
const readBytesMax = 65_536;

/**
 * After work Bun has timers of its own, most of all its collector's. One that is late runs when the
 * next request wakes the loop, and keeps that waiting: so for a while sleeps are shorter.
 */
const afterWork = { forMs: 1000, waitMsMax: 10 } as const;

/** Who hears of a descriptor. */
export interface Watcher {
  /** @param events of `epollEvent`, or-ed. */
  ready(events: number): void;
}

export interface LoopOptions {
  readonly clock: Clock;
  /**
   * The longest sleep. Bun's loop is woken by its descriptors, and timers of `clock` are known;
   * others, such as those of its collector, may be late by so much (less after work).
   */
  readonly waitMsMax: number;
  /** Fills what was read with rubbish once it is dealt with, so that who kept it is found out. */
  readonly scrubs?: boolean;
  readonly onProblem: (error: unknown) => void;
}

/**
 * Waits for sockets of its own and for Bun's event loop, by turns:
 *
 *   wait (epoll: our sockets, and Bun's epoll set as one more descriptor)
 *     ├─→ ours are ready: call their watchers, then what was deferred ─→ wait
 *     └─→ Bun's is ready, or a timer is due: let Bun's loop go round once ─→ wait
 *
 * Only one loop can sleep, so it is this one: while it runs, `setImmediate` is always set, and
 * Bun's loop never blocks.
 */
export class SocketLoop {
  /** Its timers wake the loop; those of others may be late by `waitMsMax`. */
  readonly clock: LoopClock;
  /** One read's bytes; the next read overwrites them. */
  readonly readBuffer = new FixedBytes(readBytesMax);

  private readonly options: LoopOptions;
  private readonly epoll: number;
  private readonly eventMemory = new FixedBytes(eventBytes * eventsPerWait);
  private readonly events: Int32Array;
  private readonly changeMemory = new FixedBytes(eventBytes);
  private readonly change: Int32Array;
  /** By descriptor. */
  private readonly watchers: (Watcher | undefined)[] = [];
  /** How often each descriptor was watched: events of an earlier life are not told. */
  private readonly lives: number[] = [];
  private deferred: (() => void)[] = [];
  private bunIsReady = false;
  /** When a socket of ours was last ready. */
  private workedAt = Number.NEGATIVE_INFINITY;
  private running = true;

  constructor(options: LoopOptions) {
    this.options = options;
    this.clock = new LoopClock(options.clock);
    this.events = wordsOf(this.eventMemory);
    this.change = wordsOf(this.changeMemory);
    const bunLoop = findBunLoop();
    this.epoll = calls.epoll_create1(closedOnExec);
    assert(this.epoll >= 0, "an epoll set can be made");
    this.watch(bunLoop, epollEvent.in, {
      ready: () => {
        this.bunIsReady = true;
      },
    });
    setImmediate(this.turn);
  }

  /** Tells the watcher of the descriptor's events until `forget`. */
  watch(descriptor: number, events: number, watcher: Watcher): void {
    this.watchers[descriptor] = watcher;
    this.lives[descriptor] = ((this.lives[descriptor] ?? 0) + 1) | 0;
    this.control(control.add, descriptor, events);
  }

  /** Other events of a descriptor that is watched. */
  modify(descriptor: number, events: number): void {
    this.control(control.modify, descriptor, events);
  }

  /** To be called before the descriptor is closed. */
  forget(descriptor: number): void {
    this.watchers[descriptor] = undefined;
    this.control(control.remove, descriptor, 0);
  }

  /** Calls back once all that the kernel has told by now is dealt with. */
  defer(action: () => void): void {
    this.deferred.push(action);
  }

  /** What was read has been dealt with. */
  scrub(length: number): void {
    if (this.options.scrubs === true) this.readBuffer.buffer.fill(0x7f, 0, length);
  }

  /** For good. Its sockets must be closed by then. */
  close(): void {
    if (!this.running) return;
    this.running = false;
    calls.close(this.epoll);
  }

  private control(operation: number, descriptor: number, events: number): void {
    this.change[0] = events | 0;
    this.change[descriptorWord] = descriptor;
    this.change[lifeWord] = this.lives[descriptor] ?? 0;
    const result = calls.epoll_ctl(this.epoll, operation, descriptor, this.changeMemory.address);
    assert(result === 0, `descriptor ${descriptor} can be watched (${operation})`);
  }

  /** Runs from `setImmediate`, so that Bun's loop goes round between two turns. */
  private readonly turn = (): void => {
    this.bunIsReady = false;
    this.runDeferred();
    let told = 1;
    for (let waits = 0; waits < waitsPerTurn && told > 0 && !this.bunIsReady; waits += 1) {
      if (!this.running) return;
      const now = this.clock.now();
      if (waits > 0 && this.clock.dueAt <= now) break;
      told = calls.epoll_wait(
        this.epoll,
        this.eventMemory.address,
        eventsPerWait,
        this.waitMs(now),
      );
      this.clock.stop();
      for (let index = 0; index < told; index += 1) this.tell(index * eventWords);
      if (told > (this.bunIsReady ? 1 : 0)) this.workedAt = this.clock.now();
      this.runDeferred();
      drainMicrotasks();
      this.clock.goOn();
    }
    if (this.running) setImmediate(this.turn);
  };

  private waitMs(now: number): number {
    if (this.deferred.length > 0) return 0;
    // Bun rounds its timers its own way: rather a millisecond late than a loop that spins.
    const waitMsMax =
      now - this.workedAt < afterWork.forMs ? afterWork.waitMsMax : Number.POSITIVE_INFINITY;
    return Math.min(this.options.waitMsMax, waitMsMax, Math.max(1, this.clock.dueAt - now));
  }

  private tell(at: number): void {
    const { events } = this;
    const descriptor = events[at + descriptorWord] as number;
    if (events[at + lifeWord] !== this.lives[descriptor]) return;
    try {
      this.watchers[descriptor]?.ready(events[at] as number);
    } catch (error) {
      this.options.onProblem(error);
    }
  }

  /** What is deferred meanwhile comes after the next wait, which is then a short one. */
  private runDeferred(): void {
    if (this.deferred.length === 0) return;
    const { deferred } = this;
    this.deferred = [];
    for (const action of deferred) {
      try {
        action();
      } catch (error) {
        this.options.onProblem(error);
      }
    }
  }
}

const wordsOf = ({ buffer }: FixedBytes): Int32Array =>
  new Int32Array(buffer.buffer, 0, buffer.length / 4);
