import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { World } from "../../../sim/world.ts";
import { type ApiListener, serveApi } from "../../api/native/server.ts";
import { defaultApiLimits } from "../../api/native/services.ts";
import { seededRandom } from "../../base/virtual.ts";
import { systemClock } from "../../fabric/system.ts";
import { openTokens } from "../../identity/local/tokens.ts";
import { exitCodes } from "./failure.ts";
import { runCli, startTestCloud, type TestCloud } from "./harness.test.ts";

// The command line over HTTP to the real control, with nodes that only pretend to run things.

setDefaultTimeout(30_000);

const hello = { "app.ts": 'export default { fetch: () => new Response("hi") };\n' };

let world: World;
let listener: ApiListener;
let token: string;
let folders: TestCloud;
let stopped = false;
let running: Promise<void>;

beforeAll(async () => {
  world = new World({
    fateOf: ({ app, release }) =>
      app === "ill" && release === 2
        ? { kind: "fails", reason: "web exited with code 1" }
        : { kind: "healthy" },
  });
  await world.start();
  const tokens = await openTokens({ ledger: world.ledger, clock: world.clock });
  if (!tokens.ok) throw new Error(tokens.error);
  const roles = ["admin"] as const;
  const made = await tokens.value.create({ name: "first", roles, expiresAt: null });
  if (!made.ok) throw new Error(made.error.message);
  token = made.value.token;
  listener = serveApi({
    operations: world.control.operations,
    tokens: tokens.value,
    authenticator: tokens.value,
    clock: systemClock,
    random: seededRandom(5),
    settings: { version: "0.1.0", hostNames: [], limits: defaultApiLimits },
    log: () => {},
    port: 0,
  });
  folders = startTestCloud();
  running = (async () => {
    while (!stopped) {
      await world.clock.run(10);
      await Bun.sleep(1);
    }
  })();
});

afterAll(async () => {
  stopped = true;
  await running;
  await listener.stop();
  await folders.stop();
  await world.close();
});

function lode(args: readonly string[], options: { stdin?: string } = {}) {
  const env = { LODE_API: `http://127.0.0.1:${listener.port}`, LODE_TOKEN: token };
  return runCli(args, { ...options, env });
}

async function done(args: readonly string[], options: { stdin?: string } = {}): Promise<string> {
  const { code, stdout, stderr } = await lode(args, options);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

async function json(args: readonly string[], options: { stdin?: string } = {}) {
  const lines = (await done([...args, "--json"], options)).trimEnd().split("\n");
  return JSON.parse(lines.at(-1) ?? "");
}

test("the whole life of an app", async () => {
  const folder = folders.folder(hello, "whole");
  const said = await done(["deploy", folder]);
  expect(said).toContain("app.ts");
  expect(said.trimEnd().split("\n").at(-1)).toBe("http://whole.localhost:8080");
  const rows = await json(["ps", "whole"]);
  expect(rows).toMatchObject([{ app: "whole", release: "v1", state: "running", pid: 100 }]);

  expect(await json(["env", "set", "A=1", "--app", "whole"])).toMatchObject({
    release: "v2",
    state: "serving",
  });
  await done(["secrets", "set", "KEY", "--app", "whole"], { stdin: "hush" });
  expect(await json(["secrets", "--app", "whole"])).toEqual(["KEY"]);
  expect(await json(["env", "--app", "whole"])).toEqual({ A: "1" });
  const releases = await json(["releases", "whole"]);
  expect(releases.map((row: { release: string }) => row.release)).toEqual(["v3", "v2", "v1"]);
  expect(JSON.stringify(releases)).not.toContain("hush");

  expect(await json(["rollback", "whole", "v1"])).toMatchObject({
    release: "v4",
    state: "serving",
  });
  await done(["scale", "whole=2"]);
  const limits = await json(["limits", "whole", "--cpu", "0.5:1:2"]);
  expect(limits.cpu).toEqual({ min: 0.5, max: 1, burst: 2 });
  expect(await done(["logs", "whole"])).toContain("started");
  expect((await json(["status"])).apps).toBe(1);
  expect(await done(["rm", "whole", "--yes"])).toContain("removed whole");
  expect((await lode(["releases", "whole"])).code).toBe(exitCodes.notFound);
});

test("a release that fails says why, and the old one serves on", async () => {
  const folder = folders.folder(hello, "ill");
  await done(["deploy", folder]);
  const failed = await lode(["deploy", folder]);
  expect(failed.code).toBe(exitCodes.deployFailed);
  expect(failed.stderr).toContain("last words");
  expect(failed.stderr).toContain("web exited with code 1");
  expect(await json(["apps"])).toMatchObject([{ app: "ill", release: "v1" }]);
});

test("concurrent deploys: each ends, and the newest serves", async () => {
  const results = await Promise.all(
    ["a", "b", "c", "d"].map((text) =>
      json(["deploy", folders.folder({ ...hello, "x.txt": text }), "--app", "raced"]),
    ),
  );
  const newest = results.find(({ release }) => release === "v4");
  expect(newest.state).toBe("serving");
  for (const { state } of results) expect(["serving", "superseded"]).toContain(state);
});

test("tokens open the API until they are revoked or have expired", async () => {
  const made = await json(["tokens", "create", "ci", "--expires", "9999d"]);
  const api = `http://127.0.0.1:${listener.port}`;
  const use = () => runCli(["apps"], { env: { LODE_API: api, LODE_TOKEN: made.token } });
  expect((await use()).code).toBe(0);
  expect(await json(["tokens"])).toContainEqual({
    ...{ id: made.id, name: "ci", roles: ["admin"] },
    createdAt: expect.stringContaining("Z"),
    expiresAt: expect.stringContaining("Z"),
  });
  await done(["tokens", "revoke", made.id]);
  expect((await use()).code).toBe(exitCodes.unauthorised);
  expect((await lode(["tokens", "revoke", made.id])).code).toBe(exitCodes.notFound);
});

describe("refusals", () => {
  test("nothing recognised: what was looked for", async () => {
    const folder = folders.folder({ "notes.md": "" });
    const refused = await lode(["deploy", folder, "--app", "nothing"]);
    expect(refused.code).toBe(exitCodes.refused);
    for (const looked of ["package.json", "Procfile", "Python", "index.html"]) {
      expect(refused.stderr).toContain(looked);
    }
  });

  test("a wrong key of lode.toml: its line and the nearest one", async () => {
    const folder = folders.folder({ "lode.toml": 'buidl = "make"\n', "index.html": "" });
    const refused = await lode(["deploy", folder, "--app", "typo"]);
    expect(refused.code).toBe(exitCodes.refused);
    expect(refused.stderr).toMatch(/line 1[\s\S]*buidl[\s\S]*build/);
  });

  test("no such app, process, release or certificate", async () => {
    await done(["deploy", folders.folder(hello), "--app", "there"]);
    expect((await lode(["scale", "nobody=1"])).code).toBe(exitCodes.notFound);
    expect((await lode(["scale", "there:none=1"])).code).toBe(exitCodes.refused);
    expect((await lode(["rollback", "there", "v9"])).code).toBe(exitCodes.notFound);
    expect((await lode(["certs", "rm", "none"])).code).toBe(exitCodes.notFound);
    const bad = folders.folder({ "c.pem": "no", "k.pem": "no" });
    const args = ["certs", "add", "x", "--cert", `${bad}/c.pem`, "--key", `${bad}/k.pem`];
    expect((await lode(args)).code).toBe(exitCodes.refused);
  });
});
