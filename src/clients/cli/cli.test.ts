import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildCli } from "./cli.ts";
import { processContext } from "./context.ts";
import { exitCodes } from "./failure.ts";
import { runCli, startTestCloud, type TestCloud } from "./harness.test.ts";

let cloud: TestCloud;
let site: string;

beforeAll(async () => {
  cloud = startTestCloud();
  site = cloud.folder({ "index.html": "<p>hi</p>", "a/b.txt": "b" }, "My Site");
  await cloud.run(["deploy", site, "--app", "shop"]);
});
afterAll(() => cloud.stop());

async function ok(args: readonly string[], options = {}): Promise<string> {
  const { code, stdout, stderr } = await cloud.run(args, options);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

function lastLine(text: string): Record<string, unknown> {
  return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "");
}

describe("deploy", () => {
  test("says what it uploads, what was recognised, the stages and the URL", async () => {
    const folder = cloud.folder({ "index.html": "new", "other.txt": "other" }, "fresh");
    const said = await ok(["deploy", folder]);
    expect(said).toContain("uploaded 2 of 2 files (8B of 8B)");
    expect(said).toContain("v1 of fresh, recognised as static: there is an index.html");
    expect(said).toContain("added 3 packages");
    expect(said).toContain("build: layer is ready");
    expect(said.trimEnd().split("\n").at(-1)).toBe("http://fresh.localhost:8080");
    expect(said).not.toContain("\x1b");
    expect(await ok(["deploy", folder])).toContain("uploaded 0 of 2 files");
  });

  test("--json prints one line, with the names that scripts rely on", async () => {
    const said = await ok(["deploy", site, "--json"]);
    const result = lastLine(said);
    expect(said.trimEnd().split("\n").length).toBe(1);
    expect(Object.keys(result)).toEqual(["app", "release", "url", "state", "durationMs"]);
    expect(result).toMatchObject({ app: "my-site", release: "v1", state: "serving" });
    expect(Object.keys(result["durationMs"] as object)).toEqual([
      "upload",
      "build",
      "start",
      "total",
    ]);
  });

  test("the app's name: --app, else lode.toml, else the folder", async () => {
    const folder = cloud.folder({ "index.html": "x", "lode.toml": 'app = "named"\n' });
    expect(lastLine(await ok(["deploy", folder, "--json"]))["app"]).toBe("named");
    expect(lastLine(await ok(["deploy", folder, "--app", "x", "--json"]))["app"]).toBe("x");
    expect(await ok(["releases"], { directory: folder })).toContain("v1");
    const wrong = await cloud.run(["deploy", folder, "--app", "No Good"]);
    expect(wrong.code).toBe(exitCodes.usage);
    writeFileSync(join(folder, "lode.toml"), 'ap = "named"\n');
    const typo = await cloud.run(["deploy", folder]);
    expect(typo.code).toBe(exitCodes.refused);
    expect(typo.stderr).toMatch(/lode\.toml.*ap[\s\S]*app/);
  });

  test("a failed release prints the last of its log, and why", async () => {
    const folder = cloud.folder({ "fails.txt": "" });
    const failed = await cloud.run(["deploy", folder, "--app", "sad"]);
    expect(failed.code).toBe(exitCodes.deployFailed);
    expect(failed.stderr).toBe(
      "  listening on nothing\n  Error: no luck\n" +
        "error: release v1 of sad failed: web exited with code 1 before it was healthy\n",
    );
    const asJson = await cloud.run(["deploy", folder, "--app", "sad", "--json"]);
    expect(lastLine(asJson.stdout)).toMatchObject({ state: "failed", release: "v2" });
    expect(lastLine(asJson.stderr)["error"]).toMatchObject({ remedy: null });
  });

  test("what is no folder, empty, or cannot be read is said so", async () => {
    for (const [folder, code, message] of [
      [join(site, "index.html"), exitCodes.usage, "is not a folder"],
      [join(site, "nowhere"), exitCodes.usage, "does not exist"],
      [cloud.folder({ "a.txt": "", ".lodeignore": "*\n" }), exitCodes.failed, "nothing to deploy"],
    ] as const) {
      const refused = await cloud.run(["deploy", folder, "--app", "none"]);
      expect(refused.stderr).toContain(message);
      expect(refused.code).toBe(code);
      expect(refused.stderr.trim().split("\n").length).toBe(1);
    }
  });
});

