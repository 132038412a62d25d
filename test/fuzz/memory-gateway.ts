// A whole gateway, as `startGateway` makes it, on sockets in memory, and with the test's clock.
// Everything between, from the first byte of a request to the last of its answer, is what ships.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMemoryWire } from "../../src/fabric/memory/wire.ts";
import { startGateway } from "../../src/gateway/gateway.ts";
import type { GatewayLimits } from "../../src/gateway/limits.ts";
import { createLoadTable } from "../../src/gateway/load/table.ts";
import type {
  ConnectHandlers,
  Listening,
  OwnedSocket,
  SocketHandlers,
  Sockets,
  TlsHandlers,
  TlsSettings,
  TlsSocket,
} from "../../src/gateway/sockets/sockets.ts";
import { appRoute, routeInstance, runningAt, tcp } from "../../src/gateway/testing/harness.ts";
import type { Endpoint } from "../../src/model/instance.ts";
import { subjects } from "../../src/model/wire.ts";
import type { Handlers, MemorySocket } from "./memory-socket.ts";
import { NaiveForwarder } from "./naive.ts";

export const appHost = "app.test";
const sweepMs = 500;

/** A connection to the app that the gateway asks for. */
export interface Dialled {
  readonly handlers: Handlers;
  readonly owner: unknown;
}

/** Where clients come in: the gateway, or a forwarder that takes its place in a control. */
export interface Front {
  readonly problems: string[];
  /** What a turn of the event loop is to end with. */
  readonly deferred: (() => void)[];
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
  /** Calls back for each connection to the app that is asked for from now on. */
  onDial(onDial: (dialled: Dialled) => void): void;
  stop(): Promise<void>;
}

const readBuffer = Buffer.alloc(65_536);

/** What is read lies where the next read will: whoever keeps it finds rubbish. */
function reading<Socket>(handlers: SocketHandlers<Socket>): Handlers {
  const told = handlers as unknown as SocketHandlers<MemorySocket>;
  return {
    open: (socket) => told.open(socket),
    data(socket, chunk) {
      const start = chunk.length % 7;
      const end = start + chunk.copy(readBuffer, start);
      told.data(socket, readBuffer, start, end);
      readBuffer.fill(0x7f, start, end);
    },
    drain: (socket) => told.drain(socket),
    end: (socket) => told.end(socket),
    close: (socket) => told.close(socket),
  };
}

/** The gateway's sockets, in memory. */
class MemorySockets implements Sockets {
  readonly deferred: (() => void)[] = [];
  plain: Handlers | null = null;
  tls: Handlers | null = null;
  shakeHands: (socket: MemorySocket) => void = () => {};
  onDial: (dialled: Dialled) => void = () => {};

  listen<Owner>(
    _descriptor: number,
    handlers: SocketHandlers<OwnedSocket<Owner | undefined>>,
  ): Listening {
    this.plain = reading(handlers);
    return { stop() {} };
  }

  listenTls<Owner>(
    _descriptor: number,
    _settings: TlsSettings,
    handlers: TlsHandlers<TlsSocket<Owner | undefined>>,
  ): Listening {
    this.tls = reading(handlers);
    this.shakeHands = (socket) =>
      handlers.handshake(socket as unknown as TlsSocket<Owner | undefined>, true);
    return { stop() {} };
  }

  connect<Owner>(_endpoint: Endpoint, handlers: ConnectHandlers<Owner>, owner: Owner): void {
    this.onDial({ handlers: reading(handlers), owner });
  }

  defer(action: () => void): void {
    this.deferred.push(action);
  }
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
  const sockets = new MemorySockets();
  const instance = routeInstance("i1", runningAt(tcp(1)));
  const apps = { "default/app": appRoute("app", [instance]) };
  wire.respond(subjects.routesSnapshot, async () => {
    return { epoch: "e1", revision: 1, apps, certificates, costs: [] } as never;
  });
  // All other hosts are nobody's.
  wire.respond(subjects.routesFind, async () => {
    await new Promise<void>((resolve) => questions.push(resolve));
    return { epoch: "e1", revision: 1, found: null };
  });
  const gateway = startGateway({
    ...{ id: "g0", wire, sockets, loadTablePath, row: 0, accessLog: null },
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
  const { plain, tls, deferred } = sockets;
  if (plain === null || tls === null) throw new Error("the gateway did not listen");
  return {
    ...{ problems, questions, deferred, http2 },
    open: (socket) => plain.open(socket),
    openHttp2(socket) {
      tls.open(socket);
      sockets.shakeHands(socket);
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
      return gateway.connectionCount;
    },
    onDial(onDial) {
      sockets.onDial = onDial;
    },
    async stop() {
      await gateway.close();
      await wire.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** The control in the gateway's place. */
export function startNaiveFront(): Front {
  let dial: (dialled: Dialled) => void = () => {};
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
    dial({ handlers: socket, owner: null });
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
    ...{ problems: [], questions: [], deferred: [], http2 },
    onDial(onDial) {
      dial = onDial;
    },
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
