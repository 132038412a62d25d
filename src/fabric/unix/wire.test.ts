import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import type { Json } from "../../base/json.ts";
import type { Clock } from "../../base/time.ts";
import { seededRandom, VirtualClock } from "../../base/virtual.ts";
import { must } from "../contract/ledger-case.ts";
import { createMemoryWire } from "../memory/wire.ts";
import { systemClock } from "../system.ts";
import { wireContract } from "../wire.contract.ts";
import type { Message, Wire } from "../wire.ts";
import { connectWire, type WireClientOptions } from "./client.ts";
import { permissionsOf, serveWire, type WireServerOptions } from "./server.ts";

const everything = { publish: [">"], subscribe: [">"], request: [">"], respond: [">"] };
const timeoutMs = 10_000;
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function freshSocketPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "lode-wire-"));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  return join(directory, "wire.sock");
}

async function serve(options: Partial<WireServerOptions> = {}) {
  const hub = options.wire ?? createMemoryWire();
  const socketPath = options.socketPath ?? freshSocketPath();
  const permissions = permissionsOf(everything);
  const server = must(
    await serveWire({ wire: hub, socketPath, permissions, mode: 0o600, ...options }),
  );
  cleanups.push(() => server.close());
  return { hub, socketPath, server };
}

async function connected(wire: Wire, wanted = true): Promise<void> {
  await new Promise<void>((resolve) => {
    wire.onConnection((state) => {
      if (state === wanted) resolve();
    });
  });
}

async function party(socketPath: string, options: Partial<WireClientOptions> = {}): Promise<Wire> {
  const wire = connectWire({ socketPath, clock: systemClock, ...options });
  cleanups.push(() => wire.close());
  await connected(wire);
  return wire;
}

/** Until a party's frames, and what they set off, were handled by the server, and back. */
async function roundTrip(wire: Wire): Promise<void> {
  await wire.request("round.trip", null, { timeoutMs });
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let attempt = 0; !isTrue(); attempt++) {
    if (attempt > 2000) throw new Error(`not within two seconds: ${isTrue}`);
    await Bun.sleep(1);
  }
}

wireContract("unix", async () => {
  const clock = new VirtualClock();
  const { hub, socketPath, server } = await serve({ wire: createMemoryWire({ clock }) });
  const parties: Wire[] = [];
  return {
    party: async () => {
      const wire = await party(socketPath, { clock });
      parties.push(wire);
      return wire;
    },
    settle: async () => {
      for (const wire of [...parties, ...parties]) await roundTrip(wire);
    },
    elapse: async (durationMs) => {
      await clock.run(durationMs);
    },
    dispose: async () => {
      for (const wire of parties) await wire.close();
      await server.close();
      await hub.close();
    },
  };
});

describe("unix wire: socket", () => {
  test("[W15] the socket has its mode, no trace of its making, and goes with the server", async () => {
    const { socketPath, server } = await serve({ mode: 0o620 });
    expect(statSync(socketPath).mode & 0o777).toBe(0o620);
    expect(readdirSync(join(socketPath, ".."))).toEqual(["wire.sock"]);
    await server.close();
    expect(existsSync(socketPath)).toBe(false);
  });

  test("[W15] a stale socket is replaced; the old server does not take the new one away", async () => {
    const socketPath = freshSocketPath();
    writeFileSync(socketPath, "stale");
    const first = await serve({ socketPath });
    const second = await serve({ socketPath });
    await first.server.close();
    expect(existsSync(socketPath)).toBe(true);
    await roundTrip(await party(socketPath));
    expect(second.server.connections).toBe(1);
  });

  test("[W15] a path that cannot be is refused with its name", async () => {
    for (const socketPath of ["/nonexistent/wire.sock", `${tmpdir()}/${"x".repeat(120)}`]) {
      const wire = createMemoryWire();
      const permissions = permissionsOf(everything);
      const result = await serveWire({ wire, socketPath, permissions, mode: 0o600 });
      expect(result.ok ? "served" : result.error.message).toContain(socketPath);
    }
  });
});

