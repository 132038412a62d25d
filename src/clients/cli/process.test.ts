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

async function lode(args: readonly string[], stdin: string | null = null) {
  const child = Bun.spawn([process.execPath, script, ...args], {
    env: { ...process.env, LODE_DATA_DIR: cloud.dataDirectory },
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
