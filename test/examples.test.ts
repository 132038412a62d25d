import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { repository, run } from "./harness/cloud.ts";
import { until } from "./harness/host.ts";
import { openRequest } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(60_000));

const examples = readdirSync(join(repository, "examples"));
const cloud = await sharedCloud({ args: ["--demo"] });

test(
  "`lode up --demo` deploys every example and prints its URL",
  async () => {
    await until(
      "every example has a line",
      () => examples.every((name) => new RegExp(`example ${name}[ :]`).test(cloud.log())),
      120_000,
    );
    expect(cloud.log()).not.toMatch(/example \S+ failed/);
    for (const name of examples) {
      expect(cloud.log()).toContain(`example ${name}: http://${cloud.host(name)}`);
    }
  },
  patienceMs(150_000),
);

describe("in use through the gateway", () => {
  test("hello", async () => {
    const answer = await cloud.get("hello", "/?name=Ann");
    expect(answer).toMatchObject({ status: 200, body: "Hello, Ann!\n" });
  });

  test("hono: JSON in and out, and an event stream that flows", async () => {
    const made = await cloud.get("hono", "/notes", {
      body: '{"text":"milk"}',
      headers: { "content-type": "application/json" },
    });
    expect(made.status).toBe(201);
    expect(JSON.parse((await cloud.get("hono", "/notes")).body)).toEqual([{ id: 1, text: "milk" }]);
    expect((await cloud.get("hono", "/notes", { body: "{" })).status).toBe(400);
    // A client that had no core meanwhile may read all of them at once.
    await until("events arrive as they are sent", async () => {
      return (await eventArrivalsMs("hono", "/clock")) > 400;
    });
  });

  test("node-http: Markdown becomes a page by its npm packages", async () => {
    const made = await cloud.get("node-http", "/", { body: "# Title\n\n*text*" });
    expect(made.status).toBe(201);
    const page = await cloud.get("node-http", made.body.trim());
    expect(page.body).toContain("<h1>Title</h1>");
    expect(page.headers.get("content-type")).toContain("text/html");
    expect((await cloud.get("node-http", "/none")).status).toBe(404);
  });

  test("python", async () => {
    expect((await cloud.get("python")).body).toMatch(/^Python on Lode, \d\d:\d\d:\d\d UTC\n$/);
  });

  test("static: files, folders, content types and 404", async () => {
    const index = await cloud.get("static");
    expect(index.status).toBe(200);
    expect(index.headers.get("content-type")).toContain("text/html");
    expect((await cloud.get("static", "/about/")).body).toContain("<h1>About</h1>");
    expect((await cloud.get("static", "/style.css")).headers.get("content-type")).toContain(
      "text/css",
    );
    expect((await cloud.get("static", "/none.html")).status).toBe(404);
    const outside = await cloud.get("static", "/../../../../etc/passwd");
    expect(outside.body).not.toContain("root:");
  });

  test("chat: two people hear one another", async () => {
    const ann = await cloud.webSocket("chat", "/room?name=Ann");
    const bob = await cloud.webSocket("chat", "/room?name=Bob");
    ann.say("hello");
    await until("Bob hears Ann", () => bob.heard.includes("Ann: hello"));
    const long = "x".repeat(200_000);
    bob.say(long);
    await until("Ann hears a long message whole", () => ann.heard.includes(`Bob: ${long}`));
    ann.close();
    await until("Bob sees Ann leave", () => bob.heard.includes("Ann left"));
    bob.close();
    expect((await cloud.get("chat")).body).toContain("<h1>Chat</h1>");
  });

  test("procfile: the worker does what web was asked", async () => {
    const asked = await cloud.get("procfile", "/", { body: "quiet" });
    expect(asked.status).toBe(202);
    const result = await until("the worker has shouted", async () => {
      const answer = await cloud.get("procfile", asked.body.trim());
      return answer.status === 200 && answer.body;
    });
    expect(result).toBe("QUIET");
    const logs = await cloud.ok(["logs", "procfile"]);
    expect(logs).toContain("the folders are there");
    expect(logs).toContain("shouted");
  });
});

/** Milliseconds between the first and the last piece of a streamed answer. */
async function eventArrivalsMs(app: string, path: string): Promise<number> {
  const arrivals: number[] = [];
  const socket = openRequest({ port: cloud.httpPort, host: cloud.host(app), path });
  socket.on("data", () => arrivals.push(performance.now()));
  await new Promise((done) => socket.on("close", done));
  return (arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0);
}

test("a compiled binary is recognised and runs", async () => {
  const folder = await cloud.folder({});
  const source = join(repository, "test/fixtures/binary/server.ts");
  const built = await run(
    [process.execPath, "build", "--compile", source, "--outfile", join(folder, "server")],
    { cwd: folder },
  );
  expect(built.code).toBe(0);
  await cloud.deploy(folder, "binary");
  expect((await cloud.get("binary")).body).toBe("compiled\n");
});

test("a jar is recognised and runs", async () => {
  const folder = await cloud.folder({});
  const classes = await cloud.folder({});
  const source = join(repository, "test/fixtures/jar/Main.java");
  const compiled = await run(["javac", "-d", classes, source]);
  expect(compiled.stderr).toBe("");
  const jar = join(folder, "server.jar");
  expect((await run(["jar", "cfe", jar, "Main", "-C", classes, "."])).code).toBe(0);
  await cloud.deploy(folder, "jar");
  expect((await cloud.get("jar")).body).toBe("from a jar\n");
});

test("requirements.txt is installed by pip, from a wheel in the folder", async () => {
  const folder = await cloud.folder({
    "requirements.txt": "./greeting-1.0-py3-none-any.whl\n",
  });
  expect((await run(["python3", join(repository, "test/fixtures/wheel.py"), folder])).code).toBe(0);
  await cp(join(repository, "examples/python/main.py"), join(folder, "main.py"));
  const main = await Bun.file(join(folder, "main.py")).text();
  await Bun.write(
    join(folder, "main.py"),
    main
      .replace("import os\n", "import os\nfrom greeting import greet\n")
      .replace('[b"Not found\\n"]', "[greet(environ['PATH_INFO']).encode()]"),
  );
  await cloud.deploy(folder, "wheel");
  expect((await cloud.get("wheel", "/you")).body).toBe("Hello /you, from a wheel");
});