describe("unix wire: connection", () => {
  test("[W11] comes back by itself with its subscriptions and responders", async () => {
    const clock = new VirtualClock();
    const socketPath = freshSocketPath();
    const wire = connectWire({ socketPath, clock });
    cleanups.push(() => wire.close());
    const states: boolean[] = [];
    const messages: Json[] = [];
    wire.onConnection((state) => states.push(state));
    wire.subscribe("v", ({ payload }) => messages.push(payload));
    wire.respond("who", async () => "me");
    wire.publish("v", "lost");
    const early = await wire.request("who", null, { timeoutMs });
    expect(early.ok ? "answered" : early.error.code).toBe("disconnected");
    for (let life = 1; life <= 3; life++) {
      const { hub, server } = await serve({ socketPath });
      while (states.at(-1) !== true) {
        clock.advance(2000);
        await Bun.sleep(1);
      }
      expect(must(await hub.request("who", null, { timeoutMs }))).toBe("me");
      hub.publish("v", life);
      await roundTrip(wire);
      hub.respond("never", () => new Promise<Json>(() => {}));
      const interrupted = wire.request("never", null, { timeoutMs });
      await roundTrip(wire);
      await server.close();
      const result = await interrupted;
      expect(result.ok ? "answered" : result.error.code).toBe("disconnected");
      expect((await hub.request("who", null, { timeoutMs })).ok).toBe(false);
    }
    expect(messages).toEqual([1, 2, 3]);
    expect(states).toEqual([false, true, false, true, false, true, false]);
  });

  test("[W11] back-off doubles from 50 ms to 2 s", async () => {
    const time = new VirtualClock();
    const waits: number[] = [];
    const clock: Clock = {
      now: () => time.now(),
      every: (periodMs, callback) => time.every(periodMs, callback),
      after: (delayMs, callback) => {
        waits.push(delayMs);
        return time.after(delayMs, callback);
      },
    };
    const wire = connectWire({ socketPath: freshSocketPath(), clock });
    cleanups.push(() => wire.close());
    for (let attempt = 1; attempt <= 8; attempt++) {
      await until(() => waits.length === attempt);
      time.advance(waits.at(-1) ?? 0);
    }
    expect(waits.slice(0, 8)).toEqual([50, 100, 200, 400, 800, 1600, 2000, 2000]);
  });

  test("[W9] the hub is answered when a responder's process goes away", async () => {
    const { hub, socketPath } = await serve();
    const wire = await party(socketPath);
    wire.respond("never", () => new Promise<Json>(() => {}));
    await roundTrip(wire);
    const waiting = hub.request("never", null, { timeoutMs });
    await roundTrip(wire);
    await wire.close();
    const result = await waiting;
    expect(result.ok ? "answered" : result.error.code).toBe("failed");
    await until(() => true);
    const after = await hub.request("never", null, { timeoutMs });
    expect(after.ok ? "answered" : after.error.code).toBe("noResponder");
  });
});