describe("looking", () => {
  test("ps --json is exactly the array that scripts rely on", async () => {
    const rows = JSON.parse(await ok(["ps", "shop", "--json"]));
    expect(rows).toEqual([
      {
        app: "shop",
        release: "v1",
        instance: "i00000000001",
        node: "here",
        state: "running",
        pid: 4711,
        restarts: 0,
        startedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        cpu: 0.25,
        memoryBytes: 3_200_000,
      },
    ]);
  });

  test("apps, ps, status and releases for people", async () => {
    expect(await ok(["apps"])).toMatch(/^shop +serving +v1 +1 +http:\/\/shop\.localhost:8080$/m);
    expect((await ok(["apps", "--quiet"])).split("\n")).toContain("shop");
    expect(await ok(["ps"])).toMatch(/^shop +v1 +i00000000001 +here +running +4711 /m);
    expect(await ok(["status"])).toMatch(/^here +alive +2 +4G /m);
    expect(JSON.parse(await ok(["status", "--json"]))).toMatchObject({ domain: "localhost" });
    expect(await ok(["releases", "shop"])).toMatch(/^v1 +serving +\S+ +admin +deploy$/m);
    expect(await ok(["open", "shop"])).toBe("http://shop.localhost:8080\n");
  });

  test("logs: text, JSON lines, and following until interrupted", async () => {
    cloud.double.log("talk", "first");
    expect(await ok(["logs", "talk"])).toMatch(/^\S+Z web\.i00000000001 first\n$/);
    expect(lastLine(await ok(["logs", "talk", "--json"]))).toMatchObject({ text: "first" });
    expect(await ok(["logs", "talk", "-n", "0"])).toBe("");
    const abort = new AbortController();
    const onOutput = (stdout: string) => {
      if (stdout.includes("second")) abort.abort();
      else if (stdout.includes("first")) setTimeout(() => cloud.double.log("talk", "second"), 20);
    };
    const said = await ok(["logs", "talk", "-f"], { interrupted: abort.signal, onOutput });
    expect(said).toContain("second");
    for (const args of [
      ["--tail", "many"],
      ["--since", "yesterday"],
    ]) {
      expect((await cloud.run(["logs", "talk", ...args])).code).toBe(exitCodes.usage);
    }
  });
});

