import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { defaultGatewayLimits } from "./limits.ts";
import { makeCertificate } from "./testing/certificate.ts";
import { frame, headers, number32 } from "./testing/frames.ts";
import { appRoute, eventually, rawServer, runningOn, startRig } from "./testing/harness.ts";
import { ask, FrameClient, http2Session } from "./testing/http2-client.ts";
import { scratchFolder, sharedRig } from "./testing/suite.ts";

setDefaultTimeout(30_000);

const scratch = scratchFolder();
const big = 4 * 1024 * 1024;
/** How much of the endless answer the instance could write. */
let written = 0;

const limits = {
  ...{ firstByteMs: 5000, streamIdleMs: 1500, headMs: 400, idleMs: 500, lingerMs: 300 },
  http2: { ...defaultGatewayLimits.http2, streamsMax: 20 },
};

const chunk = Buffer.alloc(65_536, "z");

/** Waits until the instance can write no more: the kernel's buffers fill at their own pace. */
async function untilStuck(): Promise<void> {
  let before = -1;
  for (let round = 0; round < 20 && before !== written; round += 1) {
    before = written;
    await Bun.sleep(100);
  }
  expect(written).toBe(before);
}

const back = rawServer((all, socket) => {
  const at = Math.max(...["GET /", "POST /", "HEAD /"].map((start) => all.lastIndexOf(start)));
  const request = all.slice(at);
  if (request.includes("/deaf")) socket.pause();
  else if (request.includes("/early") && request.includes("\r\n\r\n")) {
    socket.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
  } else if (request.includes("/hints") && request.endsWith("\r\n\r\n")) {
    socket.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  } else if (request.includes("/endless") && request.endsWith("\r\n\r\n")) {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${1024 * 1024 * 1024}\r\n\r\n`);
    const fill = () => {
      for (let taken = chunk.length; taken === chunk.length; written += Math.max(0, taken)) {
        taken = socket.write(chunk);
      }
    };
    fill();
    setInterval(fill, 20).unref();
  } else if (/\r\n\r\n$/.test(request)) {
    if (request.includes("/204")) socket.write("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n");
    else if (request.startsWith("HEAD")) {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
    } else socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${request.length}\r\n\r\n${request}`);
  }
});
const bun = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  maxRequestBodySize: 1024 * 1024 * 1024,
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/big") return new Response(new Uint8Array(big));
    if (pathname === "/length") return new Response(String((await request.bytes()).length));
    return new Response(request.body ?? "empty");
  },
});
const apps = {
  "default/raw": appRoute("raw", [runningOn("r1", back.port)]),
  "default/a": appRoute("a", [runningOn("a1", bun.port)]),
};
const certificates = [makeCertificate(scratch, "all", ["a.test", "raw.test"])];
const rig = await sharedRig(apps, { certificates, limits }, [() => bun.stop(true), back.close]);

const session = (host: string, window?: number) => http2Session(rig.tlsPort, host, window);
const frames = (...pairs: readonly (readonly [number, number])[]) =>
  FrameClient.begin(rig.tlsPort, "raw.test", ...pairs);

const get = (path: string, more: readonly (readonly [string, string])[] = []) =>
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", path],
    [":authority", "raw.test"],
    ...more,
  ] as const;

const post = (path: string, more: readonly (readonly [string, string])[] = []) =>
  [[":method", "POST"], ...get(path, more).slice(1)] as readonly (readonly [string, string])[];

