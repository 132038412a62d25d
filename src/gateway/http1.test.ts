import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  appRoute,
  eventually,
  RawClient,
  type RawServer,
  rawServer,
  runningOn,
} from "./testing/harness.ts";
import { sharedRig } from "./testing/suite.ts";

setDefaultTimeout(30_000);

/** Answers every complete head as the path says; `/x` also waits for nothing else. */
function answer(text: string, write: (data: string) => void, end: () => void): void {
  const path = /^[A-Z]+ (\S+)/.exec(text)?.[1] ?? "";
  switch (path) {
    case "/plain":
      write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
      return;
    case "/chunked":
      write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n");
      write("3\r\nabc\r\n");
      write("2;ext=1\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n");
      return;
    case "/close":
      write("HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nuntil the end");
      end();
      return;
    case "/empty":
      write("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n");
      return;
    case "/head":
      write("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
      return;
    case "/hints":
      write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n");
      write("Content-Length: 2\r\n\r\nok");
      return;
    case "/both":
      write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
      return;
    case "/bare":
      write("HTTP/1.1 200 OK\nContent-Length: 2\n\nok");
      return;
    case "/more":
      write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n");
      return;
    case "/badchunk":
      write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
      setTimeout(() => write("zz\r\n"), 30);
      return;
    case "/short":
      write("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort");
      end();
      return;
    case "/die":
      end();
      return;
    default:
      write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
  }
}

const answered = new Map<number, number>();
const server = rawServer((text, socket, index) => {
  // One request at a time: what follows the last answered head's end.
  const from = answered.get(index) ?? 0;
  const request = text.slice(from);
  if (!request.includes(request.startsWith("POST /up") ? "0\r\n\r\n" : "\r\n\r\n")) return;
  answered.set(index, text.length);
  answer(
    text.slice(from),
    (data) => socket.write(data),
    () => socket.end(),
  );
});
const apps = { "default/raw": appRoute("raw", [runningOn("i1", server.port)]) };
const rig = await sharedRig(apps, {}, [server.close]);

async function ask(path: string, more = ""): Promise<string> {
  const client = await RawClient.connect(rig.port);
  client.send(`GET ${path} HTTP/1.1\r\nHost: raw.test\r\nConnection: close\r\n${more}\r\n`);
  return client.untilClosed();
}

describe("responses", () => {
  test("with a length keep it, byte for byte", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /plain HTTP/1.1\r\nHost: raw.test\r\n\r\n");
    await client.until("plain");
    expect(client.received).toBe("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
    client.close();
  });

  test("that are chunked pass with extensions and trailers, hop-by-hop fields gone", async () => {
    expect(await ask("/chunked")).toBe(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
        "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n",
    );
  });

  test("that end with the connection become chunked, so that a cut can be told", async () => {
    expect(await ask("/close")).toBe(
      "HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
        "d\r\nuntil the end\r\n0\r\n\r\n",
    );
  });

  test("without a body end at once and the connection goes on", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /empty HTTP/1.1\r\nHost: raw.test\r\n\r\n");
    await client.until("\r\n\r\n");
    client.send("HEAD /head HTTP/1.1\r\nHost: raw.test\r\n\r\n");
    await client.until("500\r\n\r\n");
    client.send("GET /plain HTTP/1.1\r\nHost: raw.test\r\n\r\n");
    await client.until("plain");
    client.close();
  });

  test("interim answers come through before the final one", async () => {
    expect(await ask("/hints")).toBe(
      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" +
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    );
  });

  test("to HTTP/1.0 are neither chunked nor kept open", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /chunked HTTP/1.0\r\nHost: raw.test\r\nConnection: keep-alive\r\n\r\n");
    expect(await client.untilClosed()).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde");
  });

  test("to HTTP/1.0 with a length keep the connection when asked", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /plain HTTP/1.0\r\nHost: raw.test\r\nConnection: keep-alive\r\n\r\n");
    await client.until("Connection: keep-alive\r\n\r\nplain");
    client.send("GET /plain HTTP/1.0\r\nHost: raw.test\r\n\r\n");
    expect(await client.untilClosed()).toContain("Connection: close\r\n\r\nplain");
  });
});