describe("unix wire: permissions", () => {
  test("[W14] what is not permitted is refused, and both sides are told", async () => {
    const refusedHere: string[] = [];
    const refusedThere: string[] = [];
    const { hub, socketPath } = await serve({
      permissions: permissionsOf({
        publish: ["gateway.*.load"],
        subscribe: ["routes.>"],
        request: ["routes.snapshot", "node.*.wake"],
        respond: ["gateway.g1.>"],
      }),
      onRefused: (action, subject) => refusedHere.push(`${action} ${subject}`),
    });
    const onRefused = (action: string, subject: string) =>
      refusedThere.push(`${action} ${subject}`);
    const wire = await party(socketPath, { onRefused });
    const atHub: string[] = [];
    const atParty: string[] = [];
    hub.subscribe(">", ({ subject }) => atHub.push(subject));
    hub.respond(">", async (_, subject) => subject);
    for (const pattern of ["routes.changed", ">", "secrets.*", "*.changed"]) {
      wire.subscribe(pattern, ({ subject }) => atParty.push(`${pattern} ${subject}`));
    }
    for (const pattern of ["gateway.g1.quiesce", "gateway.*.quiesce", "node.n.wake"]) {
      wire.respond(pattern, async () => pattern);
    }
    wire.publish("gateway.g1.load", 1);
    wire.publish("routes.changed", 1);
    const result = await wire.request("node.n.exec", null, { timeoutMs });
    expect(result.ok ? "answered" : result.error.code).toBe("refused");
    expect(must(await wire.request("node.n.wake", null, { timeoutMs }))).toBe("node.n.wake");
    hub.publish("routes.changed", 2);
    hub.publish("secrets.all", 2);
    await roundTrip(wire);
    expect(atHub).toEqual(["gateway.g1.load", "routes.changed", "secrets.all"]);
    expect(atParty).toEqual(["routes.changed routes.changed"]);
    const refused = [
      "subscribe >",
      "subscribe secrets.*",
      "subscribe *.changed",
      "respond gateway.*.quiesce",
      "respond node.n.wake",
      "publish routes.changed",
    ];
    expect(refusedThere).toEqual(refused);
    expect(refusedHere).toEqual([...refused, "request node.n.exec", "request round.trip"]);
    const own = await hub.request("gateway.g1.quiesce", null, { timeoutMs });
    expect(must(own)).toBe("gateway.g1.quiesce");
  });
});

/** A peer that speaks bytes, not frames. */
async function rawPeer(socketPath: string) {
  const received: Buffer[] = [];
  let isClosed = false;
  const socket: Socket<undefined> = await Bun.connect({
    unix: socketPath,
    socket: {
      data: (_, chunk) => void received.push(Buffer.from(chunk)),
      close: () => {
        isClosed = true;
      },
    },
  });
  cleanups.push(() => void socket.end());
  return { socket, isClosed: () => isClosed, received: () => Buffer.concat(received) };
}

function frame(value: unknown): Buffer {
  const body = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.byteLength);
  return Buffer.concat([length, body]);
}

const hello = frame({ op: "hello", version: 1 });

