import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Client, createClient } from "../../api/native/client.ts";
import { adminSecret } from "../../api/native/double.test.ts";
import { err } from "../../base/result.ts";
import { deployFolder, refusalFrom, watchToEnd } from "./deployFolder.ts";
import { startTestCloud, type TestCloud } from "./harness.test.ts";

let cloud: TestCloud;

beforeAll(() => {
  cloud = startTestCloud();
});
afterAll(() => cloud.stop());

/** Deploys, with `meddle` called once everything is read and nothing uploaded. */
async function deploy(folder: string, meddle: () => void) {
  const endpoint = { apiUrl: `http://127.0.0.1:${cloud.listener.port}`, token: adminSecret };
  let met = false;
  const client = createClient(endpoint, {
    fetch(url, init) {
      if (url.endsWith("/missing") && !met) {
        met = true;
        meddle();
      }
      return fetch(url, init);
    },
  });
  const deployed = await deployFolder({
    client,
    folder,
    app: "meddled",
    now: () => Date.now(),
    refusal: refusalFrom("from a test"),
    onStep: () => {},
  });
  return deployed.ok ? "deployed" : deployed.error.message;
}

test("a file that goes, or changes, while it is uploaded is named", async () => {
  const gone = cloud.folder({ "index.html": "1", "gone.txt": "gone" });
  expect(await deploy(gone, () => rmSync(join(gone, "gone.txt")))).toContain(
    "gone.txt was there, but could not be read",
  );
  const changed = cloud.folder({ "index.html": "1", "changed.txt": "before" });
  const change = () => appendFileSync(join(changed, "changed.txt"), "after");
  expect(await deploy(changed, change)).toContain("changed.txt changed while it was uploaded");
});

test("a thousand files arrive, at most sixteen at a time", async () => {
  const folder = cloud.folder({ "index.html": "many" });
  for (let index = 0; index < 1000; index++) {
    writeFileSync(join(folder, `f${index}`), `content of ${index}`);
  }
  const before = cloud.double.blobs.size;
  let atOnce = 0;
  let atOnceMax = 0;
  const endpoint = { apiUrl: `http://127.0.0.1:${cloud.listener.port}`, token: adminSecret };
  const client = createClient(endpoint, {
    async fetch(url, init) {
      atOnceMax = Math.max(atOnceMax, ++atOnce);
      try {
        return await fetch(url, init);
      } finally {
        atOnce -= 1;
      }
    },
  });
  const refusal = refusalFrom("from a test");
  const options = { client, folder, app: "many", now: () => Date.now(), refusal, onStep() {} };
  expect((await deployFolder(options)).ok).toBe(true);
  expect(cloud.double.blobs.size).toBe(before + 1002);
  expect(atOnceMax).toBe(16);
});

test("a broken connection is tried again where that is safe, and only there", async () => {
  const folder = cloud.folder({ "index.html": "flaky" });
  const tries = new Map<string, number>();
  const endpoint = { apiUrl: `http://127.0.0.1:${cloud.listener.port}`, token: adminSecret };
  const client = createClient(endpoint, {
    fetch(url, init) {
      const what = `${init.method} ${url.replace(/.*\/v1\//, "").replace(/[0-9a-f]{64}/, "D")}`;
      const count = (tries.get(what) ?? 0) + 1;
      tries.set(what, count);
      if (count === 1) throw Object.assign(new Error("reset"), { code: "ECONNRESET" });
      return fetch(url, init);
    },
  });
  const refusal = refusalFrom("from a test");
  const options = { client, folder, app: "flaky", now: () => Date.now(), refusal, onStep() {} };
  const failed = await deployFolder(options);
  expect(failed.ok).toBe(false);
  expect(Object.fromEntries(tries)).toEqual({
    "POST blobs/missing": 2,
    "PUT blobs/D": 2,
    "POST projects/default/apps/flaky/releases": 1,
  });
});

test("a cloud that goes away while a release is on its way: what happens to it is said", async () => {
  const gone = { kind: "unreachable", url: "http://127.0.0.1:1", code: null } as const;
  const client: Client = {
    ...createClient({ apiUrl: "http://127.0.0.1:1", token: null }),
    async watchDeployment(_app, _release, _onEvent, onInterruption) {
      onInterruption?.();
      return err({ ...gone, message: "connection refused" });
    },
  };
  const steps: string[] = [];
  const watched = await watchToEnd(
    {
      ...{ client, app: "shop", refusal: refusalFrom("from a test") },
      onStep: ({ kind }) => steps.push(kind),
    },
    7,
  );
  expect(steps).toEqual(["interrupted"]);
  expect(watched).toEqual({
    ok: false,
    error: {
      exitCode: 3,
      message:
        "no cloud answers at http://127.0.0.1:1 (from a test): connection refused; " +
        "v7 of shop was on its way",
      remedy: "it goes on once `lode up` runs again: see lode releases shop",
      details: [],
    },
  });
});
