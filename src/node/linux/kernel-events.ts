import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { attempt, describe, libc, must, systemCalls } from "./libc.ts";

/**
 * Waits for readiness of descriptors that Bun's own loop cannot wait for (pidfds, cgroup
 * files), with no thread and no polling:
 *
 *     watched descriptors → epoll set → one Linux AIO poll on the set → eventfd → Bun's loop
 *
 * Bun reads an eventfd natively, and IOCB_CMD_POLL (Linux 4.18) turns "the epoll set is
 * ready" into a write to one. Measured: 0.1 ms from event to callback and no memory, where a
 * Worker that blocks in epoll_wait costs a second JavaScript heap.
 *
 *     armed —the set became ready→ signalled —drained by epoll_wait(0)→ armed
 *
 * An open instance keeps the process alive; `close` ends that.
 */
export interface KernelEvents {
  /** Calls back each time the descriptor becomes ready, until cancelled. */
  watch(descriptor: number, interest: Interest, callback: () => void): { cancel(): void };
  close(): void;
}

/** `readable`: EPOLLIN; `priority`: EPOLLPRI, how cgroup v2 files announce a change. */
export type Interest = "readable" | "priority";

const epollIn = 0x001;
const epollPriority = 0x002;
const epollEdge = 0x8000_0000;
const closeOnExec = 0x8_0000;
const nonBlocking = 0x800;
/** `struct epoll_event` is packed on x86-64 only. */
const eventBytes = process.arch === "x64" ? 12 : 16;
const eventDataOffset = eventBytes - 8;
const eventsPerWait = 128;

/** Fails when the kernel has no AIO or its system-wide `fs.aio-max-nr` is used up. */
export function openKernelEvents(): Result<KernelEvents, string> {
  const context = new BigUint64Array(1);
  const opened = attempt("io_setup", libc.syscall(systemCalls.ioSetup, 1, ptr(context), 0, 0, 0));
  if (!opened.ok) {
    return err(`${describe(opened.error)}; raise fs.aio-max-nr (sysctl) if it is used up`);
  }
  const set = must("epoll_create1", libc.epoll_create1(closeOnExec));
  const notifier = must("eventfd", libc.eventfd(0, closeOnExec | nonBlocking));
  return ok(new AioKernelEvents(Number(context[0]), set, notifier));
}

class AioKernelEvents implements KernelEvents {
  readonly #context: number;
  readonly #set: number;
  readonly #notifier: number;
  readonly #reader: { read(): Promise<{ done: boolean }>; cancel(): Promise<void> };
  readonly #callbacks = new Map<number, { descriptor: number; callback: () => void }>();
  readonly #events = new DataView(new ArrayBuffer(eventBytes * eventsPerWait));
  readonly #completion = new Uint8Array(32);
  readonly #request: Uint8Array;
  readonly #requests: BigUint64Array;
  #lastId = 0;
  #closed = false;

  constructor(context: number, set: number, notifier: number) {
    this.#context = context;
    this.#set = set;
    this.#notifier = notifier;
    this.#request = pollRequest(set, notifier);
    this.#requests = new BigUint64Array([BigInt(ptr(this.#request))]);
    // Bun reads from a duplicate, so the notifier stays ours to close.
    this.#reader = Bun.file(notifier).stream().getReader();
    this.#arm();
    void this.#run();
  }

  watch(descriptor: number, interest: Interest, callback: () => void): { cancel(): void } {
    assert(!this.#closed, "watch on closed kernel events");
    this.#lastId += 1;
    const id = this.#lastId;
    const event = new DataView(new ArrayBuffer(eventBytes));
    // Edge-triggered: a descriptor that stays ready (an ended process) must not wake us again.
    const bits = (interest === "readable" ? epollIn : epollPriority) | epollEdge;
    event.setUint32(0, bits >>> 0, true);
    event.setUint32(eventDataOffset, id, true);
    this.#callbacks.set(id, { descriptor, callback });
    const add = 1;
    must("epoll_ctl", libc.epoll_ctl(this.#set, add, descriptor, ptr(event)));
    return { cancel: () => this.#cancel(id) };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    libc.syscall(systemCalls.ioDestroy, this.#context, 0, 0, 0, 0);
    closeSync(this.#set);
    closeSync(this.#notifier);
    this.#callbacks.clear();
    void this.#reader.cancel();
  }

  #cancel(id: number): void {
    const watched = this.#callbacks.get(id);
    if (watched === undefined) return;
    this.#callbacks.delete(id);
    const remove = 2;
    libc.epoll_ctl(this.#set, remove, watched.descriptor, null);
  }

  #arm(): void {
    const submitted = libc.syscall(
      systemCalls.ioSubmit,
      this.#context,
      1,
      ptr(this.#requests),
      0,
      0,
    );
    must("io_submit", submitted);
  }

  async #run(): Promise<void> {
    for (;;) {
      const signal = await this.#reader.read();
      if (signal.done || this.#closed) return;
      libc.syscall(systemCalls.ioGetevents, this.#context, 0, 1, ptr(this.#completion), 0);
      this.#drain();
      if (this.#closed) return;
      this.#arm();
    }
  }

  #drain(): void {
    for (;;) {
      const count = libc.epoll_wait(this.#set, ptr(this.#events), eventsPerWait, 0);
      for (let index = 0; index < count; index++) {
        const id = this.#events.getUint32(index * eventBytes + eventDataOffset, true);
        this.#callbacks.get(id)?.callback();
      }
      if (count < eventsPerWait || this.#closed) return;
    }
  }
}

/** `struct iocb` asking for IOCB_CMD_POLL on `descriptor`, its completion told to an eventfd. */
function pollRequest(descriptor: number, notifier: number): Uint8Array {
  const pollCommand = 5;
  const notifyByDescriptor = 1;
  const request = new DataView(new ArrayBuffer(64));
  request.setUint16(16, pollCommand, true);
  request.setUint32(20, descriptor, true);
  request.setBigUint64(24, BigInt(epollIn), true);
  request.setUint32(56, notifyByDescriptor, true);
  request.setUint32(60, notifier, true);
  return new Uint8Array(request.buffer);
}
