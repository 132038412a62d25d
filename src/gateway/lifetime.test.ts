import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { InstanceId } from "../model/names.ts";
import {
  appRoute,
  eventually,
  RawClient,
  type RawServer,
  type Rig,
  rawServer,
  runningOn,
  startRig,
} from "./testing/harness.ts";
import { scratchFolder } from "./testing/suite.ts";

setDefaultTimeout(30_000);

interface EchoServer {
  readonly port: number;
  readonly closes: number[];
  push(text: string): void;
  stop(): Promise<void>;
}

/** A WebSocket server that echoes; `/mute` sends half a frame and then waits. */
function echoServer(): EchoServer {
  const sockets = new Set<Bun.ServerWebSocket<undefined>>();
  const closes: number[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request, self) {
      return self.upgrade(request) ? undefined : new Response("plain");
    },
    websocket: {
      perMessageDeflate: true,
      open(socket) {
        sockets.add(socket);
      },
      message(socket, message) {
        socket.send(message);
      },
      close(socket, code) {
        sockets.delete(socket);
        closes.push(code);
      },
    },
  });
  return {
    port: server.port ?? 0,
    closes,
    push(text) {
      for (const socket of sockets) socket.send(text);
    },
    stop: () => server.stop(true),
  };
}

async function openSocket(port: number, host: string): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { host } });
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  return socket;
}

const echoed = (socket: WebSocket, text: string) =>
  new Promise((resolve) => {
    socket.onmessage = ({ data }) => resolve(data);
    socket.send(text);
  });

