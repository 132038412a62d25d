import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { run } from "./harness/cloud.ts";
import { until } from "./harness/host.ts";
import { openRequest, request } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(60_000));

const cloud = await sharedCloud({ https: true });

beforeAll(async () => {
  const folder = await cloud.folder({
    "index.ts": `export default {
      async fetch(request) {
        const url = new URL(request.url);
        if (url.pathname === "/echo") return new Response(request.body);
        if (url.pathname === "/throw") process.exit(1);
        if (url.pathname === "/headers") return Response.json(Object.fromEntries(request.headers));
        return new Response("shop");
      },
    };\n`,
    "lode.toml": '[http]\nhosts = ["shop.example.test", "other.example.test"]\n',
  });
  await cloud.deploy(folder, "shop");
}, patienceMs(60_000));

async function certificate(name: string, host: string): Promise<[string, string]> {
  const [chain, key] = [join(cloud.scratch, `${name}.pem`), join(cloud.scratch, `${name}.key`)];
  const made = await run([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-nodes", "-days", "30", "-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${host}`],
    ...["-keyout", key, "-out", chain],
  ]);
  expect(made.code).toBe(0);
  return [chain, key];
}

/** The common name shown to a client that asks for `host`, if any; null: no handshake. */
function shownTo(host: string | undefined): Promise<string | null> {
  return new Promise((settle) => {
    const socket = connect({
      port: cloud.httpsPort,
      host: "127.0.0.1",
      ...(host === undefined ? {} : { servername: host }),
      rejectUnauthorized: false,
    });
    socket.on("secureConnect", () => {
      settle(String(socket.getPeerCertificate().subject?.CN ?? ""));
      socket.destroy();
    });
    socket.on("error", () => settle(null));
  });
}

describe("hosts and TLS", () => {
  test("custom hosts reach the app; unknown ones get a page that says so", async () => {
    const custom = await request({ port: cloud.httpPort, host: "shop.example.test" });
    expect(custom.body).toBe("shop");
    const unknown = await request({ port: cloud.httpPort, host: "nobody.example.test" });
    expect(unknown.status).toBe(404);
    expect(unknown.body).toContain("nobody.example.test");
    expect([...unknown.headers.keys()].some((name) => name.includes("request-id"))).toBe(true);
  });

  test("certificates are chosen by SNI and change without a restart", async () => {
    const gateways = cloud.gatewayPids();
    const [shopChain, shopKey] = await certificate("first", "shop.example.test");
    const [otherChain, otherKey] = await certificate("wild", "*.example.test");
    await cloud.ok(["certs", "set", "shop", "--cert", shopChain, "--key", shopKey]);
    await cloud.ok(["certs", "set", "wild", "--cert", otherChain, "--key", otherKey]);
    await until("each name gets its own", async () => {
      const shop = await shownTo("shop.example.test");
      return shop === "first" && (await shownTo("other.example.test")) === "wild";
    });
    const [nextChain, nextKey] = await certificate("second", "shop.example.test");
    await cloud.ok(["certs", "set", "shop", "--cert", nextChain, "--key", nextKey]);
    await until("the new one is shown", async () => {
      return (await shownTo("shop.example.test")) === "second";
    });
    // Who names no server gets the first by name.
    await until("it is shown without a name", async () => {
      return (await shownTo(undefined)) === "second";
    });
    expect(cloud.gatewayPids()).toEqual(gateways);
    const over = await run([
      ...["curl", "-s", "--cacert", nextChain, "--noproxy", "*", "-w", " by HTTP/%{http_version}"],
      ...["--resolve", `shop.example.test:${cloud.httpsPort}:127.0.0.1`],
      `https://shop.example.test:${cloud.httpsPort}/`,
    ]);
    expect(over.stdout).toBe("shop by HTTP/2");
  });

  test("a private key that does not fit is refused", async () => {
    const [chain] = await certificate("a", "a.example.test");
    const [, key] = await certificate("b", "b.example.test");
    const result = await cloud.cli(["certs", "set", "bad", "--cert", chain, "--key", key]);
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/key/);
  });
});

describe("requests", () => {
  test("bodies stream both ways", async () => {
    const socket = openRequest({
      port: cloud.httpPort,
      host: cloud.host("shop"),
      path: "/echo",
      method: "POST",
      headers: { "transfer-encoding": "chunked" },
    });
    let heard = "";
    socket.on("data", (bytes: Buffer) => {
      heard += bytes.toString();
    });
    socket.write("5\r\nfirst\r\n");
    await until("the first piece is back before the last is sent", () => heard.includes("first"));
    socket.write("4\r\nlast\r\n0\r\n\r\n");
    await until("the last piece is back", () => heard.includes("last"));
    socket.destroy();
  });

  test("the app learns who asked, and cannot be lied to", async () => {
    const answer = await cloud.get("shop", "/headers", {
      headers: { "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "gopher" },
    });
    const seen = JSON.parse(answer.body) as Record<string, string>;
    expect(seen["x-forwarded-proto"]).toBe("http");
    expect(seen["x-forwarded-for"]).toContain("127.0.0.1");
  });

  test("an app that dies in the middle: 502 with a cause and a request id", async () => {
    const answer = await cloud.get("shop", "/throw");
    expect(answer.status).toBe(502);
    expect(answer.body).toMatch(/request/i);
    await until("it is back", async () => (await cloud.get("shop")).status === 200);
  });

  test.each([
    ["two Host headers", "GET / HTTP/1.1\r\nHost: a.localhost\r\nHost: b.localhost\r\n\r\n"],
    ["another host in the target", "GET http://a.test/ HTTP/1.1\r\nHost: b.localhost\r\n\r\n"],
    ["CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"],
    [
      "both lengths",
      "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n" +
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
  ])("the gateway refuses %s", async (_, bytes) => {
    const answer = await new Promise<string>((settle) => {
      void Bun.connect({
        hostname: "127.0.0.1",
        port: cloud.httpPort,
        socket: {
          open: (socket) => void socket.write(bytes),
          data: (socket, data) => {
            settle(data.toString());
            socket.end();
          },
          close: () => settle(""),
        },
      });
    });
    expect(answer).toMatch(/^(HTTP\/1\.1 4\d\d |$)/);
  });
});

test("the access log is JSON lines without what is private", async () => {
  await cloud.get("shop", "/seen-in-the-log");
  const line = await until("the request is logged", () => {
    const text = Bun.spawnSync([
      ...["grep", "-rhF", "/seen-in-the-log", join(cloud.dataDirectory, "gateways")],
    ]).stdout.toString();
    return text === "" ? null : text.split("\n")[0];
  });
  const entry = JSON.parse(line ?? "") as Record<string, unknown>;
  expect(entry["status"]).toBe(200);
  expect(readFileSync(join(cloud.dataDirectory, "admin.token"), "utf8").length).toBeGreaterThan(20);
});
