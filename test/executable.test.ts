import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cloud, repository, run } from "./harness/cloud.ts";
import { until } from "./harness/host.ts";
import { steadyLoad } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";

// `npm run build` makes one executable: it must be everything that a machine needs, far from
// the clone it was built in.

setDefaultTimeout(patienceMs(60_000));

let place: string;
let cloud: Cloud;

beforeAll(async () => {
  const built = await run(["npm", "run", "build"]);
  expect(built.code).toBe(0);
  place = mkdtempSync(join(tmpdir(), "lode-executable-"));
  const program = join(place, "lode");
  copyFileSync(join(repository, "dist/lode"), program);
  cloud = await Cloud.start({ program });
}, patienceMs(60_000));

afterAll(async () => {
  expect(await cloud.stop()).toEqual([]);
  rmSync(place, { recursive: true });
}, patienceMs(60_000));

test("it serves fetch apps, sites and packages, and is their runtime", async () => {
  for (const example of ["hello", "chat", "static", "node-http"]) {
    await cloud.deploy(join(repository, "examples", example), example);
    expect((await cloud.get(example)).status).toBe(200);
  }
  const folder = await cloud.folder({
    "index.ts": 'export default { fetch: () => new Response("bun: " + Bun.version) };\n',
  });
  await cloud.deploy(folder, "runtime");
  expect((await cloud.get("runtime")).body).toBe(`bun: ${Bun.version}`);
});

test("kill -9, and the next life of the executable adopts what runs", async () => {
  const pids = async () => (await cloud.ps()).map((row) => `${row.instance} ${row.pid}`).sort();
  const before = await pids();
  const load = steadyLoad({
    port: cloud.httpPort,
    host: cloud.host("hello"),
    clients: 2,
    pauseMs: 5,
  });
  await cloud.signal("SIGKILL");
  await cloud.bringUp();
  await until("the same ones run", async () => Bun.deepEquals(await pids(), before));
  expect((await load.stop()).errors).toEqual([]);
});

test("a hostile working directory cannot run its code in the command line", async () => {
  const folder = await cloud.folder({
    "bunfig.toml": 'preload = ["./evil.ts"]\n',
    ".env": "NODE_OPTIONS=--require=./evil.ts\nBUN_OPTIONS=--preload=./evil.ts\n",
    "evil.ts": 'console.log("EVIL");\n',
    "index.html": "<p>page</p>",
  });
  for (const program of [cloud.program, join(repository, "lode")]) {
    const result = await run([program, "ps"], {
      cwd: folder,
      env: { LODE_DATA_DIR: cloud.dataDirectory },
    });
    expect(result.code).toBe(0);
    expect(result.stdout + result.stderr).not.toContain("EVIL");
  }
});