describe("unix wire: hostile clients", () => {
  const deep = "[".repeat(500_000) + "]".repeat(500_000);
  const publishDeep = `{"op":"publish","subject":"v","payload":${deep}}`;
  const hostile: Record<string, Buffer> = {
    "no greeting": frame({ op: "publish", subject: "v", payload: 1 }),
    "another version": frame({ op: "hello", version: 2 }),
    "greeted twice": Buffer.concat([hello, hello]),
    "no JSON": Buffer.concat([hello, frame("{")]),
    "no object": Buffer.concat([hello, frame("[]"), frame("null")]),
    HTTP: Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a huge length": Buffer.concat([hello, Buffer.from([0xff, 0xff, 0xff, 0xff])]),
    "an unknown operation": Buffer.concat([hello, frame({ op: "toString" })]),
    "a pattern as subject": Buffer.concat([
      hello,
      frame({ op: "publish", subject: "a.*", payload: 1 }),
    ]),
    "no payload": Buffer.concat([hello, frame({ op: "publish", subject: "a" })]),
    "nested too deep": Buffer.concat([hello, frame(publishDeep)]),
    "an endless timeout": Buffer.concat([
      hello,
      frame({ op: "request", id: 1, subject: "a", payload: 1, timeoutMs: 1e12 }),
    ]),
    "a registration twice": Buffer.concat([
      hello,
      frame({ op: "subscribe", id: 1, pattern: "a" }),
      frame({ op: "respond", id: 1, pattern: "a" }),
    ]),
    "too many registrations": Buffer.concat([
      hello,
      ...Array.from({ length: 1025 }, (_, id) => frame({ op: "subscribe", id, pattern: "a" })),
    ]),
    "too many requests": Buffer.concat([
      hello,
      ...Array.from({ length: 4097 }, (_, id) =>
        frame({ op: "request", id, subject: "never", payload: 1, timeoutMs: 60_000 }),
      ),
    ]),
  };

  for (const [name, bytes] of Object.entries(hostile)) {
    test(`[W13] ${name}: that connection is closed, another goes on`, async () => {
      const reasons: string[] = [];
      const { hub, socketPath } = await serve({ onExpelled: (reason) => reasons.push(reason) });
      hub.respond("never", () => new Promise<Json>(() => {}));
      const good = await party(socketPath);
      const peer = await rawPeer(socketPath);
      await writeAll(peer.socket, bytes, peer.isClosed);
      await until(peer.isClosed);
      expect(reasons).toHaveLength(1);
      hub.respond("q", async () => "still here");
      expect(must(await good.request("q", null, { timeoutMs }))).toBe("still here");
    });
  }

  test("[W13] random bytes never harm the server", async () => {
    const { hub, socketPath } = await serve();
    const random = seededRandom(9);
    for (let round = 0; round < 30; round++) {
      const peer = await rawPeer(socketPath);
      const noise = Buffer.from(Array.from({ length: 300 }, () => random.next() * 256));
      if (round % 3 > 0) noise.writeUInt32BE(Math.floor(random.next() * 600), 0);
      await writeAll(
        peer.socket,
        round % 2 === 0 ? Buffer.concat([hello, noise]) : noise,
        () => false,
      );
      peer.socket.end();
    }
    hub.respond("q", async () => 1);
    expect(must(await (await party(socketPath)).request("q", 0, { timeoutMs }))).toBe(1);
  });

  test("[W13] frames cut anywhere are put together again", async () => {
    const { hub, socketPath } = await serve();
    const got: Json[] = [];
    hub.subscribe("v", ({ payload }) => got.push(payload));
    const payloads = ["", "ü".repeat(300), { a: [1, 2, 3] }, 5];
    const all = Buffer.concat([
      hello,
      ...payloads.map((payload) => frame({ op: "publish", subject: "v", payload })),
    ]);
    const peer = await rawPeer(socketPath);
    for (let at = 0; at < all.length; at += 7) {
      peer.socket.write(all.subarray(at, at + 7));
      await Bun.sleep(0);
    }
    await until(() => got.length === payloads.length);
    expect(got).toEqual(payloads);
  });

  test("[W13] connections beyond the bound are closed", async () => {
    const { socketPath, server } = await serve({ connectionsMax: 2 });
    await party(socketPath);
    await party(socketPath);
    const third = await rawPeer(socketPath);
    await until(third.isClosed);
    expect(server.connections).toBe(2);
  });
});

async function writeAll(
  socket: Socket<undefined>,
  bytes: Buffer,
  isClosed: () => boolean,
): Promise<void> {
  for (let at = 0; at < bytes.length && !isClosed(); ) {
    at += Math.max(0, socket.write(bytes.subarray(at)));
    await Bun.sleep(0);
  }
}

