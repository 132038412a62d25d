// A whole gateway, as `startGateway` makes it, on sockets in memory: what it gets from
// `Bun.listen` and `Bun.connect` is replaced, and its clock is the test's. Everything between
// the two, from the first byte of a request to the last of its answer, is what ships.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMemoryWire } from "../../src/fabric/memory/wire.ts";
import type { Gateway } from "../../src/gateway/gateway.ts";
import { createLoadTable } from "../../src/gateway/load/table.ts";
import { subjects } from "../../src/model/wire.ts";
import type { Handlers, MemorySocket } from "./memory-socket.ts";
import { NaiveForwarder } from "./naive.ts";

export const appHost = "app.test";
const sweepMs = 500;

/** A connection from the gateway to the app, as the gateway asked for it. */
export interface Dialled {
  readonly handlers: Handlers;
  readonly data: unknown;
}

/** Where clients come in: the gateway, or a forwarder that takes its place in a control. */
export interface Front {
  readonly problems: string[];
  /** A client has connected. */
  open(socket: MemorySocket): void;
  data(socket: MemorySocket, chunk: Buffer): void;
  drain(socket: MemorySocket): void;
  end(socket: MemorySocket): void;
  close(socket: MemorySocket): void;
  /** Passes time, and looks at all deadlines. */
  advance(durationMs: number): void;
  readonly connectionCount: number;
  /** What it asked others and waits for; each is answered by a call. */
  readonly questions: (() => void)[];
  stop(): Promise<void>;
}

/** Calls back for each connection that is asked for from now on. Returns how to undo it. */
export function interceptDials(onDial: (dialled: Dialled) => void): () => void {
  const { connect } = Bun;
  const replaced = (options: { socket: Handlers; data: unknown }) => {
    onDial({ handlers: options.socket, data: options.data });
    return new Promise(() => {});
  };
  Object.assign(Bun, { connect: replaced });
  return () => void Object.assign(Bun, { connect });
}

/** What `start` asks `Bun.listen` for; nothing that keeps `Bun.listen` may be loaded before. */
async function interceptListen(start: () => Promise<void>): Promise<Handlers> {
  const { listen } = Bun;
  let handlers: Handlers | null = null;
  const replaced = (options: { socket: Handlers }) => {
    handlers = options.socket;
    return { port: 0, stop() {} };
  };
  Object.assign(Bun, { listen: replaced });
  try {
    await start();
  } finally {
    Object.assign(Bun, { listen });
  }
  if (handlers === null) throw new Error("the gateway did not listen");
  return handlers;
}

export async function startMemoryGateway(): Promise<Front> {
  const directory = mkdtempSync(join(tmpdir(), "lode-fuzz-"));
  const timer = { cancel() {} };
  const wire = createMemoryWire({
    clock: { now: () => 0, after: () => timer, every: () => timer },
  });
  const loadTablePath = join(directory, "load.table");
  createLoadTable(loadTablePath, 2);
  const problems: string[] = [];
  let now = 1_000_000_000_000;
  let sweep = () => {};
  const questions: (() => void)[] = [];
  let gateway: Gateway | null = null;
  const handlers = await interceptListen(async () => {
    const { startGateway } = await import("../../src/gateway/gateway.ts");
    const harness = await import("../../src/gateway/testing/harness.ts");
    const running = harness.runningAt(harness.tcp(1));
    const apps = { "default/app": harness.appRoute("app", [harness.routeInstance("i1", running)]) };
    wire.respond(subjects.routesSnapshot, async () => {
      return { epoch: "e1", revision: 1, apps, certificates: [], costs: [] } as never;
    });
    // All other hosts are nobody's.
    wire.respond(subjects.routesFind, async () => {
      await new Promise<void>((resolve) => questions.push(resolve));
      return { epoch: "e1", revision: 1, found: null };
    });
    gateway = startGateway({
      ...{ id: "g0", wire, loadTablePath, row: 0, accessLog: null },
      ...{ plainDescriptors: [0], tlsDescriptors: [] },
      clock: {
        now: () => now,
        after: () => timer,
        every(periodMs, callback) {
          if (periodMs === sweepMs) sweep = callback;
          return timer;
        },
      },
      random: { next: () => 0.5, token: (length) => "r".repeat(length) },
      limits: { sweepMs },
      onProblem: (message) => problems.push(message),
    });
    await gateway.ready;
    // Listening begins once the first table is there.
    await Bun.sleep(0);
  });
  const running = gateway as unknown as Gateway;
  return {
    ...{ problems, questions },
    open: (socket) => handlers.open(socket),
    data: (socket, chunk) => handlers.data(socket, chunk),
    drain: (socket) => handlers.drain(socket),
    end: (socket) => handlers.end(socket),
    close: (socket) => handlers.close(socket),
    advance(durationMs) {
      now += durationMs;
      sweep();
    },
    get connectionCount() {
      return running.connectionCount;
    },
    async stop() {
      await running.close();
      await wire.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** The control in the gateway's place. */
export function startNaiveFront(): Front {
  const forwarder = new NaiveForwarder((handlers) => {
    let app: MemorySocket | null = null;
    let before = "";
    const socket = {
      open(opened: MemorySocket) {
        app = opened;
        if (before !== "") opened.write(before);
      },
      data: (_: MemorySocket, chunk: Buffer) => handlers.data(chunk.toString("latin1")),
      drain() {},
      end: () => handlers.gone(),
      close: () => handlers.gone(),
    };
    void (Bun.connect as unknown as (options: object) => unknown)({ data: null, socket });
    return {
      write(text) {
        if (app === null) before += text;
        else app.write(text);
        return text.length;
      },
      terminate: () => app?.terminate(),
    };
  });
  return {
    ...{ problems: [], questions: [] },
    open() {},
    data: (socket, chunk) => forwarder.received(socket, chunk.toString("latin1")),
    drain() {},
    end: (socket) => socket.end(),
    close: (socket) => forwarder.left(socket),
    advance() {},
    connectionCount: 0,
    async stop() {},
  };
}