describe("messages", () => {
  test("without a body: 204, HEAD; with hints before", async () => {
    const client = session("raw.test");
    const empty = await ask(client, { ":path": "/204" });
    expect([empty.headers[":status"], empty.headers["x-a"], empty.body]).toEqual([204, "b", ""]);
    const head = await ask(client, { ":method": "HEAD", ":path": "/" });
    expect([head.headers["content-length"], head.body]).toEqual(["500", ""]);
    const hints = await ask(client, { ":path": "/hints" });
    expect([hints.interim, hints.headers[":status"], hints.body]).toEqual([[103], 200, "ok"]);
    client.close();
  });

  test("crumbs of a cookie become one, trailers of a request stay behind", async () => {
    const client = frames();
    const crumbs = [
      ["cookie", "a=1"],
      ["x-b", "c"],
      ["cookie", "d=2"],
    ] as const;
    client.send(headers(1, post("/x", crumbs), 4), frame(0, 0, 1, Buffer.from("hello")));
    client.send(headers(1, [["x-sum", "7"]]));
    await client.until(({ type, flags }) => type === 0 && (flags & 1) === 1);
    const text = client.dataOf(1);
    expect(text).toContain("x-b: c\r\ncookie: a=1; d=2\r\nTransfer-Encoding: chunked\r\n");
    expect(text).toEndWith("\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    client.close();
  });

  test("a body in many frames reaches the instance in few chunks", async () => {
    const client = frames();
    const crumbs = Array.from({ length: 50 }, (_, at) => frame(0, at === 49 ? 1 : 0, 1, [0x61]));
    client.send(headers(1, post("/x"), 4), ...crumbs);
    await client.until(({ type, flags }) => type === 0 && (flags & 1) === 1);
    expect(client.dataOf(1)).toEndWith(`\r\n\r\n32\r\n${"a".repeat(50)}\r\n0\r\n\r\n`);
    client.close();
  });

  test("who waits for 100 gets it", async () => {
    const client = frames();
    client.send(headers(1, post("/x", [["expect", "100-continue"]]), 4));
    await client.until(({ type }) => type === 1);
    expect(client.fields()).toEqual([":status: 100"]);
    client.send(frame(0, 1, 1, Buffer.from("go")));
    await client.until(({ type, flags }) => type === 0 && (flags & 1) === 1);
    expect(client.dataOf(1)).not.toContain("expect");
    client.close();
  });
});

describe("what is malformed resets its stream", () => {
  const base = get("/");
  const bad: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
    "uppercase name": [...base, ["X-A", "b"]],
    "name with a space": [...base, ["x a", "b"]],
    "value with a line feed": [...base, ["x-a", "b\nc: d"]],
    "value with a space at its end": [...base, ["x-a", "b "]],
    "unknown pseudo-header": [...base, [":a", "b"]],
    ":status in a request": [...base, [":status", "200"]],
    "pseudo-header after a field": [["x-a", "b"], ...base],
    "method twice": [...base, [":method", "GET"]],
    "no path": base.filter(([name]) => name !== ":path"),
    "empty path": [...base.filter(([name]) => name !== ":path"), [":path", ""]],
    "no method": base.filter(([name]) => name !== ":method"),
    "no scheme": base.filter(([name]) => name !== ":scheme"),
    connection: [...base, ["connection", "close"]],
    "transfer-encoding": [...base, ["transfer-encoding", "chunked"]],
    "te other than trailers": [...base, ["te", "gzip"]],
    "host twice": [...base, ["host", "raw.test"], ["host", "raw.test"]],
    "two lengths": [...base, ["content-length", "0"], ["content-length", "1"]],
    "a length without a body": [...base, ["content-length", "5"]],
    "a protocol without CONNECT": [...base, [":protocol", "websocket"]],
  };
  test("each of them, and nothing reaches the instance", async () => {
    const before = back.seen.map(({ text }) => text).join("").length;
    for (const [name, fields] of Object.entries(bad)) {
      const client = frames();
      client.send(headers(1, fields));
      const seen = await client.until(({ type }) => type === 3 || type === 1 || type === 7);
      expect([name, seen.type, seen.payload.readUInt32BE(0)]).toEqual([name, 3, 1]);
      client.close();
    }
    expect(back.seen.map(({ text }) => text).join("").length).toBe(before);
  });

  test("a body longer or shorter than its length", async () => {
    for (const [size, length] of [
      [6, "5"],
      [4, "5"],
      [1, "0"],
    ] as const) {
      const client = frames();
      client.send(headers(1, post("/x", [["content-length", length]]), 4));
      client.send(frame(0, 1, 1, Buffer.alloc(size, "x")));
      const seen = await client.until(({ type }) => type === 3 || type === 1);
      expect([length, seen.type]).toEqual([length, 3]);
      client.close();
    }
  });

  test("a header list beyond the limits: 431, and the connection goes on", async () => {
    const client = session("raw.test");
    const many = Object.fromEntries(Array.from({ length: 150 }, (_, at) => [`x-${at}`, "y"]));
    expect((await ask(client, { ":path": "/", ...many })).headers[":status"]).toBe(431);
    expect((await ask(client, { ":path": "/204" })).headers[":status"]).toBe(204);
    client.close();
  });
});

