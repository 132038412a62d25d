import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtualClock } from "../../base/virtual.ts";
import { systemClock } from "../../fabric/system.ts";
import type { Endpoint } from "../../model/instance.ts";
import { eventually, listenOnLoopback } from "../testing/harness.ts";
import { SocketAddress } from "./address.ts";
import { LoopClock } from "./clock.ts";
import { SocketLoop } from "./loop.ts";
import { openSockets } from "./native.ts";
import type { ConnectHandlers, Listening, OwnedSocket, SocketHandlers } from "./sockets.ts";

const problems: unknown[] = [];
const loop = new SocketLoop({
  ...{ clock: systemClock, waitMsMax: 1, scrubs: true },
  onProblem: (error) => problems.push(error),
});
const sockets = openSockets(loop);
const directory = mkdtempSync(join(tmpdir(), "lode-sockets-"));
const undo: (() => void)[] = [];

afterEach(() => {
  for (const action of undo.splice(0)) action();
  expect(problems.splice(0)).toEqual([]);
});
afterAll(() => {
  loop.close();
  rmSync(directory, { recursive: true });
});

type Plain = OwnedSocket<unknown>;

/** What a socket told, in order; bytes only as their sum. */
class Told implements SocketHandlers<Plain> {
  events: string[] = [];
  bytes = 0;
  socket: Plain | null = null;
  onData: (buffer: Buffer, start: number, end: number) => void = () => {};

  open(socket: Plain): void {
    this.socket = socket;
    this.events.push("open");
  }

  data(_: Plain, buffer: Buffer, start: number, end: number): void {
    this.bytes += end - start;
    this.onData(buffer, start, end);
  }

  drain(): void {
    this.events.push("drain");
  }

  end(): void {
    this.events.push("end");
  }

  close(): void {
    this.events.push("close");
  }

  connectError(_: unknown, cause: string): void {
    this.events.push(cause);
  }

  until(event: string): Promise<void> {
    return eventually(() => this.events.includes(event));
  }

  get opened(): Plain {
    if (this.socket === null) throw new Error("not open");
    return this.socket;
  }
}

function dial(endpoint: Endpoint): Told {
  const told = new Told();
  sockets.connect(endpoint, told as unknown as ConnectHandlers<null>, null);
  expect(told.events).toEqual([]);
  return told;
}

function listenFor(told: Told): { readonly port: number; readonly listening: Listening } {
  const { descriptor, port } = listenOnLoopback();
  const listening = sockets.listen(descriptor, told as unknown as SocketHandlers<Plain>);
  undo.push(() => listening.stop());
  return { port, listening };
}

/** A peer of Node's, as a client. */
function peerAt(port: number, allowHalfOpen = true): Socket {
  const peer = connect({ port, host: "127.0.0.1", allowHalfOpen });
  peer.on("error", () => {});
  undo.push(() => peer.destroy());
  return peer;
}

/** The same as a server. */
async function serve(path: string | null, onSocket: (socket: Socket) => void): Promise<Endpoint> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    undo.push(() => socket.destroy());
    onSocket(socket);
  });
  undo.push(() => server.close());
  await new Promise<void>((resolve) =>
    path === null ? server.listen(0, "127.0.0.1", resolve) : server.listen(path, resolve),
  );
  const address = server.address();
  return typeof address === "string" || address === null
    ? { kind: "unix", path: String(address) }
    : { kind: "tcp", host: "127.0.0.1", port: address.port };
}

describe("connecting", () => {
  test("to a port and to a socket file", async () => {
    for (const path of [null, join(directory, "peer.sock")]) {
      const endpoint = await serve(path, (socket) => socket.end("hello"));
      const told = dial(endpoint);
      await told.until("end");
      expect(told.bytes).toBe(5);
      told.opened.end();
      expect(told.events).toEqual(["open", "end", "close"]);
    }
  });

  test("says why it failed", async () => {
    const { descriptor, port } = listenOnLoopback();
    sockets.listen(descriptor, new Told()).stop();
    const tcp = (host: string, at: number): Endpoint => ({ kind: "tcp", host, port: at });
    const cases: [Endpoint, string][] = [
      [tcp("127.0.0.1", port), "ECONNREFUSED"],
      [tcp("::1", port), "ECONNREFUSED"],
      [tcp("no.address", port), "EINVAL"],
      [{ kind: "unix", path: join(directory, "absent.sock") }, "ENOENT"],
      [{ kind: "unix", path: "/".repeat(200) }, "EINVAL"],
    ];
    for (const [endpoint, cause] of cases) {
      const told = dial(endpoint);
      await eventually(() => told.events.length > 0);
      expect(told.events).toEqual([cause]);
    }
  });

  test("waits while the queue of a socket file is full", async () => {
    const path = join(directory, "full.sock");
    // One that accepts only when it is told to: a process that sleeps.
    const program =
      "import socket,sys\n" +
      "s=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(0)\nprint('up',flush=True)\n" +
      "sys.stdin.readline()\nkept=[]\nwhile True: kept.append(s.accept())\n";
    const child = Bun.spawn(["python3", "-c", program, path], { stdin: "pipe", stdout: "pipe" });
    undo.push(() => child.kill());
    await child.stdout.getReader().read();
    const all = Array.from({ length: 5 }, () => dial({ kind: "unix", path }));
    await Bun.sleep(50);
    expect(all.filter((told) => told.events.length > 0).length).toBeLessThan(5);
    child.stdin.write("\n");
    child.stdin.flush();
    await eventually(() => all.every((told) => told.events[0] === "open"));
    for (const told of all) told.opened.terminate();
  });
});

