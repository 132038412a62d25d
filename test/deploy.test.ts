import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdtempSync, rmdirSync, statfsSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cloud, type CommandResult, type DeployResult, lastJson } from "./harness/cloud.ts";
import { until } from "./harness/host.ts";
import { steadyLoad } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(60_000));

/** As `lode --help` documents them. */
const exitCodes = { refused: 6, deployFailed: 7 } as const;

const cloud = await sharedCloud();

function saying(text: string): Promise<string> {
  return cloud.folder({
    "index.ts": `export default { fetch: () => new Response(${JSON.stringify(text)}) };\n`,
  });
}

function webLoad(app: string) {
  return steadyLoad({ port: cloud.httpPort, host: cloud.host(app), clients: 4, pauseMs: 5 });
}

describe("a deploy that works", () => {
  test("`--json` ends with the line that scripts rely on", async () => {
    const deployed = await cloud.deploy(await saying("one"), "shape");
    expect(Object.keys(deployed).sort()).toEqual(["app", "durationMs", "release", "state", "url"]);
    expect(deployed).toMatchObject({
      app: "shape",
      state: "serving",
      url: `http://${cloud.host("shape")}`,
    });
    expect(Object.keys(deployed.durationMs).sort()).toEqual(["build", "start", "total", "upload"]);
    for (const durationMs of Object.values(deployed.durationMs)) {
      expect(durationMs).toBeGreaterThanOrEqual(0);
    }
  });

  test("without --json it says what was recognised, the stages and the URL", async () => {
    const said = await cloud.ok(["deploy", await saying("hi"), "--app", "talks"]);
    expect(said).toContain("index.ts");
    expect(said).toContain(`http://${cloud.host("talks")}`);
  });

  test("a redeploy under load drops nothing and ends with the new release", async () => {
    await cloud.deploy(await saying("old"), "steady");
    const load = webLoad("steady");
    await until("the load flows", () => load.requestsSoFar() > 50);
    await cloud.deploy(await saying("new"), "steady");
    expect((await cloud.get("steady")).body).toBe("new");
    const report = await load.stop();
    expect(report.errors).toEqual([]);
    expect([...report.bodies.keys()].sort()).toEqual(["new", "old"]);
  });

  test("open WebSockets get a close when their release is replaced", async () => {
    const chat = (greeting: string) =>
      cloud.folder({
        "index.ts": `export default {
          fetch(request, server) {
            return server.upgrade(request) ? undefined : new Response("no");
          },
          websocket: { open: (socket) => socket.send("${greeting}"), message() {} },
        };\n`,
      });
    await cloud.deploy(await chat("first"), "sockets");
    const client = await cloud.webSocket("sockets", "/");
    await until("the first release greets", () => client.heard.includes("first"));
    await cloud.deploy(await chat("second"), "sockets");
    await until("the old connection is closed", () => client.closeCode !== null, 40_000);
    const next = await cloud.webSocket("sockets", "/");
    await until("the second release greets", () => next.heard.includes("second"));
    next.close();
  });

  test("of concurrent deploys the last wins and none gets stuck", async () => {
    const folders = await Promise.all(["a", "b", "c", "d"].map(saying));
    await cloud.deploy(await saying("start"), "raced");
    const load = webLoad("raced");
    const results = await Promise.all(
      folders.map((folder) => cloud.cli(["deploy", folder, "--app", "raced", "--json"])),
    );
    const deployed = results.map((result) => lastJson(result.stdout) as DeployResult);
    const releases = (await json(["releases", "raced", "--json"])) as { release: string }[];
    expect(releases.length).toBeGreaterThanOrEqual(5);
    const newest = deployed.reduce((a, b) => (numberOf(a) > numberOf(b) ? a : b));
    expect(newest.state).toBe("serving");
    const winner = ["a", "b", "c", "d"][deployed.indexOf(newest)];
    expect((await cloud.get("raced")).body).toBe(winner ?? "");
    for (const result of deployed) expect(result.state).toMatch(/^(serving|superseded)$/);
    expect((await load.stop()).errors).toEqual([]);
  });
});

function numberOf(result: DeployResult): number {
  return Number(String(result.release).replace("v", ""));
}

async function json(args: readonly string[]): Promise<unknown> {
  return JSON.parse(await cloud.ok(args));
}