describe("unix wire: back-pressure", () => {
  test("large messages and answers pass whole, in order, both ways", async () => {
    const { hub, socketPath } = await serve({ frameBytesMax: 8 * 1024 * 1024 });
    const wire = await party(socketPath);
    const toHub: Message[] = [];
    const toParty: Message[] = [];
    hub.subscribe("up", (message) => toHub.push(message));
    wire.subscribe("down", (message) => toParty.push(message));
    wire.respond("big", async (payload) => `${payload}`.repeat(2));
    hub.respond("big.hub", async () => "z".repeat(30 * 1024 * 1024));
    await roundTrip(wire);
    const bodies = Array.from({ length: 12 }, (_, index) => `${index}`.repeat(700_000));
    for (const body of bodies) {
      wire.publish("up", body);
      hub.publish("down", body);
    }
    const doubled = await hub.request("big", "x".repeat(2 * 1024 * 1024), { timeoutMs });
    expect(must(doubled)).toBe("x".repeat(4 * 1024 * 1024));
    const fromHub = must(await wire.request("big.hub", null, { timeoutMs }));
    expect((fromHub as string).length).toBe(30 * 1024 * 1024);
    await until(() => toHub.length === 12 && toParty.length === 12);
    expect(toHub.map(({ payload }) => payload)).toEqual(bodies);
    expect(toParty.map(({ payload }) => payload)).toEqual(bodies);
  });

  test("[W5][W16] who does not read loses the oldest, per subscription; others lose nothing", async () => {
    const dropped: string[] = [];
    const bounds = { streamFramesMax: 50, streamBytesMax: 1e9, urgentBytesMax: 1e6 };
    const { hub, socketPath } = await serve({
      outboxBounds: bounds,
      onDrop: (pattern) => dropped.push(pattern),
    });
    const good = await party(socketPath);
    const seen: Json[] = [];
    good.subscribe("logs", ({ payload }) => seen.push((payload as { n: number }).n));
    await roundTrip(good);
    const peer = await rawPeer(socketPath);
    peer.socket.pause();
    const subscribe = (id: number, pattern: string) => frame({ op: "subscribe", id, pattern });
    const there = frame({ op: "respond", id: 3, pattern: "there" });
    const subscriptions = [subscribe(1, "logs"), subscribe(2, "routes")];
    peer.socket.write(Buffer.concat([hello, ...subscriptions, there]));
    for (let code = "noResponder"; code === "noResponder"; ) {
      const result = await hub.request("there", null, { timeoutMs: 1 });
      code = result.ok ? "answered" : result.error.code;
      await Bun.sleep(1);
    }
    const text = "x".repeat(10_000);
    for (let n = 0; n < 500; n++) {
      hub.publish("logs", { n, text });
      if (n === 100) hub.publish("routes", "changed");
      await roundTrip(good);
    }
    expect(seen).toEqual(Array.from(Array(500).keys()));
    peer.socket.resume();
    await until(() => peer.received().includes('{"n":499,'));
    const numbers = [
      ...peer
        .received()
        .toString()
        .matchAll(/"n":(\d+)/g),
    ].map(([, n]) => Number(n));
    expect(dropped.length).toBe(500 - numbers.length);
    expect(dropped.every((pattern) => pattern === "logs")).toBe(true);
    expect(numbers.slice(-50)).toEqual(Array.from({ length: 50 }, (_, index) => 450 + index));
    expect(numbers).toEqual([...numbers].sort((left, right) => left - right));
    expect(peer.received().includes('"changed"')).toBe(true);
  });

  test("[W16] who does not read its answers is disconnected", async () => {
    const reasons: string[] = [];
    const { hub, socketPath } = await serve({
      outboxBounds: { streamFramesMax: 50, streamBytesMax: 1e6, urgentBytesMax: 1e6 },
      onExpelled: (reason) => reasons.push(reason),
    });
    hub.respond("big", async () => "x".repeat(400_000));
    const peer = await rawPeer(socketPath);
    peer.socket.pause();
    const ask = (id: number) =>
      frame({ op: "request", id, subject: "big", payload: null, timeoutMs: 1000 });
    const asks = Array.from({ length: 10 }, (_, id) => ask(id));
    peer.socket.write(Buffer.concat([hello, ...asks]));
    await until(() => reasons.length === 1);
    expect(reasons[0]).toContain("does not read");
  });

  test("what is too large to send is an error for its sender alone", async () => {
    let dropped = 0;
    const { hub, socketPath } = await serve({ frameBytesMax: 10_000 });
    const wire = await party(socketPath, {
      onDrop: () => {
        dropped++;
      },
    });
    const big = "x".repeat(20_000);
    wire.publish("v", big);
    expect(dropped).toBe(1);
    const result = await wire.request("v", big, { timeoutMs });
    expect(result.ok ? "answered" : result.error.message).toContain("too large");
    wire.respond("big", async () => big);
    await roundTrip(wire);
    const answer = await hub.request("big", null, { timeoutMs });
    expect(answer.ok ? "answered" : answer.error.message).toContain("too large");
    await roundTrip(wire);
  });
});