describe("a connection", () => {
  test("carries much both ways, as fast as the slower side reads", async () => {
    const told = new Told();
    const { port } = listenFor(told);
    const peer = peerAt(port);
    await told.until("open");
    const { opened } = told;
    expect(opened.remoteAddress).toBe("127.0.0.1");
    const pending: Buffer[] = [];
    let paused = 0;
    const pump = () => {
      for (let piece = pending[0]; piece !== undefined; piece = pending[0]) {
        const taken = opened.write(piece, 0, piece.length);
        if (taken < piece.length) {
          pending[0] = piece.subarray(Math.max(0, taken));
          return false;
        }
        pending.shift();
      }
      return true;
    };
    told.onData = (buffer, start, end) => {
      if (pending.length === 0) {
        const taken = opened.write(buffer, start, end - start);
        if (taken === end - start) return;
        pending.push(Buffer.from(buffer.subarray(start + taken, end)));
      } else pending.push(Buffer.from(buffer.subarray(start, end)));
      paused += 1;
      opened.pause();
    };
    told.drain = () => {
      if (pump()) opened.resume();
    };
    const sent = Buffer.alloc(24_000_000);
    for (let index = 0; index < sent.length; index += 4) sent.writeUInt32LE(index, index);
    const received: Buffer[] = [];
    let length = 0;
    peer.write(sent);
    await eventually(() => paused > 0);
    peer.on("data", (chunk: Buffer) => {
      received.push(chunk);
      length += chunk.length;
      if (received.length % 50 !== 0) return;
      peer.pause();
      setTimeout(() => peer.resume(), 2);
    });
    await eventually(() => length === sent.length);
    expect(Buffer.concat(received).equals(sent)).toBe(true);
    opened.end();
  });

  test("is half closed by either side, and closed by both", async () => {
    for (const peerFirst of [true, false]) {
      const told = new Told();
      const { port } = listenFor(told);
      const peer = peerAt(port);
      let peerEnded = false;
      peer.on("end", () => {
        peerEnded = true;
      });
      peer.resume();
      await told.until("open");
      const { opened } = told;
      if (peerFirst) {
        peer.end();
        await told.until("end");
        expect(opened.write(Buffer.from("late"), 0, 4)).toBe(4);
        opened.shutdown();
      } else {
        opened.shutdown();
        await eventually(() => peerEnded);
        peer.end("late");
        await told.until("end");
        expect(told.bytes).toBe(4);
      }
      await told.until("close");
      expect(told.events).toEqual(["open", "end", "close"]);
      expect(opened.write(Buffer.from("x"), 0, 1)).toBe(-1);
    }
  });

  test("tells a reset, also while it is paused or has nothing to read", async () => {
    for (const paused of [true, false]) {
      const told = new Told();
      const { port } = listenFor(told);
      const peer = peerAt(port);
      await told.until("open");
      if (paused) told.opened.pause();
      peer.resetAndDestroy();
      await told.until("close");
      expect(told.events.filter((event) => event === "close")).toHaveLength(1);
    }
  });

  test("says nothing of bytes while it is paused, and all of them after", async () => {
    const told = new Told();
    const { port } = listenFor(told);
    const peer = peerAt(port);
    await told.until("open");
    told.opened.pause();
    peer.end("x".repeat(200_000));
    await Bun.sleep(30);
    expect(told.bytes).toBe(0);
    told.opened.resume();
    await told.until("end");
    expect(told.bytes).toBe(200_000);
    told.opened.terminate();
  });

  test("that is terminated is a reset for its peer", async () => {
    const told = new Told();
    const { port } = listenFor(told);
    const peer = peerAt(port);
    let code = "";
    peer.on("error", (error: NodeJS.ErrnoException) => {
      code = error.code ?? "";
    });
    await told.until("open");
    told.opened.terminate();
    expect(told.events).toEqual(["open", "close"]);
    await eventually(() => code === "ECONNRESET");
  });

  test("hears nothing of a later one that got its descriptor", async () => {
    const endpoint = await serve(null, (socket) => socket.pipe(socket));
    for (let round = 0; round < 50; round += 1) {
      const first = dial(endpoint);
      await first.until("open");
      first.opened.write(Buffer.from("one"), 0, 3);
      first.opened.terminate();
      const second = dial(endpoint);
      await second.until("open");
      second.opened.write(Buffer.from("second"), 0, 6);
      await eventually(() => second.bytes === 6);
      expect(first.bytes).toBe(0);
      expect(first.events).toEqual(["open", "close"]);
      second.opened.terminate();
    }
  });
});

