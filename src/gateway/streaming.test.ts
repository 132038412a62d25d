import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "bun";
import { appRoute, eventually, RawClient, rawServer, runningOn } from "./testing/harness.ts";
import { sharedRig } from "./testing/suite.ts";

setDefaultTimeout(30_000);

const megabyte = Buffer.alloc(1024 * 1024, 0x61);

interface Source {
  readonly port: number;
  sentBytes: number;
  closed: boolean;
  close(): void;
}

/** A back end that sends as much as it can, for ever, with the framing asked for. */
function fountain(head: string): Source {
  const pour = (socket: Socket<unknown>) => {
    for (;;) {
      const written = socket.write(megabyte);
      if (written > 0) source.sentBytes += written;
      if (written < megabyte.length) return;
    }
  };
  const listener = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write(head);
        pour(socket);
      },
      drain: pour,
      close() {
        source.closed = true;
      },
    },
  });
  const source: Source = {
    port: listener.port,
    sentBytes: 0,
    closed: false,
    close: () => listener.stop(true),
  };
  return source;
}

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/digest") {
      const hasher = new Bun.CryptoHasher("md5");
      for await (const piece of request.body ?? []) hasher.update(piece as Uint8Array);
      return new Response(hasher.digest("hex"));
    }
    if (pathname === "/big") return new Response(new Uint8Array(8 * 1024 * 1024).fill(0x62));
    return new Response(request.body);
  },
});
const rig = await sharedRig(
  { "default/bun": appRoute("bun", [runningOn("bun1", server.port)]) },
  { limits: { requestBodyIdleMs: 300, firstByteMs: 400, streamIdleMs: 600, lingerMs: 200 } },
  [() => server.stop(true)],
);

async function serve(name: string, port: number): Promise<void> {
  rig.setApps({
    [`default/${name}`]: appRoute(name, [runningOn(`${name}1`, port)]),
  });
  await Bun.sleep(20);
}

describe("back-pressure", () => {
  const heads = {
    length: "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
    close: "HTTP/1.1 200 OK\r\n\r\n",
  };
  for (const [framing, head] of Object.entries(heads)) {
    test(`a client that does not read stops the instance (${framing})`, async () => {
      const source = fountain(head);
      await serve(`pour-${framing}`, source.port);
      const client = await RawClient.connect(rig.port);
      client.pause();
      client.send(`GET / HTTP/1.1\r\nHost: pour-${framing}.test\r\n\r\n`);
      await eventually(() => source.sentBytes > 0);
      await Bun.sleep(150);
      const stuckAt = source.sentBytes;
      await Bun.sleep(150);
      expect(source.sentBytes).toBe(stuckAt);
      // Only the kernel's buffers and one read's worth of ours are in between.
      expect(stuckAt).toBeLessThan(32 * 1024 * 1024);
      client.resume();
      await eventually(() => source.sentBytes > stuckAt + 4 * 1024 * 1024);
      client.close();
      await eventually(() => source.closed);
      source.close();
    });
  }

  test("an instance that does not read stops the client", async () => {
    const deaf = rawServer((_text, socket) => socket.pause());
    await serve("deaf", deaf.port);
    let sent = 0;
    const pour = (socket: Socket<undefined>) => {
      for (;;) {
        const written = socket.write(megabyte);
        if (written > 0) sent += written;
        if (written < megabyte.length) return;
      }
    };
    let text = "";
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port: rig.port,
      socket: {
        open(socket) {
          socket.write("POST / HTTP/1.1\r\nHost: deaf.test\r\nContent-Length: 9999999999\r\n\r\n");
          pour(socket);
        },
        drain: pour,
        data(_, chunk) {
          text += chunk.toString();
        },
      },
    });
    await Bun.sleep(200);
    const stuckAt = sent;
    expect(stuckAt).toBeLessThan(32 * 1024 * 1024);
    // It is given up in the end, and told.
    await eventually(() => text.includes("HTTP/1.1 504"));
    client.terminate();
    deaf.close();
  });

  test("a slow reader gets every byte of a large answer", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /big HTTP/1.1\r\nHost: bun.test\r\nConnection: close\r\n\r\n");
    for (let turn = 0; turn < 20; turn += 1) {
      client.pause();
      await Bun.sleep(5);
      client.resume();
      await Bun.sleep(1);
    }
    const text = await client.untilClosed();
    expect(text.length - text.indexOf("\r\n\r\n") - 4).toBe(8 * 1024 * 1024);
  });
});