describe("a deploy that fails leaves the old release serving and says why", () => {
  async function failing(
    app: string,
    files: Readonly<Record<string, string>>,
  ): Promise<CommandResult> {
    await cloud.deploy(await saying("the old one"), app);
    const load = webLoad(app);
    const result = await cloud.cli(["deploy", await cloud.folder(files), "--app", app]);
    const report = await load.stop();
    expect(report.errors).toEqual([]);
    expect((await cloud.get(app)).body).toBe("the old one");
    expect(result.code).toBe(exitCodes.deployFailed);
    return result;
  }

  test("the build fails", async () => {
    const result = await failing("no-build", {
      "lode.toml": 'build = "echo about to fail && exit 3"\nrun = "./server"\n',
      server: "#!/bin/sh\nexec sleep 60\n",
    });
    expect(result.stderr + result.stdout).toContain("about to fail");
  });

  test("it crashes when it starts", async () => {
    const result = await failing("no-start", {
      "index.ts": 'throw new Error("no database here");\n',
      "lode.toml": 'run = "bun index.ts"\n',
    });
    expect(result.stderr + result.stdout).toContain("no database here");
  });

  test("a fetch module throws when it is imported", async () => {
    const result = await failing("no-import", {
      "index.ts":
        'throw new Error("broken module");\nexport default { fetch: () => new Response() };\n',
    });
    expect(result.stderr + result.stdout).toContain("broken module");
  });

  test("it never becomes healthy", async () => {
    const result = await failing("no-health", {
      "index.ts":
        'console.log("up, but ill");\n' +
        'export default { fetch: () => new Response("ill", { status: 500 }) };\n',
      "lode.toml": '[http]\nhealth = "/"\ntimeout = "2s"\n',
    });
    expect(result.stderr + result.stdout).toContain("up, but ill");
  });

  test("it never listens", async () => {
    const result = await failing("no-listen", {
      Procfile: "web: echo waiting for nothing; exec sleep 100\n",
      "lode.toml": '[http]\ntimeout = "2s"\n',
    });
    expect(result.stderr + result.stdout).toContain("waiting for nothing");
  });

  test("the release process fails", async () => {
    const result = await failing("no-release", {
      Procfile: "release: echo cannot migrate; exit 4\nweb: exec sleep 100\n",
    });
    expect(result.stderr + result.stdout).toContain("cannot migrate");
  });

  test("nothing is recognised", async () => {
    const folder = await cloud.folder({ "notes.md": "nothing to run" });
    const result = await cloud.cli(["deploy", folder, "--app", "nothing"]);
    expect(result.code).toBe(exitCodes.refused);
    for (const looked of ["package.json", "Procfile", "app.py", "index.html"]) {
      expect(result.stderr).toContain(looked);
    }
  });

  test("lode.toml has an unknown key: the nearest known one is named", async () => {
    const folder = await cloud.folder({
      "lode.toml": 'buidl = "make"\n',
      "index.html": "<p>hi</p>",
    });
    const result = await cloud.cli(["deploy", folder, "--app", "typo"]);
    expect(result.code).toBe(exitCodes.refused);
    expect(result.stderr).toMatch(/buidl[\s\S]*build/);
  });

  test("a first deploy that fails: its URL says so instead of hanging", async () => {
    const folder = await cloud.folder({ Procfile: "web: echo dead on arrival; exit 1\n" });
    expect((await cloud.cli(["deploy", folder, "--app", "stillborn"])).code).toBe(
      exitCodes.deployFailed,
    );
    expect((await cloud.get("stillborn")).status).toBe(503);
  });
});

test("rollback goes to the previous release in under a second, and back", async () => {
  await cloud.deploy(await saying("first"), "rolled");
  await cloud.deploy(await saying("second"), "rolled");
  const load = webLoad("rolled");
  const tookMs: number[] = [];
  for (const wanted of ["first", "second", "first", "second"]) {
    const back = lastJson(await cloud.ok(["rollback", "rolled", "--json"])) as DeployResult;
    expect((await cloud.get("rolled")).body).toBe(wanted);
    expect(back.state).toBe("serving");
    tookMs.push(back.durationMs.total);
  }
  expect((await load.stop()).errors).toEqual([]);
  // What else the machine does comes and goes; what Lode does is there each time.
  expect(Math.min(...tookMs)).toBeLessThan(1000);
});

