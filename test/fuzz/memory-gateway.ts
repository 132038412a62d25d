// A whole gateway, as `startGateway` makes it, on sockets in memory: what it gets from
// `Bun.listen` and `Bun.connect` is replaced, and its clock is the test's. Everything between
// the two, from the first byte of a request to the last of its answer, is what ships.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMemoryWire } from "../../src/fabric/memory/wire.ts";
import type { Gateway } from "../../src/gateway/gateway.ts";
import type { GatewayLimits } from "../../src/gateway/limits.ts";
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
  /** What a turn of the event loop is to end with. */
  readonly immediates: (() => void)[];
  /** What the gateway gives to a client of HTTP/2. */
  readonly http2: GatewayLimits["http2"];
  /** A client has connected. */
  open(socket: MemorySocket): void;
  /** A client has connected, and both have agreed on TLS and HTTP/2. */
  openHttp2(socket: MemorySocket): void;
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

interface Listening {
  readonly plain: Handlers;
  readonly tls: Handlers;
}

/** What `start` asks `Bun.listen` for; nothing that keeps `Bun.listen` may be loaded before. */
async function interceptListen(start: () => Promise<void>): Promise<Listening> {
  const { listen } = Bun;
  const found: Partial<Record<keyof Listening, Handlers>> = {};
  const replaced = (options: { socket: Handlers; tls?: object }) => {
    found[options.tls === undefined ? "plain" : "tls"] = options.socket;
    return { port: 0, stop() {} };
  };
  Object.assign(Bun, { listen: replaced });
  try {
    await start();
  } finally {
    Object.assign(Bun, { listen });
  }
  const { plain, tls } = found;
  if (plain === undefined || tls === undefined) throw new Error("the gateway did not listen");
  return { plain, tls };
}

/** Keeps what is meant for the end of a turn. Returns how to undo it. */
function interceptImmediates(immediates: (() => void)[]): () => void {
  const { setImmediate } = globalThis;
  const replaced = (callback: () => void) => void immediates.push(callback);
  Object.assign(globalThis, { setImmediate: replaced });
  return () => void Object.assign(globalThis, { setImmediate });
}

/** Small enough that a case can reach each of them. */
const http2: GatewayLimits["http2"] = {
  ...{ streamsMax: 20, streamWindowBytes: 66_000, connectionWindowBytes: 100_000 },
  ...{ resetsMax: 40, settingsMax: 20, pingsMax: 30, emptyMax: 20 },
};

/** One certificate for the app's host and for one that nobody serves; no others. */
const certificates = [{ hosts: [appHost, "lost.test"], certificateChain: "", privateKey: "" }];

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
  const { plain, tls } = await interceptListen(async () => {
    const { startGateway } = await import("../../src/gateway/gateway.ts");
    const harness = await import("../../src/gateway/testing/harness.ts");
    const running = harness.runningAt(harness.tcp(1));
    const apps = { "default/app": harness.appRoute("app", [harness.routeInstance("i1", running)]) };
    wire.respond(subjects.routesSnapshot, async () => {
      return { epoch: "e1", revision: 1, apps, certificates, costs: [] } as never;
    });
    // All other hosts are nobody's.
    wire.respond(subjects.routesFind, async () => {
      await new Promise<void>((resolve) => questions.push(resolve));
      return { epoch: "e1", revision: 1, found: null };
    });
    gateway = startGateway({
      ...{ id: "g0", wire, loadTablePath, row: 0, accessLog: null },
      ...{ plainDescriptors: [0], tlsDescriptors: [0] },
      clock: {
        now: () => now,
        after: () => timer,
        every(periodMs, callback) {
          if (periodMs === sweepMs) sweep = callback;
          return timer;
        },
      },
      random: { next: () => 0.5, token: (length) => "r".repeat(length) },
      limits: { sweepMs, http2 },
      onProblem: (message) => problems.push(message),
    });
    await gateway.ready;
    // Listening begins once the first table is there.
    await Bun.sleep(0);
  });
  const running = gateway as unknown as Gateway;
  const immediates: (() => void)[] = [];
  const undo = interceptImmediates(immediates);
  return {
    ...{ problems, questions, immediates, http2 },
    open: (socket) => plain.open(socket),
    openHttp2(socket) {
      tls.open(socket);
      tls.handshake?.(socket, true);
    },
    data: (socket, chunk) => plain.data(socket, chunk),
    drain: (socket) => plain.drain(socket),
    end: (socket) => plain.end(socket),
    close: (socket) => plain.close(socket),
    advance(durationMs) {
      now += durationMs;
      sweep();
    },
    get connectionCount() {
      return running.connectionCount;
    },
    async stop() {
      undo();
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
    ...{ problems: [], questions: [], immediates: [], http2 },
    open() {},
    openHttp2() {},
    data: (socket, chunk) => forwarder.received(socket, chunk.toString("latin1")),
    drain() {},
    end: (socket) => socket.end(),
    close: (socket) => forwarder.left(socket),
    advance() {},
    connectionCount: 0,
    async stop() {},
  };
}