test("a reader slower than the gateway lingers gets every byte of a last answer", async () => {
  const bytes = 3 * 1024 * 1024;
  const back = rawServer((_, socket) => {
    let sent = 0;
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`;
    const all = Buffer.concat([Buffer.from(head), Buffer.alloc(bytes, "b")]);
    const pour = () => {
      sent += Math.max(0, socket.write(all, sent, all.length - sent));
      if (sent < all.length) setTimeout(pour, 1);
    };
    pour();
  });
  await serve("parting", back.port);
  const client = await RawClient.connect(rig.port);
  client.pause();
  client.send("GET / HTTP/1.1\r\nHost: parting.test\r\nConnection: close\r\n\r\n");
  // Meanwhile all of it lies in the kernel's buffers, and the gateway wants to close.
  await Bun.sleep(800);
  client.resume();
  const text = await client.untilClosed();
  expect(text.length - text.indexOf("\r\n\r\n") - 4).toBe(bytes);
  back.close();
});

describe("uploads", () => {
  const body = Buffer.alloc(3 * 1024 * 1024 + 17, "lode");
  const digest = new Bun.CryptoHasher("md5").update(body).digest("hex");

  test("with a length arrive whole", async () => {
    const answer = await fetch(`http://127.0.0.1:${rig.port}/digest`, {
      method: "POST",
      headers: { host: "bun.test" },
      body,
    });
    expect(await answer.text()).toBe(digest);
  });

  test("chunked arrive whole", async () => {
    const client = await RawClient.connect(rig.port);
    client.send(
      "POST /digest HTTP/1.1\r\nHost: bun.test\r\nTransfer-Encoding: chunked\r\n" +
        "Connection: close\r\n\r\n",
    );
    for (let offset = 0; offset < 100_000; offset += 1000) {
      client.send(`3e8\r\n${body.toString("latin1", offset, offset + 1000)}\r\n`);
      if (offset % 10_000 === 0) await Bun.sleep(1);
    }
    client.send("0\r\n\r\n");
    const expected = new Bun.CryptoHasher("md5").update(body.subarray(0, 100_000)).digest("hex");
    expect(await client.untilClosed()).toEndWith(expected);
  });

  test("echo while they are sent", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("POST /echo HTTP/1.1\r\nHost: bun.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nfirst\r\n");
    await client.until("first");
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    await client.until("second");
    client.close();
  });

  test("a client that stops in the middle gets 408", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("POST /digest HTTP/1.1\r\nHost: bun.test\r\nContent-Length: 10\r\n\r\nhalf");
    expect(await client.untilClosed()).toContain("HTTP/1.1 408");
  });

  test("an answer before the end arrives, and the rest is thrown away", async () => {
    const hasty = rawServer((text, socket, index) => {
      if (index === 0 && text.length < 300) {
        socket.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
      }
    });
    await serve("hasty", hasty.port);
    const client = await RawClient.connect(rig.port);
    client.send("POST / HTTP/1.1\r\nHost: hasty.test\r\nContent-Length: 100000\r\n\r\nx");
    await client.until("403 Forbidden");
    client.send("y".repeat(50_000));
    expect(await client.untilClosed()).toEndWith("no");
    await eventually(() => hasty.seen.every((one) => one.closed));
    hasty.close();
  });
});

describe("clients and instances that leave or linger", () => {
  test("a client that leaves takes its request along", async () => {
    const back = rawServer(() => {});
    await serve("left", back.port);
    const client = await RawClient.connect(rig.port);
    client.send("GET / HTTP/1.1\r\nHost: left.test\r\n\r\n");
    await eventually(() => back.seen.length === 1);
    client.close();
    await eventually(() => back.seen[0]?.closed === true);
    back.close();
  });

  test("an instance that never answers: 504", async () => {
    const back = rawServer(() => {});
    await serve("mute", back.port);
    const client = await RawClient.connect(rig.port);
    client.send("GET / HTTP/1.1\r\nHost: mute.test\r\nAccept: application/json\r\n\r\n");
    await client.until("HTTP/1.1 504");
    await client.until('"status":504');
    await eventually(() => back.seen[0]?.closed === true);
    client.close();
    back.close();
  });

  test("an answer that stops in the middle is cut", async () => {
    const back = rawServer((_, socket) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    });
    await serve("stuck", back.port);
    const client = await RawClient.connect(rig.port);
    client.send("GET / HTTP/1.1\r\nHost: stuck.test\r\n\r\n");
    expect(await client.untilClosed()).toEndWith("half");
    await eventually(() => back.seen[0]?.closed === true);
    back.close();
  });

  test("server-sent events come one by one", async () => {
    const back = rawServer((_, socket) => {
      socket.write(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
      );
      let count = 0;
      const timer = setInterval(() => {
        count += 1;
        socket.write(`9\r\ndata: ${count}\n\n\r\n`);
        if (count === 3) clearInterval(timer);
      }, 30);
    });
    await serve("events", back.port);
    const client = await RawClient.connect(rig.port);
    client.send("GET / HTTP/1.1\r\nHost: events.test\r\n\r\n");
    await client.until("data: 1\n\n");
    expect(client.received).not.toContain("data: 2");
    await client.until("data: 3\n\n");
    client.close();
    back.close();
  });
});

test("pipelining without reading the answers costs no memory", async () => {
  const client = await RawClient.connect(rig.port);
  client.pause();
  const before = process.memoryUsage.rss();
  const batch = "GET /big HTTP/1.1\r\nHost: bun.test\r\n\r\n".repeat(200);
  for (let turn = 0; turn < 20; turn += 1) {
    client.send(batch);
    await Bun.sleep(10);
  }
  // 4,000 answers of 8 MB would be 32 GB; a few reads are all there may be.
  expect(process.memoryUsage.rss() - before).toBeLessThan(400 * 1024 * 1024);
  client.close();
});
