import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { exitCodes } from "./failure.ts";
import { startTestCloud, type TestCloud } from "./harness.test.ts";

let cloud: TestCloud;
let script: string;

beforeAll(async () => {
  cloud = startTestCloud();
  const here = JSON.stringify(import.meta.dir);
  const folder = cloud.folder({
    "main.ts":
      `const { buildCli } = await import(${here} + "/cli.ts");\n` +
      `const { exitProcess, processContext } = await import(${here} + "/context.ts");\n` +
      'const cli = buildCli(processContext("0.1.0"));\n' +
      "await exitProcess(await cli.run(process.argv.slice(2)));\n",
  });
  script = join(folder, "main.ts");
  await cloud.run(["deploy", cloud.folder({ "index.html": "x" }), "--app", "shop"]);
});
afterAll(() => cloud.stop());

async function lode(args: readonly string[], stdin: string | null = null, env = {}) {
  const child = Bun.spawn([process.execPath, script, ...args], {
    env: { ...process.env, LODE_DATA_DIR: cloud.dataDirectory, ...env },
    stdin: stdin === null ? "ignore" : new Blob([stdin]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

test("a child ends with its code, and everything it wrote arrives", async () => {
  expect(await lode(["apps", "-q"])).toEqual({ code: 0, stdout: "shop\n", stderr: "" });
  expect((await lode(["deply"])).code).toBe(exitCodes.usage);
  for (let index = 0; index < 5000; index++) cloud.double.log("chatty", `line ${index}`);
  const logs = await lode(["logs", "chatty", "-n", "10000"]);
  expect(logs.stdout.trimEnd().split("\n").length).toBe(5000);
});

test("a command's input, output and code pass through a pipe", async () => {
  const text = "0123456789".repeat(50_000);
  const piped = await lode(["exec", "shop", "--", "cat"], text);
  expect(piped.stdout === text).toBe(true);
  expect(piped.code).toBe(0);
  expect((await lode(["exec", "shop", "--", "exit", "42"])).code).toBe(42);
  expect((await lode(["exec", "nobody", "--", "ls"])).code).toBe(exitCodes.notRun);
});

test("a secret from a pipe, and one that is missing", async () => {
  const set = await lode(["secrets", "set", "KEY", "--app", "shop"], "hush\n");
  expect(set.code).toBe(0);
  expect(cloud.double.secrets.get("KEY")).toBe("hush");
  expect((await lode(["secrets", "set", "KEY", "--app", "shop"])).code).toBe(exitCodes.usage);
});

test("when the reader goes away, so does the command, in silence", async () => {
  const command = `"$0" "$1" logs chatty -n 10000 | head -n 1`;
  const child = Bun.spawn(["bash", "-o", "pipefail", "-c", command, process.execPath, script], {
    env: { ...process.env, LODE_DATA_DIR: cloud.dataDirectory },
    stdout: "pipe",
    stderr: "pipe",
  });
  expect(await new Response(child.stdout).text()).toContain("line 0");
  expect(await new Response(child.stderr).text()).toBe("");
  await child.exited;
});

test("a proxy for the internet does not stand before this machine", async () => {
  const env = { http_proxy: "http://127.0.0.1:1", no_proxy: "elsewhere.example" };
  expect((await lode(["apps", "-q"], null, env)).stdout).toContain("shop");
});

/** Runs on a terminal of its own (a pty made by `script`), and types `key` when asked. */
async function onTerminal(args: readonly string[], key: string | null = null) {
  const words = [process.execPath, script, ...args].map((word) => `'${word}'`);
  const command = `stty cols 80 rows 24; ${words.join(" ")}`;
  const child = Bun.spawn(["script", "-qec", command, "/dev/null"], {
    env: { ...process.env, TERM: "xterm", LODE_DATA_DIR: cloud.dataDirectory },
    stdin: "pipe",
    stdout: "pipe",
  });
  let stdout = "";
  let isTyped = key === null;
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += piece;
    if (isTyped || key === null || !stdout.includes("Remove")) continue;
    isTyped = true;
    child.stdin.write(key);
    await child.stdin.flush();
  }
  return { stdout, code: await child.exited };
}

test("on a terminal: deploy moves a line, rm asks, exec gets one", async () => {
  const folder = cloud.folder({ "index.html": "x" });
  const deployed = await onTerminal(["deploy", folder, "--app", "seen"]);
  expect(deployed.stdout).toContain("\x1b[K");
  expect(deployed.stdout).toContain("http://seen.localhost:8080");
  const kept = await onTerminal(["rm", "seen"], "n");
  expect(kept.stdout).toContain("Remove seen");
  expect(kept.code).toBe(exitCodes.failed);
  const removed = await onTerminal(["rm", "seen"], "y");
  expect(removed.stdout).toContain("removed seen");
  expect(removed.code).toBe(0);
  const ran = await onTerminal(["exec", "shop", "--", "echo", "on a terminal"]);
  expect(ran.stdout).toContain("echo on a terminal");
  expect(ran.stdout).not.toContain("\x1b[K");
});
