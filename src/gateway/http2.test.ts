import { describe, expect, setDefaultTimeout, test } from "bun:test";
import http2 from "node:http2";
import tls from "node:tls";
import { defaultGatewayLimits } from "./limits.ts";
import { makeCertificate } from "./testing/certificate.ts";
import { appRoute, eventually, rawServer, runningOn } from "./testing/harness.ts";
import { type Answer, ask, http2Session } from "./testing/http2-client.ts";
import { scratchFolder, sharedRig } from "./testing/suite.ts";

setDefaultTimeout(30_000);

const scratch = scratchFolder();

const certificate = (name: string, hosts: readonly string[]) =>
  makeCertificate(scratch, name, hosts);

const first = certificate("first", ["a.test", "raw.test"]);

const back = rawServer((all, socket) => {
  const text = all.slice(all.lastIndexOf("GET /"));
  if (text.includes("/hang") || !text.includes("\r\n\r\n")) return;
  if (text.includes("/te")) {
    socket.write("HTTP/1.1 204 None\r\nTE: gzip\r\nX-Kept: 1\r\n\r\n");
  } else if (text.includes("/trailers")) {
    socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    socket.write("3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n");
  } else if (text.includes("/cut")) {
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    setTimeout(() => socket.end(), 30);
  } else {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n`);
    socket.write(`Keep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n${text}`);
  }
});
const bun = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, server) {
    if (server.upgrade(request, { data: undefined })) return undefined;
    if (request.url.endsWith("/big")) return new Response(new Uint8Array(4 * 1024 * 1024));
    return new Response(request.body ?? "empty");
  },
  websocket: {
    message(socket, message) {
      socket.send(`echo ${message}`);
    },
  },
});
const apps = {
  "default/raw": appRoute("raw", [runningOn("r1", back.port)]),
  "default/a": appRoute("a", [runningOn("a1", bun.port)]),
  "default/b": appRoute("b", [runningOn("b1", bun.port)]),
};
const rig = await sharedRig(
  apps,
  {
    certificates: [first, certificate("wild", ["*.wild.test"])],
    limits: {
      firstByteMs: 600,
      http2: { ...defaultGatewayLimits.http2, streamsMax: 10, resetsMax: 30, settingsMax: 20 },
    },
  },
  [() => bun.stop(true), back.close],
);

const session = (host: string) => http2Session(rig.tlsPort, host);

describe("HTTP/2", () => {
  test("a request becomes HTTP/1.1, its answer HTTP/2", async () => {
    const client = session("raw.test");
    const answer = await ask(client, {
      ":path": "/a%20b?c",
      "x-odd": "y",
      "x-forwarded-for": "6.6.6.6",
      x_real_ip: "6.6.6.6",
      cookie: "a=b",
    });
    expect(answer.headers[":status"]).toBe(200);
    expect(answer.headers["set-cookie"]).toEqual(["a=1", "b=2"]);
    expect(answer.headers["keep-alive"]).toBeUndefined();
    const authority = `raw.test:${rig.tlsPort}`;
    expect(answer.body).toStartWith(`GET /a%20b?c HTTP/1.1\r\nHost: ${authority}\r\nx-odd: y\r\n`);
    expect(answer.body).toContain("cookie: a=b\r\nX-Forwarded-For: 127.0.0.1\r\n");
    expect(answer.body).toContain("X-Forwarded-Proto: https\r\n");
    expect(answer.body).not.toContain("6.6.6.6");
    expect(answer.body).not.toContain("Transfer-Encoding");
    client.close();
  });

  test("bodies of both kinds arrive", async () => {
    const client = session("a.test");
    const body = Buffer.alloc(300_000, "x");
    const post = { ":method": "POST", ":path": "/" };
    expect((await ask(client, post, body)).body.length).toBe(300_000);
    const sized = { ...post, "content-length": String(body.length) };
    expect((await ask(client, sized, body)).body.length).toBe(300_000);
    expect((await ask(client, post, "")).body).toBe("");
    expect((await ask(client, { ":path": "/big" })).body.length).toBe(4 * 1024 * 1024);
    client.close();
  });

  test("trailers come along for those who take them", async () => {
    const client = session("raw.test");
    const answer = await ask(client, { ":path": "/trailers", te: "trailers" });
    expect(answer.body).toBe("abc");
    expect(answer.trailers?.["x-sum"]).toBe("7");
    client.close();
  });

  test("what would mean more in HTTP/1.1 is refused", async () => {
    const client = session("raw.test");
    const bad: readonly Readonly<Record<string, string>>[] = [
      { ":path": "/ HTTP/1.1\r\nX: y" },
      { ":path": "nopath" },
      { ":path": "/", ":authority": "raw.test", host: "other.test" },
      { ":path": "/", ":authority": "a@b" },
      { ":path": "/", "content-length": "5" },
      { ":path": "/", content_length: "5" },
      { ":method": "GE T", ":path": "/" },
    ];
    for (const headers of bad) {
      const { headers: seen, code } = await ask(client, headers).catch(() => ({
        headers: { ":status": 400 } as Answer["headers"],
        code: 0,
      }));
      // Refused by the gateway, or by the protocol's own rules before it.
      expect(seen[":status"] ?? (code === 0 ? 200 : 400)).toBe(400);
    }
    client.close();
  });

  test("a request line longer than HTTP/1.1 may have is refused", async () => {
    const client = session("raw.test");
    const seenBefore = back.seen.length;
    const line = (length: number) => `/${"p".repeat(length - "GET / HTTP/1.1".length)}`;
    const tooLong = await ask(client, { ":path": line(8193) });
    expect([tooLong.headers[":status"], tooLong.body]).toEqual([414, expect.anything()]);
    expect(back.seen.slice(seenBefore)).toEqual([]);
    const longest = await ask(client, { ":path": line(8192) });
    expect(longest.headers[":status"]).toBe(200);
    client.close();
  });

  test("an answer's TE, which clients take for an error, stays behind", async () => {
    const client = session("raw.test");
    const { headers } = await ask(client, { ":path": "/te" });
    expect([headers[":status"], headers["x-kept"], headers["te"]]).toEqual([204, "1", undefined]);
    client.close();
  });

  test("unknown hosts and other certificates' hosts", async () => {
    const client = session("raw.test");
    expect((await ask(client, { ":path": "/", ":authority": "b.test" })).headers[":status"]).toBe(
      421,
    );
    const wild = session("x.wild.test");
    expect((await ask(wild, { ":path": "/" })).headers[":status"]).toBe(404);
    wild.close();
    client.close();
  });

  test("an app not known here is looked up while its streams wait, bodies and all", async () => {
    const lookups: string[] = [];
    const instance = runningOn("late1", bun.port);
    const route = { ...appRoute("late", [instance]), hosts: ["late.wild.test"] };
    rig.onLookUp(async (host) => {
      lookups.push(host);
      await Bun.sleep(100);
      return host === "late.wild.test" ? { key: "default/late", route, costs: null } : null;
    });
    const client = session("late.wild.test");
    const large = "x".repeat(300_000);
    const post = { ":method": "POST", ":path": "/" };
    const [answers, absent] = await Promise.all([
      Promise.all([
        ask(client, { ":path": "/" }),
        ask(client, post, large),
        ask(client, post, "y"),
      ]),
      ask(client, { ...post, ":authority": "absent.wild.test" }, large),
    ]);
    expect(answers.map(({ headers }) => headers[":status"])).toEqual([200, 200, 200]);
    expect(answers.map(({ body }) => body.length)).toEqual(["empty".length, large.length, 1]);
    expect(absent.headers[":status"]).toBe(404);
    expect((await ask(client, post, "z")).body).toBe("z");
    expect(lookups.sort()).toEqual(["absent.wild.test", "late.wild.test"]);
    client.close();
    rig.onLookUp(null);
    rig.setApps({ "default/late": null });
  });

  test("a stream that is reset while its app is looked up ends there", async () => {
    let lookups = 0;
    const instance = runningOn("gone1", back.port);
    const route = { ...appRoute("gone", [instance]), hosts: ["gone.wild.test"] };
    rig.onLookUp(async () => {
      lookups += 1;
      await Bun.sleep(100);
      return { key: "default/gone", route, costs: null };
    });
    const client = session("gone.wild.test");
    const stream = client.request({ ":path": "/never" });
    stream.on("error", () => {});
    await eventually(() => lookups === 1);
    stream.close(http2.constants.NGHTTP2_CANCEL);
    expect((await ask(client, { ":path": "/after" })).headers[":status"]).toBe(200);
    expect(lookups).toBe(1);
    expect(back.seen.map(({ text }) => text).join("")).not.toContain("/never");
    client.close();
    rig.onLookUp(null);
    rig.setApps({ "default/gone": null });
  });

  test("an answer cut in the middle resets the stream, others go on", async () => {
    const client = session("raw.test");
    const [cut, fine] = await Promise.all([
      ask(client, { ":path": "/cut" }),
      ask(client, { ":path": "/fine" }),
    ]);
    expect(cut.body).toBe("half");
    expect(cut.code).not.toBe(0);
    expect(fine.headers[":status"]).toBe(200);
    client.close();
  });

  test("an app that does not answer: 504 on its stream", async () => {
    const client = session("raw.test");
    const answer = await ask(client, { ":path": "/hang", accept: "application/json" });
    expect(answer.headers[":status"]).toBe(504);
    expect(JSON.parse(answer.body).status).toBe(504);
    client.close();
  });

  test("a stream that is reset takes its request along", async () => {
    const before = back.seen.length;
    const client = session("raw.test");
    const stream = client.request({ ":path": "/hang" });
    stream.on("error", () => {});
    await eventually(() => back.seen.length > before);
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await eventually(() => back.seen.at(-1)?.closed === true);
    client.close();
  });

  test("rapid resets end the session", async () => {
    const client = session("raw.test");
    client.on("error", () => {});
    let ended = false;
    client.on("close", () => {
      ended = true;
    });
    for (let count = 0; count < 200 && !ended; count += 1) {
      const stream = client.request({ ":path": "/hang" });
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_CANCEL);
      if (count % 5 === 0) await Bun.sleep(2);
    }
    await eventually(() => ended);
  });

  test("a flood of settings ends the session", async () => {
    const client = session("raw.test");
    client.on("error", () => {});
    let ended = false;
    client.on("close", () => {
      ended = true;
    });
    for (let count = 0; count < 200 && !ended; count += 1) {
      client.settings({ initialWindowSize: 65_535 + count });
      if (count % 5 === 0) await Bun.sleep(2);
    }
    await eventually(() => ended);
  });

  test("WebSocket (RFC 8441)", async () => {
    const client = session("a.test");
    await new Promise((resolve) => client.once("remoteSettings", resolve));
    const stream = client.request({
      ":method": "CONNECT",
      ":protocol": "websocket",
      ":path": "/chat",
      "sec-websocket-version": "13",
    });
    let status: unknown;
    let text = "";
    stream.on("response", (headers) => {
      status = headers[":status"];
    });
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    await eventually(() => status !== undefined);
    expect(status).toBe(200);
    // A masked text frame of "hi", mask 0.
    stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
    await eventually(() => text.includes("echo hi"));
    stream.close();
    client.close();
  });
});

describe("TLS", () => {
  /** The common name shown to a client that asks for `host`; null: no handshake. */
  function shownTo(host: string | undefined): Promise<string | null> {
    return new Promise((settle) => {
      const socket = tls.connect({
        port: rig.tlsPort,
        host: "127.0.0.1",
        ...(host === undefined ? {} : { servername: host }),
        rejectUnauthorized: false,
      });
      socket.on("secureConnect", () => {
        settle(String(socket.getPeerCertificate().subject?.CN));
        socket.destroy();
      });
      socket.on("error", () => settle(null));
      socket.on("close", () => settle(null));
    });
  }

  async function untilShown(host: string | undefined, name: string | null): Promise<void> {
    let shown = await shownTo(host);
    for (let attempt = 0; shown !== name && attempt < 500; attempt += 1) {
      await Bun.sleep(5);
      shown = await shownTo(host);
    }
    expect(shown).toBe(name);
  }

  /** A connection by HTTP/1.1 that names `server`, for one request after the other. */
  async function openTls(server: string | undefined) {
    const socket = tls.connect({
      ...{ port: rig.tlsPort, host: "127.0.0.1", rejectUnauthorized: false },
      ...(server === undefined ? {} : { servername: server }),
    });
    await new Promise((settle, fail) => socket.on("secureConnect", settle).on("error", fail));
    return {
      async status(host: string): Promise<number> {
        const answer = new Promise<string>((settle) => {
          socket.once("data", (chunk: Buffer) => settle(chunk.toString("latin1")));
        });
        socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
        return Number((await answer).slice(9, 12));
      },
      close: () => socket.destroy(),
    };
  }

  test("the certificate is chosen by name, wildcards too, and changes live", async () => {
    expect(await shownTo("a.test")).toBe("first");
    expect(await shownTo("X.wild.test")).toBe("wild");
    rig.setCertificates([first, certificate("second", ["b.test"])]);
    await untilShown("b.test", "second");
    expect(await shownTo("a.test")).toBe("first");
    expect(await shownTo("x.wild.test")).toBe("first");
  });

  test("who names no server, or an unknown one, gets the first certificate, live too", async () => {
    const second = certificate("second", ["b.test"]);
    rig.setCertificates([first, second]);
    await untilShown(undefined, "first");
    expect(await shownTo("nobody.test")).toBe("first");
    const kept = await openTls("a.test");
    expect(await kept.status("a.test")).toBe(200);
    rig.setCertificates([]);
    await untilShown(undefined, null);
    expect(await shownTo("a.test")).toBe(null);
    rig.setCertificates([second, first]);
    await untilShown(undefined, "second");
    expect(await shownTo("nobody.test")).toBe("second");
    expect(await shownTo("a.test")).toBe("first");
    // A connection that was there before is none of this.
    expect(await kept.status("a.test")).toBe(200);
    kept.close();
    const nameless = await openTls(undefined);
    expect(await nameless.status("a.test")).toBe(421);
    expect(await nameless.status("nobody.test")).toBe(421);
    nameless.close();
    rig.setCertificates([first, certificate("broken", ["c.test"])]);
    await untilShown(undefined, "first");
    const again = await openTls(undefined);
    expect(await again.status("a.test")).toBe(200);
    again.close();
    const unusable = { ...second, privateKey: "no key" };
    rig.setCertificates([unusable, first]);
    await eventually(() => rig.problems.length > 0);
    expect(rig.problems.splice(0)).toEqual([
      expect.stringContaining("cannot use the certificate for b.test"),
    ]);
    expect(await shownTo(undefined)).toBe("first");
  });

  test("HTTP/1.1 over TLS, many requests, and a large upload", async () => {
    const body = Buffer.alloc(2 * 1024 * 1024, "y");
    for (const payload of [undefined, body, body]) {
      const answer = await fetch(`https://127.0.0.1:${rig.tlsPort}/`, {
        method: payload === undefined ? "GET" : "POST",
        headers: { host: "a.test" },
        ...(payload === undefined ? {} : { body: payload }),
        tls: { rejectUnauthorized: false, serverName: "a.test" },
      });
      expect((await answer.arrayBuffer()).byteLength).toBe(payload?.length ?? 5);
    }
  });

  test("plain HTTP on the TLS port, and half a hello, cost nothing", async () => {
    const before = rig.gateway.connectionCount;
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: rig.tlsPort,
      socket: { data() {} },
    });
    socket.write("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    const half = await Bun.connect({
      hostname: "127.0.0.1",
      port: rig.tlsPort,
      socket: { data() {} },
    });
    half.write(Buffer.from([0x16, 0x03, 0x01]));
    await Bun.sleep(50);
    half.terminate();
    socket.terminate();
    await eventually(() => rig.gateway.connectionCount <= before);
  });
});