describe("uploads", () => {
  test("a symlink out of the folder is refused by the CLI too", async () => {
    const folder = await saying("x");
    symlinkSync("/etc/passwd", join(folder, "passwd"));
    const result = await cloud.cli(["deploy", folder, "--app", "links"]);
    expect(result.code).not.toBe(0);
    expect(result.stderr).toContain("passwd");
  });

  test("only what is not ignored is uploaded, and only once", async () => {
    const folder = await cloud.folder({
      "index.html": "<p>shown</p>",
      "secret.txt": "hidden",
      ".gitignore": "secret.txt\n",
      "notes.txt": "hidden too",
      ".lodeignore": "notes.txt\n",
    });
    await cloud.deploy(folder, "ignoring");
    expect((await cloud.get("ignoring")).body).toContain("shown");
    expect((await cloud.get("ignoring", "/secret.txt")).status).toBe(404);
    expect((await cloud.get("ignoring", "/notes.txt")).status).toBe(404);
  });

  const digest = "a".repeat(64);
  const file = (path: string) => ({ kind: "file", path, digest, size: 1, executable: false });
  const hostile: [string, unknown[], number][] = [
    ["a path with ..", [file("../outside")], 400],
    ["an absolute path", [file("/etc/cron.d/x")], 400],
    ["a link out", [{ kind: "symlink", path: "up", target: "../../etc" }], 400],
    ["an absolute link", [{ kind: "symlink", path: "etc", target: "/etc" }], 400],
    [
      "a file under a link",
      [{ kind: "symlink", path: "a", target: "b" }, file("a/x"), { kind: "directory", path: "b" }],
      400,
    ],
    ["a device", [{ kind: "device", path: "null", major: 1, minor: 3 }], 400],
    ["a setuid bit", [{ ...file("su"), mode: 0o4755 }], 400],
    ["one path twice", [file("a"), file("a")], 400],
    ["a missing blob", [file("index.html")], 409],
    [
      "too many entries",
      Array.from({ length: 100_001 }, (_, index) => ({
        kind: "directory",
        path: `d${String(index).padStart(7, "0")}`,
      })),
      413,
    ],
  ];
  test.each(hostile)("the API refuses %s", async (_, entries, status) => {
    const response = await cloud.api("/v1/projects/default/apps/hostile/releases", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ manifest: { entries } }),
    });
    const problem = (await response.json()) as { detail: string; status: number };
    expect({ status: response.status, problem }).toMatchObject({
      status,
      problem: { status, detail: expect.any(String) },
    });
    expect(response.headers.get("content-type")).toContain("application/problem+json");
    expect((await cloud.api("/v1/projects/default/apps/hostile")).status).toBe(404);
  });

  test("the API refuses bytes that are not what their name says", async () => {
    const response = await cloud.api(`/v1/blobs/${digest}`, {
      method: "PUT",
      headers: { "content-type": "application/octet-stream" },
      body: "something else",
    });
    expect(response.status).toBe(400);
    const missing = await cloud.api("/v1/blobs/missing", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ digests: [digest] }),
    });
    expect(await missing.json()).toEqual({ missing: [digest] });
  });

  test("without a token nothing is told", async () => {
    const response = await cloud.api("/v1/status", { headers: { authorization: "Bearer no" } });
    expect(response.status).toBe(401);
  });
});

test("a full disk refuses an upload with a clear error, and lets go of what came of it", async () => {
  const small = mkdtempSync(join(tmpdir(), "lode-small-"));
  chmodSync(small, 0o755);
  const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=512M", "tmpfs", small]);
  expect(mounted.exitCode).toBe(0);
  try {
    const tight = await Cloud.start({ dataDirectory: join(small, "data") });
    try {
      const folder = await saying("fits");
      await tight.deploy(folder, "fits");
      const freeBefore = statfsSync(small).bfree;
      Bun.spawnSync(["dd", "if=/dev/urandom", `of=${folder}/large.bin`, "bs=1M", "count=450"]);
      const result = await tight.cli(["deploy", folder, "--app", "fits"]);
      expect(result.code).not.toBe(0);
      expect(result.stderr).toMatch(/full|space/i);
      expect((await tight.get("fits")).body).toBe("fits");
      const lost = freeBefore - statfsSync(small).bfree;
      expect(lost * statfsSync(small).bsize).toBeLessThan(16 << 20);
    } finally {
      expect(await tight.stop()).toEqual([]);
    }
  } finally {
    Bun.spawnSync(["umount", small]);
    rmdirSync(small);
  }
});