describe("changing", () => {
  test("scale means the process that takes requests, or the named one", async () => {
    expect(await ok(["scale", "shop=3"])).toBe("shop:web has 3 instances\n");
    expect(JSON.parse(await ok(["scale", "shop:worker=2", "shop=1", "--json"]))).toEqual([
      { app: "shop", counts: { worker: 2, web: 1 } },
    ]);
    const wrong = await cloud.run(["scale", "shop"]);
    expect(wrong).toMatchObject({ code: exitCodes.usage });
    expect(wrong.stderr).toContain("APP=N");
    expect((await cloud.run(["scale", "nobody=1"])).code).toBe(exitCodes.notFound);
  });

  test("costs: each class, and what is not known yet", async () => {
    const text = await ok(["costs", "shop"]);
    expect(text).toContain("GET /");
    expect(text).toContain("1.50");
    expect(JSON.parse(await ok(["costs", "shop", "--json"]))).toEqual({
      app: "shop",
      balancedBy: "cost",
      learnedAt: "1970-01-01T00:00:01.000Z",
      idleCores: 0.0002,
      classes: [{ class: "GET /", cpuMs: 1.5, confidence: 0.9, requests: 12, reported: false }],
    });
    expect((await cloud.run(["costs", "nobody"])).code).not.toBe(0);
  });

  test("limits: three numbers, some of them, one, none", async () => {
    const limits = async (...args: string[]) =>
      JSON.parse(await ok(["limits", "shop", ...args, "--json"]));
    expect(await limits("--cpu", "0.25:2:4", "--memory", "64M::1G")).toEqual({
      app: "shop",
      cpu: { min: 0.25, max: 2, burst: 4 },
      memory: { min: 67_108_864, max: null, burst: 1_073_741_824 },
    });
    expect((await limits("--cpu", "2")).cpu).toEqual({ min: null, max: 2, burst: null });
    expect((await limits("--cpu", "-")).cpu).toEqual({ min: null, max: null, burst: null });
    expect(await ok(["limits", "shop"])).toBe(
      "cpu     no bounds\nmemory  min 64M, max -, burst 1G\n",
    );
    const wrong = await cloud.run(["limits", "shop", "--cpu", "4:2"]);
    expect(wrong).toMatchObject({ code: exitCodes.usage });
    expect(wrong.stderr).toContain("min above its max");
  });

  test("env and secrets make a release; a secret's value is never shown", async () => {
    const said = await ok(["env", "set", "A=1", "B=x=y", "--app", "shop"]);
    expect(said).toMatch(/^v\d+ of shop: serving$/m);
    await ok(["env", "unset", "A", "--app", "shop"]);
    expect(await ok(["env", "--app", "shop"])).toBe("B=x=y\n");
    expect(JSON.parse(await ok(["env", "list", "shop", "--json"]))).toEqual({ B: "x=y" });
    const secret = await ok(["secrets", "set", "KEY=-", "--app", "shop"], { stdin: "hush\n" });
    await ok(["secrets", "set", "TYPED", "--app", "shop"], { isTerminal: true });
    expect(cloud.double.secrets.get("KEY")).toBe("hush");
    expect(cloud.double.secrets.get("TYPED")).toBe("typed");
    expect(secret).not.toContain("hush");
    expect(JSON.parse(await ok(["secrets", "--app", "shop", "--json"]))).toEqual(["KEY", "TYPED"]);
    expect(lastLine(await ok(["env", "set", "A=1", "--app", "new", "--json"]))).toEqual({
      app: "new",
      release: null,
      state: null,
    });
    for (const args of [
      ["env", "set", "KEY", "--app", "shop"],
      ["env", "set", "1=2", "--app", "shop"],
      ["secrets", "set", "A", "B", "--app", "shop"],
    ]) {
      expect((await cloud.run(args, { stdin: "x" })).code).toBe(exitCodes.usage);
    }
  });

  test("rollback: the release before, or a named one", async () => {
    const folder = cloud.folder({ "index.html": "1" }, "rolled");
    await ok(["deploy", folder]);
    await ok(["deploy", folder]);
    const back = lastLine(await ok(["rollback", "--json"], { directory: folder }));
    expect(back).toMatchObject({ app: "rolled", release: "v3", state: "serving" });
    expect(await ok(["rollback", "rolled", "v1"])).toContain("serving v4 of rolled");
    expect(await ok(["rollback", "2"], { directory: folder })).toContain("serving v5 of rolled");
    expect((await cloud.run(["rollback", "rolled", "v99"])).code).toBe(exitCodes.notFound);
    expect((await cloud.run(["rollback", "rolled", "soon"])).code).toBe(exitCodes.usage);
  });

  test("rm asks on a terminal, and wants --yes elsewhere", async () => {
    await ok(["deploy", site, "--app", "doomed"]);
    const unasked = await cloud.run(["rm", "doomed"]);
    expect(unasked).toMatchObject({ code: exitCodes.usage });
    expect(unasked.stderr).toContain("--yes");
    const no = await cloud.run(["rm", "doomed"], { isTerminal: true, confirm: false });
    expect(no.code).toBe(exitCodes.failed);
    expect(await ok(["rm", "doomed", "--yes"])).toBe("removed doomed\n");
    expect((await cloud.run(["rm", "doomed", "-y"])).code).toBe(exitCodes.notFound);
  });

  test("certificates and tokens", async () => {
    const folder = cloud.folder({ "c.pem": "BEGIN CERTIFICATE", "k.pem": "k", "bad.pem": "x" });
    const options = { directory: folder };
    await ok(["certs", "add", "main", "--cert", "c.pem", "--key", "k.pem"], options);
    expect(await ok(["certs"])).toContain("a.example");
    const bad = ["certs", "add", "main", "--cert", "bad.pem", "--key", "k.pem"];
    expect((await cloud.run(bad, options)).code).toBe(exitCodes.refused);
    expect(await ok(["certs", "rm", "main"])).toBe("forgot main\n");
    const { id, token } = lastLine(await ok(["tokens", "create", "ci", "--json"]));
    expect(await ok(["apps", "-q"], { env: { LODE_TOKEN: String(token) } })).toContain("shop");
    expect(await ok(["tokens"])).toContain("ci");
    await ok(["tokens", "revoke", String(id)]);
    const revoked = await cloud.run(["apps"], { env: { LODE_TOKEN: String(token) } });
    expect(revoked.code).toBe(exitCodes.unauthorised);
  });
});

describe("exec and run", () => {
  test("arguments, streams, input and exit code pass through", async () => {
    const ran = await cloud.run(["run", "shop", "--", "echo", "-n", "--json"]);
    expect(ran).toEqual({ code: 0, stdout: "echo -n --json\n", stderr: "done\n" });
    expect((await cloud.run(["exec", "shop", "exit", "9"])).code).toBe(9);
    expect((await cloud.run(["exec", "--app", "shop", "exit", "7"])).code).toBe(7);
    const piped = await cloud.run(["exec", "shop", "--", "cat"], { stdin: "through" });
    expect(piped).toEqual({ code: 0, stdout: "through", stderr: "" });
  });

  test("what keeps the command from running has a code of its own", async () => {
    const absent = await cloud.run(["exec", "nobody", "--", "ls"]);
    expect(absent.code).toBe(exitCodes.notRun);
    expect(absent.stderr).toContain('no app "nobody"');
    const env = { LODE_API: `http://127.0.0.1:${cloud.listener.port}`, LODE_TOKEN: "wrong" };
    const refused = await cloud.run(["run", "shop", "--", "ls"], { env });
    expect(refused.code).toBe(exitCodes.notRun);
    expect(refused.stderr).toContain("token");
    expect((await cloud.run(["exec", "a", "b", "--", "ls"])).code).toBe(exitCodes.usage);
  });
});