describe("WebSockets", () => {
  let rig: Rig;
  let echo: EchoServer;

  beforeAll(async () => {
    echo = echoServer();
    rig = await startRig({}, { limits: { tunnelDrainMs: 300 } });
  });

  afterAll(async () => {
    expect(rig.problems).toEqual([]);
    await rig.close();
    await echo.stop();
  });

  const routeTo = (name: string, port: number, draining = false) => {
    const instance = runningOn(`${name}1`, port);
    const more = draining ? { draining: [`${name}1` as InstanceId] } : {};
    rig.setApps({ [`default/${name}`]: appRoute(name, draining ? [] : [instance], more) });
    return Bun.sleep(20);
  };

  test("echo small and large messages, close with their codes", async () => {
    await routeTo("chat", echo.port);
    const socket = await openSocket(rig.port, "chat.test");
    expect(await echoed(socket, "hello")).toBe("hello");
    const large = "x".repeat(3_000_000);
    expect(await echoed(socket, large)).toBe(large);
    const closed = new Promise<CloseEvent>((resolve) => {
      socket.onclose = resolve;
    });
    socket.close(4001, "bye");
    expect((await closed).code).toBe(4001);
    await eventually(() => echo.closes.includes(4001));
  });

  test("of a draining instance get 1001, and new requests go elsewhere", async () => {
    await routeTo("drained", echo.port);
    const socket = await openSocket(rig.port, "drained.test");
    expect(await echoed(socket, "before")).toBe("before");
    const closed = new Promise<CloseEvent>((resolve) => {
      socket.onclose = resolve;
    });
    await routeTo("drained", echo.port, true);
    const event = await closed;
    expect(event.code).toBe(1001);
    expect(event.wasClean).toBe(true);
    await eventually(() => echo.closes.includes(1001));
  });

  test("the close frame waits for the end of the present frame, and nothing follows it", async () => {
    const frames = rawServer((text, socket) => {
      if (text.includes("more"))
        socket.write(Buffer.concat([Buffer.from("rest!"), Buffer.from([0x81, 1, 0x41])]));
      else {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n");
        socket.write(Buffer.from("Upgrade: websocket\r\n\r\n\x81\x08abc", "latin1"));
      }
    });
    await routeTo("frames", frames.port);
    const client = await RawClient.connect(rig.port);
    client.send(
      "GET / HTTP/1.1\r\nHost: frames.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    await client.until("abc");
    await routeTo("frames", frames.port, true);
    expect(client.received).toEndWith("\x81\x08abc");
    client.send("more");
    await client.until("rest!");
    // It never answers the close: its 300 ms run out.
    expect(await client.untilClosed()).toEndWith("\x81\x08abcrest!\x88\x02\x03\xe9");
    frames.close();
  });

  test("that are refused get the app's answer", async () => {
    const plain = rawServer((_, socket) => {
      socket.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    });
    await routeTo("refusing", plain.port);
    const client = await RawClient.connect(rig.port);
    const ask =
      "GET / HTTP/1.1\r\nHost: refusing.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(ask);
    await client.until("no");
    client.received = "";
    client.send(ask);
    await client.until("403 Forbidden");
    client.close();
    plain.close();
  });

  test("a client that goes takes its tunnel along, and so does a server", async () => {
    const back = rawServer((text, socket) => {
      if (text.endsWith("quit")) socket.end();
      else if (text.endsWith("\r\n\r\n")) {
        socket.write("HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
      }
    });
    await routeTo("tunnels", back.port);
    const ask =
      "GET / HTTP/1.1\r\nHost: tunnels.test\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
    const first = await RawClient.connect(rig.port);
    first.send(ask);
    await first.until("Upgrade: other");
    first.close();
    await eventually(() => back.seen[0]?.closed === true);
    const second = await RawClient.connect(rig.port);
    second.send(ask);
    await second.until("Upgrade: other");
    second.send("quit");
    await second.untilClosed();
    back.close();
  });
});

describe("limits", () => {
  let rig: Rig;
  let back: RawServer;

  beforeAll(async () => {
    back = rawServer((text, socket) => {
      if (text.includes("/slow")) {
        setTimeout(() => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow"), 150);
      } else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    rig = await startRig(
      { "default/a": appRoute("a", [runningOn("a1", back.port)]) },
      {
        limits: {
          headMs: 150,
          idleMs: 250,
          connectionsMax: 5,
          requestsPerConnectionMax: 3,
          lingerMs: 100,
        },
      },
    );
  });

  afterAll(async () => {
    expect(rig.problems).toEqual([]);
    await rig.close();
    back.close();
  });

  const get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

  test("a head that comes too slowly: 408, however it dribbles", async () => {
    const client = await RawClient.connect(rig.port);
    const dribble = setInterval(() => client.send("X"), 20);
    client.send("GET / HTTP/1.1\r\nX");
    expect(await client.untilClosed()).toStartWith("HTTP/1.1 408 ");
    clearInterval(dribble);
  });

  test("an idle connection is closed without a word", async () => {
    const client = await RawClient.connect(rig.port);
    client.send(get);
    await client.until("ok");
    client.received = "";
    expect(await client.untilClosed()).toBe("");
  });

  test("requests of one connection are counted", async () => {
    const client = await RawClient.connect(rig.port);
    client.send(get + get + get + get);
    const text = await client.untilClosed();
    expect(text.match(/200 OK/g)?.length).toBe(3);
    expect(text).toContain("Connection: close");
  });

  test("connections of one gateway are counted", async () => {
    await eventually(() => rig.gateway.connectionCount === 0);
    const clients = await Promise.all(Array.from({ length: 8 }, () => RawClient.connect(rig.port)));
    for (const client of clients) client.send(get);
    await eventually(() => clients.filter((client) => client.received.includes("ok")).length === 5);
    await eventually(() => clients.filter((client) => client.closed).length >= 3);
    for (const client of clients) client.close();
    await eventually(() => rig.gateway.connectionCount === 0);
    const late = await RawClient.connect(rig.port);
    late.send(get);
    await late.until("ok");
    late.close();
  });

  test("closing finishes what is in flight and takes nothing new", async () => {
    const own = await startRig({
      "default/a": appRoute("a", [runningOn("a2", back.port)]),
    });
    const busy = await RawClient.connect(own.port);
    const idle = await RawClient.connect(own.port);
    idle.send(get);
    await idle.until("ok");
    busy.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    await Bun.sleep(30);
    const closing = own.close();
    await idle.untilClosed();
    expect(await busy.untilClosed()).toEndWith("slow");
    await closing;
    expect(
      await RawClient.connect(own.port).then(
        () => "open",
        () => "refused",
      ),
    ).toBe("refused");
  });
});

describe("real back ends", () => {
  const scratch = scratchFolder();
  const children: { kill(): void }[] = [];
  let rig: Rig;

  beforeAll(async () => {
    rig = await startRig({});
  });

  afterAll(async () => {
    for (const child of children) child.kill();
    expect(rig.problems).toEqual([]);
    await rig.close();
  });

  async function start(name: string, argv: readonly string[]): Promise<void> {
    const child = Bun.spawn([...argv], { cwd: scratch, stdout: "pipe", stderr: "pipe" });
    children.push(child);
    let port = "";
    for await (const piece of child.stdout) {
      port += new TextDecoder().decode(piece);
      // To the line's end: closing its output earlier would end the program.
      if (/port \d+[^\n]*\n/.test(port)) break;
    }
    const found = Number(/port (\d+)/.exec(port)?.[1]);
    rig.setApps({
      [`default/${name}`]: appRoute(name, [runningOn(`${name}1`, found)]),
    });
    await Bun.sleep(20);
  }

  const fetchFrom = (name: string, path: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${rig.port}${path}`, {
      ...init,
      headers: { host: `${name}.test`, ...init.headers },
    });

  test("node:http, streams both ways, twenty times on one connection", async () => {
    writeFileSync(
      join(scratch, "server.js"),
      `const server = require("http").createServer((request, response) => {
        response.setHeader("x-seen", request.url);
        request.pipe(response);
      });
      server.listen(0, "127.0.0.1", () => console.log("port " + server.address().port));`,
    );
    await start("node", ["node", "server.js"]);
    const body = "z".repeat(200_000);
    for (let count = 0; count < 20; count += 1) {
      const answer = await fetchFrom("node", `/p?${count}`, { method: "POST", body });
      expect(answer.headers.get("x-seen")).toBe(`/p?${count}`);
      expect((await answer.text()).length).toBe(body.length);
    }
  });

  test("python's http.server, which speaks HTTP/1.0", async () => {
    writeFileSync(join(scratch, "file.txt"), "from python\n");
    await start("python", ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]);
    for (let count = 0; count < 5; count += 1) {
      const answer = await fetchFrom("python", "/file.txt");
      expect(await answer.text()).toBe("from python\n");
    }
    expect((await fetchFrom("python", "/none")).status).toBe(404);
    const head = await fetchFrom("python", "/file.txt", { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe("12");
  });
});