describe("back-pressure and deadlines", () => {
  test("a client that gives no window stops the instance, and is cut in the end", async () => {
    const client = frames([4, 1000]);
    client.send(headers(1, get("/endless")));
    await client.until(({ type }) => type === 0);
    await untilStuck();
    expect(client.dataOf(1).length).toBe(1000);
    const reset = await client.until(({ type }) => type === 3);
    expect(reset.payload.readUInt32BE(0)).toBe(2);
    await eventually(() => back.seen.at(-1)?.closed === true);
    client.close();
  });

  test("a short answer nobody takes goes too, after its exchange", async () => {
    const client = frames([4, 2]);
    client.send(headers(1, get("/x")));
    await client.until(({ type }) => type === 0);
    const reset = await client.until(({ type }) => type === 3);
    expect(reset.payload.readUInt32BE(0)).toBe(8);
    client.close();
  });

  test("a client that does not read stops the instance too", async () => {
    const client = frames([4, 0x7fff_ffff]);
    client.send(frame(8, 0, 0, number32(0x7fff_0000)), headers(1, get("/endless")));
    await client.until(({ type }) => type === 0);
    client.pause();
    await untilStuck();
    client.close();
  });

  test("an instance that does not read stops the client at its window", async () => {
    const client = frames();
    client.send(headers(1, post("/deaf"), 4));
    const window = limits.http2.streamWindowBytes;
    const returned = () =>
      client.frames
        .filter(({ type, streamId }) => type === 8 && streamId === 1)
        .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
    let sent = 0;
    // The sockets in between take some; then there must be an end, and it must last.
    for (let quiet = 0; quiet < 10 && sent < 64 * 1024 * 1024; quiet += 1) {
      for (; sent + 16_384 <= window + returned(); sent += 16_384) {
        client.send(frame(0, 0, 1, Buffer.alloc(16_384)));
        quiet = 0;
      }
      await Bun.sleep(40);
    }
    expect(sent).toBeLessThan(32 * 1024 * 1024);
    client.close();
    await eventually(() => back.seen.at(-1)?.closed === true);
  });

  test("large bodies both ways, many at once", async () => {
    const client = session("a.test");
    const body = Buffer.alloc(big, "u");
    const answers = await Promise.all([
      ...Array.from({ length: 4 }, () => ask(client, { ":path": "/big" })),
      ...Array.from({ length: 4 }, () =>
        ask(client, { ":method": "POST", ":path": "/length" }, body),
      ),
      ask(client, { ":method": "POST", ":path": "/echo" }, body),
    ]);
    for (const answer of answers.slice(0, 4)) expect(answer.body.length).toBe(big);
    for (const answer of answers.slice(4, 8)) expect(answer.body).toBe(String(big));
    expect(answers[8]?.body === body.toString("latin1")).toBe(true);
    client.close();
  });

  test("an answer before the body's end: the rest is not wanted, and harms nothing", async () => {
    const client = frames();
    client.send(headers(1, post("/early"), 4));
    const end = await client.until(({ type, flags }) => type === 0 && (flags & 1) === 1);
    expect(end.payload.toString()).toBe("big");
    const reset = await client.until(({ type }) => type === 3);
    expect(reset.payload.readUInt32BE(0)).toBe(0);
    client.send(frame(0, 0, 1, Buffer.alloc(9)), frame(0, 1, 1), headers(3, get("/204")));
    await client.until(({ type, streamId }) => type === 1 && streamId === 3);
    client.close();
  });

  test("half a preface, half a frame, half a header block: closed", async () => {
    const halves = [
      [Buffer.from("PRI * HT")],
      [frame(6, 0, 0, Buffer.alloc(8)).subarray(0, 12)],
      [headers(1, get("/"), 1)],
    ];
    for (const [at, bytes] of halves.entries()) {
      const client = at === 0 ? new FrameClient(rig.tlsPort, "raw.test") : frames();
      client.send(...bytes);
      await client.untilClosed();
    }
  });

  test("an idle connection is told, then closed", async () => {
    const client = frames();
    const first = await client.until(({ type }) => type === 7);
    expect(first.payload.readUInt32BE(4)).toBe(0);
    const ping = await client.until(({ type, flags }) => type === 6 && flags === 0);
    client.send(frame(6, 1, 0, ping.payload));
    await eventually(() => client.frames.filter(({ type }) => type === 7).length === 2);
    await client.untilClosed();
    const mute = frames();
    await mute.untilClosed();
  });
});

test("clients that change their minds leave nothing behind", async () => {
  const before = rig.gateway.connectionCount;
  const body = Buffer.alloc(300_000, "u");
  for (let round = 0; round < 4; round += 1) {
    const client = session("a.test");
    client.on("error", () => {});
    const ends: Promise<unknown>[] = [];
    for (let at = 0; at < 20; at += 1) {
      const isPost = at % 3 === 0;
      const head = { ":method": isPost ? "POST" : "GET", ":path": at % 2 === 0 ? "/big" : "/echo" };
      if (at % 4 === 3) {
        ends.push(ask(client, head, isPost ? body : undefined));
        continue;
      }
      const stream = client.request(head, { endStream: !isPost });
      stream.on("error", () => {});
      stream.on("data", () => stream.close(8));
      if (isPost) stream.write(body);
      setTimeout(() => stream.close(8), (at * 7) % 40);
      ends.push(new Promise((resolve) => stream.on("close", resolve)));
    }
    if (round % 2 === 0) await Promise.all(ends);
    client.destroy();
  }
  await eventually(() => rig.gateway.connectionCount <= before);
  const client = session("a.test");
  expect((await ask(client, { ":path": "/big" })).body.length).toBe(big);
  client.close();
});

test("closing the gateway answers what is under way", async () => {
  const slow = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch() {
      await Bun.sleep(300);
      return new Response("in time");
    },
  });
  const own = await startRig(
    { "default/a": appRoute("a", [runningOn("s1", slow.port)]) },
    { certificates: [makeCertificate(scratch, "own", ["a.test"])], limits: { closeMs: 5000 } },
  );
  const client = http2Session(own.tlsPort, "a.test");
  const asked = ask(client, { ":path": "/" });
  await Bun.sleep(100);
  const closing = own.close();
  expect((await asked).body).toBe("in time");
  await closing;
  expect(own.problems).toEqual([]);
  await slow.stop(true);
});