describe("finding the cloud", () => {
  test("nobody there: one line that says where it looked and how to start one", async () => {
    for (const env of [
      { LODE_DATA_DIR: join(cloud.dataDirectory, "none") },
      { LODE_API: "http://127.0.0.1:1" },
      { LODE_API: "http://127.0.0.1:1/" },
    ]) {
      const { code, stderr } = await runCli(["apps"], { env });
      expect(code).toBe(exitCodes.unreachable);
      expect(stderr).toContain(Object.values(env)[0]?.replace(/\/$/, "") ?? "");
      expect(stderr).toContain("lode up");
      expect(stderr.trim().split("\n").length).toBe(1);
    }
    const wrong = await runCli(["apps"], { env: { LODE_API: "somewhere" } });
    expect(wrong.code).toBe(exitCodes.usage);
  });

  test("an admin token goes to its own cloud only", async () => {
    const own = `http://127.0.0.1:${cloud.listener.port}`;
    expect((await cloud.run(["apps"], { env: { LODE_API: own } })).code).toBe(0);
    let authorisation: string | null = "none came";
    const other = Bun.serve({
      port: 0,
      fetch(request) {
        authorisation = request.headers.get("authorization");
        return new Response("<h1>not lode</h1>", { headers: { "Content-Type": "text/html" } });
      },
    });
    const env = { LODE_API: `http://127.0.0.1:${other.port}` };
    const refused = await cloud.run(["apps"], { env });
    expect(authorisation).toBeNull();
    expect(refused.code).toBe(exitCodes.unreachable);
    expect(refused.stderr).toContain("is not Lode");
    await other.stop(true);
  });

  test("a damaged or unreadable endpoint file is said so", async () => {
    const directory = join(cloud.dataDirectory, "damaged");
    mkdirSync(directory);
    writeFileSync(join(directory, "endpoint.json"), "{");
    const damaged = await runCli(["apps"], { env: { LODE_DATA_DIR: directory } });
    expect(damaged).toMatchObject({ code: exitCodes.unreachable });
    expect(damaged.stderr).toContain("is not JSON");
    rmSync(directory, { recursive: true });
  });
});

describe("usage", () => {
  test("an unknown command or option names the nearest", async () => {
    const command = await cloud.run(["deply"]);
    expect(command).toMatchObject({ code: exitCodes.usage });
    expect(command.stderr).toContain("deploy");
    const option = await cloud.run(["deploy", "--ap", "x"]);
    expect(option).toMatchObject({ code: exitCodes.usage });
    expect(option.stderr).toContain("--app");
    expect((await cloud.run(["tokens", "revok", "x"])).code).toBe(exitCodes.usage);
    expect((await cloud.run([])).code).toBe(exitCodes.usage);
  });

  test("help shows the exit codes; the version is the program's", async () => {
    const help = await ok(["--help"]);
    expect(help).toContain("Exit codes:");
    expect(await ok(["--version"])).toBe("0.1.0\n");
    expect(await ok(["exec", "--help"])).toContain("[APP] [--] [COMMAND...]");
    const commands = buildCli(processContext("0")).program.commands.map((each) => each.name());
    expect(commands.length).toBeGreaterThan(15);
    for (const name of commands) expect(await ok([name, "--help"])).toContain("Examples:");
  });

  test("completion scripts are valid and know the commands", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      const script = await ok(["completion", shell]);
      expect(script).toContain("rollback");
      expect(script).toContain("unset");
    }
    const bash = await ok(["completion", "bash"]);
    const check = (line: string) => {
      const words = line.split(" ");
      const complete =
        `${bash}\nlode() { echo shop; }\nCOMP_WORDS=(${words.map((w) => `"${w}"`).join(" ")})\n` +
        `COMP_CWORD=${words.length - 1}\n_lode\necho "\${COMPREPLY[@]}"`;
      const ran = Bun.spawnSync(["bash", "-c", complete], { stdout: "pipe", stderr: "pipe" });
      expect(ran.stderr.toString()).toBe("");
      return ran.stdout.toString().trim();
    };
    expect(check("lode roll")).toBe("rollback");
    expect(check("lode env un")).toBe("unset");
    expect(check("lode logs sh")).toBe("shop");
    expect(check("lode logs --fo")).toBe("--follow");
    expect((await cloud.run(["completion", "tcsh"])).code).toBe(exitCodes.usage);
  });
});