test("addresses go into the kernel's form and come back", () => {
  const address = new SocketAddress();
  for (const host of ["127.0.0.1", "255.0.1.20", "::1", "2001:db8::5:1", "::ffff:1.2.3.4"]) {
    expect(address.set({ kind: "tcp", host, port: 8080 })).toBe(true);
    expect(address.read()).toBe(host);
  }
  for (const host of ["1.2.3", "a.test", "::zz", "1".repeat(100), ""]) {
    expect(address.set({ kind: "tcp", host, port: 8080 })).toBe(false);
  }
  expect(address.set({ kind: "unix", path: "/run/x.sock" })).toBe(true);
  expect(address.read()).toBe(undefined);
});

describe("a clock", () => {
  test("knows when its next timer is due", () => {
    const clock = new VirtualClock(0);
    const loopClock = new LoopClock(clock);
    expect(loopClock.dueAt).toBe(Number.POSITIVE_INFINITY);
    const fired: string[] = [];
    const late = loopClock.after(500, () => fired.push("late"));
    loopClock.after(100, () => fired.push("soon"));
    const tick = loopClock.every(200, () => fired.push("tick"));
    expect(loopClock.dueAt).toBe(100);
    clock.advance(100);
    expect(loopClock.dueAt).toBe(200);
    clock.advance(100);
    expect(loopClock.dueAt).toBe(400);
    tick.cancel();
    expect(loopClock.dueAt).toBe(500);
    late.cancel();
    expect(loopClock.dueAt).toBe(Number.POSITIVE_INFINITY);
    expect(fired).toEqual(["soon", "tick"]);
  });

  test("stands still until it goes on", () => {
    const clock = new VirtualClock(0);
    const loopClock = new LoopClock(clock);
    loopClock.stop();
    clock.advance(30);
    expect(loopClock.now()).toBe(0);
    loopClock.goOn();
    expect(loopClock.now()).toBe(30);
  });
});

describe("the loop", () => {
  test("lets Bun's own timers, files and connections go on", async () => {
    const server = Bun.serve({ port: 0, fetch: () => new Response("ok") });
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => fetch(server.url).then((answer) => answer.text())),
    );
    expect(new Set(answers)).toEqual(new Set(["ok"]));
    expect(await Bun.file("/proc/self/comm").text()).not.toBe("");
    await new Promise((resolve) => setTimeout(resolve, 5));
    await server.stop(true);
  });

  test("does what was deferred once, in order, and survives what throws", async () => {
    const done: number[] = [];
    sockets.defer(() => done.push(1));
    sockets.defer(() => {
      throw new Error("deferred");
    });
    sockets.defer(() => {
      sockets.defer(() => done.push(3));
      done.push(2);
    });
    await eventually(() => done.length === 3);
    expect(done).toEqual([1, 2, 3]);
    const told = new Told();
    told.open = () => {
      throw new Error("open");
    };
    const { port } = listenFor(told);
    peerAt(port);
    await eventually(() => problems.length === 2);
    expect(problems.splice(0).map(String)).toEqual(["Error: deferred", "Error: open"]);
  });

  test("leaves no descriptor behind", async () => {
    const endpoint = await serve(null, (socket) => socket.end("bye"));
    const before = openDescriptors();
    for (let round = 0; round < 100; round += 1) {
      const told = dial(endpoint);
      await told.until("end");
      told.opened.end();
    }
    await eventually(() => openDescriptors() <= before);
  });
});

function openDescriptors(): number {
  return [...new Bun.Glob("*").scanSync({ cwd: "/proc/self/fd", onlyFiles: false })].length;
}