describe("an instance that breaks the rules", () => {
  for (const path of ["/both", "/bare", "/die"]) {
    test(`${path} is a 502 with a cause and a request id`, async () => {
      const text = await ask(path, "Accept: application/json\r\n");
      expect(text).toStartWith("HTTP/1.1 502 Bad answer from the app\r\n");
      const problem = JSON.parse(text.slice(text.indexOf("{")));
      expect(problem.status).toBe(502);
      expect(problem.detail).toContain("The app broke the connection: it");
      expect(text).toContain(`X-Request-Id: ${problem.requestId}\r\n`);
    });
  }

  test("sends more than it said: nobody else ever sees it", async () => {
    const before = server.seen.length;
    expect(await ask("/more")).toEndWith("\r\n\r\nok");
    await eventually(() => server.seen.slice(before).every((one) => one.closed));
    expect(await ask("/plain")).toEndWith("plain");
  });

  for (const path of ["/badchunk", "/short"]) {
    test(`${path}: the client's connection breaks rather than lie`, async () => {
      const text = await ask(path);
      expect(text).toContain("200 OK");
      expect(text).not.toContain("0\r\n\r\n");
    });
  }
});

describe("requests", () => {
  test("reach the instance as they were, with who asked", async () => {
    const text = await ask("/a%20b?c", "X-Forwarded-For: 6.6.6.6\r\nX-Odd:  y \r\n");
    expect(text).toContain("GET /a%20b?c HTTP/1.1\r\nHost: raw.test\r\nX-Odd:  y \r\n");
    expect(text).toContain("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n");
    expect(text).toMatch(/X-Forwarded-Host: raw\.test\r\nX-Request-Id: g0-[a-z0-9]{6}-/);
    expect(text).not.toContain("6.6.6.6");
  });

  test("in a pipeline are answered in order, errors too", async () => {
    const client = await RawClient.connect(rig.port);
    const get = (path: string, host = "raw.test") =>
      `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
    client.send(
      `${get("/plain") + get("/empty") + get("/x", "none.test") + get("/chunked")}BAD\r\n\r\n`,
    );
    const text = await client.untilClosed();
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]);
    expect(statuses).toEqual(["200", "204", "404", "200", "400"]);
  });

  test("cut into single bytes are the same requests", async () => {
    const client = await RawClient.connect(rig.port);
    const text =
      "POST /up HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n" +
      "3\r\nabc\r\n0\r\n\r\nGET /plain HTTP/1.1\r\nHost: raw.test\r\n\r\n";
    for (const byte of text) {
      client.send(byte);
      await Bun.sleep(0);
    }
    await client.until("plain");
    expect(client.received).toContain("200 OK");
    client.close();
  });

  test("of unknown hosts get a 404, and a trailing dot or capitals do not matter", async () => {
    const client = await RawClient.connect(rig.port);
    client.send("GET /plain HTTP/1.1\r\nHost: RAW.Test.:80\r\n\r\n");
    await client.until("plain");
    client.send("GET /plain HTTP/1.1\r\nHost: <b>\r\n\r\n");
    expect(await client.untilClosed()).toContain("400 Bad request");
  });
});

describe("upload", () => {
  test("a bad chunk ends in 400 and the instance never sees a complete request", async () => {
    const before = server.seen.length;
    const client = await RawClient.connect(rig.port);
    client.send(
      "POST /die HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    );
    await Bun.sleep(50);
    client.send("cXX\r\n");
    const text = await client.untilClosed();
    expect(text).toMatch(/HTTP\/1\.1 (400|502)/);
    await eventually(() => server.seen.slice(before).every((one) => one.closed));
    expect(server.seen.slice(before).some((one) => one.text.includes("0\r\n\r\n"))).toBe(false);
  });

  test("trailers stay behind, however they are cut", async () => {
    const whole =
      "POST /x HTTP/1.1\r\nHost: sum.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
      "3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n";
    const bodies: string[] = [];
    const back = rawServer((text, socket) => {
      if (!text.endsWith("0\r\n\r\n")) return;
      bodies.push(text);
      socket.end("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    });
    const instance = runningOn("i4", back.port);
    rig.setApps({ "default/sum": appRoute("sum", [instance]) });
    await Bun.sleep(10);
    for (const cut of [0, whole.length - 2, whole.length - 1, whole.length - 6, -14, -13, -12]) {
      const client = await RawClient.connect(rig.port);
      client.send(whole.slice(0, cut));
      await Bun.sleep(10);
      client.send(whole.slice(cut));
      await client.until("204 No Content");
      client.close();
    }
    expect(bodies).toHaveLength(7);
    for (const body of bodies) {
      expect(body).toEndWith("\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
      expect(body.toLowerCase()).not.toContain("trailer");
    }
    back.close();
  });

  test("a bad chunk behind an answer that has begun cuts it: no page goes into it", async () => {
    const hasty = rawServer((text, socket) => {
      if (text.endsWith("abc\r\n")) {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
      }
    });
    const instance = runningOn("i3", hasty.port);
    rig.setApps({ "default/hasty": appRoute("hasty", [instance]) });
    await Bun.sleep(10);
    const client = await RawClient.connect(rig.port);
    client.send("POST / HTTP/1.1\r\nHost: hasty.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n");
    await client.until("half");
    client.send("XX\r\n");
    expect(await client.untilClosed()).toEndWith("\r\n\r\nhalf");
    hasty.close();
  });

  test("Expect: 100-continue is the instance's to answer, and an early no arrives", async () => {
    const strict = rawServer((all, socket) => {
      const text = all.slice(all.lastIndexOf("POST"));
      if (text.includes("yes") && !text.includes("body"))
        socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      else if (text.includes("body")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      else socket.write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    });
    const instance = runningOn("i2", strict.port);
    rig.setApps({ "default/strict": appRoute("strict", [instance]) });
    const post = (path: string) =>
      `POST ${path} HTTP/1.1\r\nHost: strict.test\r\nContent-Length: 4\r\n` +
      "Expect: 100-continue\r\n\r\n";
    await Bun.sleep(10);
    const yes = await RawClient.connect(rig.port);
    yes.send(post("/yes"));
    await yes.until("HTTP/1.1 100 Continue\r\n\r\n");
    yes.send("body");
    await yes.until("HTTP/1.1 200 OK");
    yes.close();
    const no = await RawClient.connect(rig.port);
    no.send(post("/no"));
    expect(await no.untilClosed()).toStartWith("HTTP/1.1 413 Too Large");
    strict.close();
  });
});

describe("retries", () => {
  /** Answers one request a connection, then closes it the moment a second one comes. */
  function flaky(): RawServer {
    return rawServer((text, socket) => {
      if (text.split("\r\n\r\n").length > 2) socket.terminate();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce");
    });
  }

  async function second(request: string): Promise<string> {
    const back = flaky();
    const instance = runningOn(`f${back.port}`, back.port);
    rig.setApps({ "default/flaky": appRoute("flaky", [instance]) });
    await Bun.sleep(10);
    const client = await RawClient.connect(rig.port);
    client.send("GET /first HTTP/1.1\r\nHost: flaky.test\r\n\r\n");
    await client.until("once");
    client.received = "";
    client.send(request);
    await client.until(/\r\n\r\n/);
    client.close();
    back.close();
    return client.received;
  }

  test("a GET on a connection that died while idle is sent again", async () => {
    expect(await second("GET /second HTTP/1.1\r\nHost: flaky.test\r\n\r\n")).toContain("once");
  });

  test("a POST never is", async () => {
    const empty = "POST /second HTTP/1.1\r\nHost: flaky.test\r\nContent-Length: 0\r\n\r\n";
    expect(await second(empty)).toContain("HTTP/1.1 502");
  });

  test("nor a PUT whose body was sent", async () => {
    const put = "PUT /second HTTP/1.1\r\nHost: flaky.test\r\nContent-Length: 3\r\n\r\nabc";
    expect(await second(put)).toContain("HTTP/1.1 502");
  });
});
