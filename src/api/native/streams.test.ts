import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ok } from "../../base/result.ts";
import { systemClock } from "../../fabric/system.ts";
import { createClient, type ExecEvent, type LogLine } from "./client.ts";
import { adminSecret, createDouble, dependenciesOf } from "./double.test.ts";
import { type ApiListener, serveApi } from "./server.ts";
import { defaultApiLimits } from "./services.ts";

const double = createDouble(systemClock);
const dependencies = dependenciesOf(double, {
  limits: { ...defaultApiLimits, heartbeatMs: 20 },
});
let listener: ApiListener;

beforeAll(async () => {
  listener = serveApi({ ...dependencies, port: 0 });
  const ref = { project: "default", app: "hello" } as never;
  await double.operations.deploy(ref, { manifest: { entries: [] } }, { id: "test" });
});
afterAll(() => listener.stop());

function client(token: string | null = adminSecret, port = listener.port) {
  return createClient({ apiUrl: `http://127.0.0.1:${port}`, token });
}

const query = { process: null, instance: null, since: null, tail: 100 };

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}

describe("events", () => {
  test("a deployment's events come in order and end", async () => {
    const kinds: string[] = [];
    const watched = await client().watchDeployment("hello", 1, ({ kind }) => kinds.push(kind));
    expect(watched.ok).toBe(true);
    expect(kinds).toEqual(["stage", "output", "stage", "stage", "stage", "end"]);
  });

  test("a client that comes back with the last id sees only what is after it", async () => {
    const path = "/v1/projects/default/apps/hello/releases/1/events";
    const url = `http://127.0.0.1:${listener.port}${path}`;
    const headers = { Authorization: `Bearer ${adminSecret}`, "Last-Event-ID": "5" };
    const text = await (await fetch(url, { headers })).text();
    expect(text.match(/^event: .*$/gm)).toEqual(["event: end"]);
    expect(text).toContain("id: 6");
  });

  test("following logs: the past, then the present, with signs of life between", async () => {
    double.log("hello", "past");
    const abort = new AbortController();
    const lines: LogLine[] = [];
    const following = client().followLogs("hello", query, (line) => lines.push(line), abort.signal);
    await until(() => lines.length === 1);
    await Bun.sleep(60);
    double.log("hello", "present");
    await until(() => lines.length === 2);
    abort.abort();
    expect((await following).ok).toBe(true);
    expect(lines.map(({ text }) => text)).toEqual(["past", "present"]);
  });

  test("a follower outlives a restart of the API and sees each line once", async () => {
    const own = serveApi({ ...dependencies, port: 0 });
    double.log("restarted", "one");
    const abort = new AbortController();
    const lines: string[] = [];
    const onLine = ({ text }: LogLine) => lines.push(text);
    const following = client(adminSecret, own.port).followLogs(
      "restarted",
      query,
      onLine,
      abort.signal,
    );
    await until(() => lines.length === 1);
    await own.stop();
    double.log("restarted", "two");
    const again = serveApi({ ...dependencies, port: own.port });
    await until(() => lines.length === 2);
    double.log("restarted", "three");
    await until(() => lines.length === 3);
    abort.abort();
    await following;
    expect(lines).toEqual(["one", "two", "three"]);
    await again.stop();
  });

  test("a deployment's watcher gives up on a cloud that is gone, after seconds", async () => {
    const begun = { kind: "stage", stage: "start", state: "begin", at: 1, message: "" } as const;
    const operations: typeof double.operations = {
      ...double.operations,
      async watchDeployment() {
        return ok(
          (async function* () {
            yield begun;
            await new Promise(() => {});
          })(),
        );
      },
    };
    const own = serveApi({ ...dependencies, operations, port: 0 });
    let interruptions = 0;
    const kinds: string[] = [];
    const watching = client(adminSecret, own.port).watchDeployment(
      "watched",
      1,
      ({ kind }) => void kinds.push(kind),
      () => {
        interruptions += 1;
      },
    );
    await until(() => kinds.length > 0);
    await own.stop();
    expect(await watching).toMatchObject({ ok: false, error: { message: "connection refused" } });
    expect(interruptions).toBe(1);
  }, 20_000);

  test("a first connection that fails is an error at once", async () => {
    const unreachable = await client(adminSecret, 1).watchDeployment("hello", 1, () => {});
    expect(unreachable).toMatchObject({ ok: false, error: { message: "connection refused" } });
    const absent = await client().watchDeployment("hello", 99, () => {});
    expect(absent).toMatchObject({ ok: false, error: { problem: { status: 404 } } });
  });
});

describe("exec and run", () => {
  async function collect(events: AsyncIterable<ExecEvent>) {
    const text = { stdout: "", stderr: "" };
    for await (const event of events) {
      if (event.kind === "data") text[event.stream] += Buffer.from(event.data).toString();
      else return { ...text, end: event };
    }
    throw new Error("the events have no end");
  }

  async function start(argv: readonly string[], kind: "exec" | "run" = "exec", app = "hello") {
    const channel = await client()[kind](app, { argv, instance: null, terminal: null });
    if (!channel.ok) throw new Error(JSON.stringify(channel.error));
    return channel.value;
  }

  test("output comes by stream, then the exit code", async () => {
    expect(await collect((await start(["echo", "hi"], "run")).events)).toEqual({
      stdout: "echo hi\n",
      stderr: "done\n",
      end: { kind: "exit", code: 0 },
    });
    expect((await collect((await start(["exit", "9"])).events)).end).toEqual({
      kind: "exit",
      code: 9,
    });
  });

  test("input, its end, window size and signals go in", async () => {
    const cat = await start(["cat"]);
    const bytes = new Uint8Array(300_000).map((_, index) => index % 251);
    await cat.send(bytes);
    cat.resize(100, 40);
    cat.eof();
    const parts: Buffer[] = [];
    let stderr = "";
    for await (const event of cat.events) {
      if (event.kind !== "data") break;
      if (event.stream === "stdout") parts.push(Buffer.from(event.data));
      else stderr += Buffer.from(event.data).toString();
    }
    expect(Buffer.concat(parts).equals(Buffer.from(bytes))).toBe(true);
    expect(stderr).toBe("100x40\n");
    const killed = await start(["cat"]);
    killed.signal("SIGTERM");
    expect((await collect(killed.events)).end).toEqual({ kind: "exit", code: 143 });
  });

  test("a refusal comes as a problem document", async () => {
    const { end } = await collect((await start(["sh"], "exec", "none")).events);
    expect(end).toMatchObject({ kind: "problem", problem: { status: 404, code: "notFound" } });
  });

  test("a bad frame, or a wrong token, does not get in", async () => {
    const refused = await client("wrong").exec("hello", {
      argv: [],
      instance: null,
      terminal: null,
    });
    expect(refused.ok).toBe(false);
    for (const first of ["not json", '{"kind":"start"}', '{"kind":"eof"}', new Uint8Array(3)]) {
      const socket = new WebSocket(
        `ws://127.0.0.1:${listener.port}/v1/projects/default/apps/hello/exec`,
        ["lode.exec.v1", `lode.bearer.${adminSecret}`],
      );
      const message = await new Promise<string>((resolve) => {
        socket.addEventListener("open", () => socket.send(first));
        socket.addEventListener("message", (event) => resolve(String(event.data)));
      });
      const frame = JSON.parse(message);
      expect(frame).toMatchObject({ kind: "problem", problem: { status: 400 } });
    }
  });

  test("when the client leaves, the session is closed", async () => {
    const cat = await start(["cat"]);
    cat.close();
    expect((await collect(cat.events)).end).toEqual({ kind: "lost" });
  });
});
