import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { z } from "@hono/zod-openapi";
import { systemClock } from "../../fabric/system.ts";
import { createApi } from "./api.ts";
import {
  adminSecret,
  createDouble,
  type Double,
  dependenciesOf,
  memberSecret,
} from "./double.test.ts";
import { problemSchema } from "./schemas.ts";
import { type ApiListener, serveApi } from "./server.ts";
import { type ApiSettings, defaultApiLimits } from "./services.ts";

const settings: ApiSettings = {
  version: "0.1.0",
  hostNames: ["cloud.example"],
  limits: { ...defaultApiLimits, blobBytesMax: 1024, bodyBytesMax: 4096, uploadStallMs: 300 },
};

let double: Double;
let listener: ApiListener;
let base: string;
const logged: string[] = [];

function dependencies() {
  return { ...dependenciesOf(double, settings), log: (event: string) => logged.push(event) };
}

beforeAll(() => {
  double = createDouble(systemClock);
  listener = serveApi({ ...dependencies(), port: 0 });
  base = `http://127.0.0.1:${listener.port}`;
});
beforeEach(() => {
  logged.length = 0;
});
afterAll(() => listener.stop());

const appPath = "/v1/projects/default/apps/hello";

function call(path: string, init: RequestInit & { json?: unknown; bare?: boolean } = {}) {
  const headers = new Headers(init.headers);
  if (!init.bare) headers.set("Authorization", `Bearer ${adminSecret}`);
  const { json, bare: _bare, ...rest } = init;
  if (json === undefined) return fetch(`${base}${path}`, { ...rest, headers });
  headers.set("Content-Type", "application/json");
  return fetch(`${base}${path}`, { ...rest, headers, body: JSON.stringify(json) });
}

async function problem(response: Response, status: number) {
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  expect(response.status).toBe(status);
  const document = z.strictObject(problemSchema.shape).parse(await response.json());
  expect(document.status).toBe(status);
  expect(JSON.stringify(document)).not.toMatch(/\.ts:\d|node_modules|at .*\(/);
  return document;
}

async function upload(text: string): Promise<string> {
  const digest = createHash("sha256").update(text).digest("hex");
  const response = await call(`/v1/blobs/${digest}`, {
    method: "PUT",
    headers: { "Content-Type": "application/octet-stream" },
    body: text,
  });
  expect(response.status).toBe(201);
  return digest;
}

async function deploy(name = "hello", path = "index.html", key: string | null = null) {
  const digest = await upload("hi");
  const entry = { kind: "file", path, digest, size: 2, executable: false };
  return call(`/v1/projects/default/apps/${name}/releases`, {
    method: "POST",
    headers: key === null ? {} : { "Idempotency-Key": key },
    json: { manifest: { entries: [entry] } },
  });
}

describe("who may ask", () => {
  test("without a token, or with a wrong one, there is a 401 that names the scheme", async () => {
    for (const headers of [{}, { Authorization: "Bearer wrong" }, { Authorization: "Basic x" }]) {
      const response = await call("/v1/status", { bare: true, headers });
      expect(response.headers.get("www-authenticate")).toBe('Bearer realm="lode"');
      await problem(response, 401);
    }
  });

  test("a member is known, but may do nothing yet", async () => {
    const headers = { Authorization: `Bearer ${memberSecret}` };
    await problem(await call("/v1/status", { bare: true, headers }), 403);
  });

  test("a revoked token no longer works", async () => {
    const made = await call("/v1/tokens", { method: "POST", json: { name: "ci" } });
    const { token, secret } = (await made.json()) as { token: { id: string }; secret: string };
    const headers = { Authorization: `Bearer ${secret}` };
    expect((await call("/v1/status", { bare: true, headers })).status).toBe(200);
    expect((await call(`/v1/tokens/${token.id}`, { method: "DELETE" })).status).toBe(204);
    await problem(await call("/v1/status", { bare: true, headers }), 401);
  });

  test("a rebound name and a foreign page are refused; own names are not", async () => {
    for (const [headers, status] of [
      [{ Host: "evil.example" }, 403],
      [{ Host: "evil.example:4600" }, 403],
      [{ Host: "a b" }, 400],
      [{ Host: "localhost:99999" }, 400],
      [{ Host: "999.1.1.1" }, 400],
      [{ Host: "[::g]" }, 400],
      [{ Origin: "http://evil.example" }, 403],
      [{ Origin: "null" }, 403],
    ] as const) {
      await problem(await call("/v1/status", { headers }), status);
    }
    for (const headers of [
      { Host: "cloud.example:4600" },
      { Host: "localhost" },
      { Host: "[::1]:4600" },
      { Origin: base },
    ]) {
      expect((await call("/v1/status", { headers })).status).toBe(200);
    }
  });

  test("the descriptions are open", async () => {
    expect((await call("/v1/openapi.json", { bare: true })).status).toBe(200);
    expect((await call("/v1/lode.schema.json", { bare: true })).status).toBe(200);
  });
});

describe("what cannot be", () => {
  test("no such path, no such method, no such media type", async () => {
    await problem(await call("/v2/nothing"), 404);
    await problem(await call("/v1/projects/default/apps/none"), 404);
    const response = await call(`${appPath}/scale`, { method: "PUT" });
    expect(response.headers.get("allow")).toBe("PATCH");
    await problem(response, 405);
    const text = { method: "PATCH", body: "{}", headers: { "Content-Type": "text/plain" } };
    await problem(await call(`${appPath}/scale`, text), 415);
  });

  test("what a schema refuses is pointed at", async () => {
    const response = await call(`${appPath}/scale`, {
      method: "PATCH",
      json: { counts: { web: -1 }, "a/b": 1 },
    });
    const { errors } = await problem(response, 400);
    expect(errors.map((entry) => entry.pointer).sort()).toEqual(["/a~1b", "/counts/web"]);
    const query = await problem(await call("/v1/projects/default/apps?limit=0&folow=1"), 400);
    expect(query.errors.map((entry) => entry.parameter).sort()).toEqual(["folow", "limit"]);
    const path = await problem(await call("/v1/projects/default/apps/UPPER"), 400);
    expect(path.errors.map((entry) => entry.parameter)).toEqual(["app"]);
  });

  test("malformed JSON and bodies beyond the limit", async () => {
    const headers = { "Content-Type": "application/json" };
    const init = { method: "PATCH", headers };
    await problem(await call(`${appPath}/env`, { ...init, body: "{nope" }), 400);
    await problem(await call(`${appPath}/env`, { ...init, body: "x".repeat(5000) }), 413);
    const stream = new ReadableStream({
      pull: (controller) => controller.enqueue(new Uint8Array(1000)),
    });
    await problem(await call(`${appPath}/env`, { ...init, body: stream }), 413);
    const broken = new Uint8Array([0x22, 0xff, 0x22]);
    await problem(await call(`${appPath}/env`, { ...init, body: broken }), 400);
  });

  test("what an operation refuses keeps its code, remedy and place", async () => {
    const statuses = {
      invalid: 400,
      notFound: 404,
      conflict: 409,
      forbidden: 403,
      tooLarge: 413,
      unprocessable: 422,
      unavailable: 503,
      storageFull: 507,
      internal: 500,
    } as const;
    for (const [code, status] of Object.entries(statuses)) {
      double.failNext("status", {
        code: code as "invalid",
        message: "no",
        remedy: "wait",
        at: "/a",
      });
      const document = await problem(await call("/v1/status"), status);
      expect(document).toMatchObject({ code, detail: "no", remedy: "wait" });
      expect(document.errors).toEqual([{ detail: "no", pointer: "/a" }]);
    }
  });

  test("an exception becomes a 500 with a request id; only the log has the cause", async () => {
    const failing = { ...dependencies(), operations: {} as never };
    const api = createApi(failing);
    const request = new Request("http://localhost/v1/status", {
      headers: { Authorization: `Bearer ${adminSecret}`, Host: "localhost" },
    });
    const response = await api.fetch(request, null);
    expect(logged).toEqual(["api.failed"]);
    const document = await problem(response as Response, 500);
    expect(document.detail).toContain(document.requestId);
  });
});

describe("uploads", () => {
  const headers = { "Content-Type": "application/octet-stream" };
  const digest = createHash("sha256").update("other").digest("hex");

  test("only what is missing is asked for", async () => {
    const stored = await upload("stored");
    const response = await call("/v1/blobs/missing", {
      method: "POST",
      json: { digests: [stored, digest] },
    });
    expect(await response.json()).toEqual({ missing: [digest] });
  });

  test("wrong bytes, too many bytes and another media type are refused", async () => {
    const put = (init: RequestInit) => call(`/v1/blobs/${digest}`, { method: "PUT", ...init });
    await problem(await put({ headers, body: "not other" }), 422);
    await problem(await put({ headers, body: "x".repeat(2000) }), 413);
    let sent = 0;
    const endless = new ReadableStream({
      pull(controller) {
        sent += 1;
        if (sent > 100) controller.close();
        else controller.enqueue(new Uint8Array(100));
      },
    });
    await problem(await put({ headers, body: endless }), 413);
    await problem(await put({ body: "other" }), 415);
    expect(double.blobs.has(digest)).toBe(false);
  });

  test("an upload that stops coming is cut", async () => {
    const stalled = new ReadableStream({
      start: (controller) => controller.enqueue(new Uint8Array(10)),
    });
    await problem(
      await call(`/v1/blobs/${digest}`, { method: "PUT", headers, body: stalled }),
      408,
    );
  });
});

describe("idempotency keys", () => {
  test("the same request is done once, also at the same time", async () => {
    const before = double.calls.length;
    const responses = await Promise.all([1, 2, 3].map(() => deploy("once", "a.txt", "key-1")));
    const bodies = await Promise.all(responses.map((response) => response.json()));
    expect(double.calls.length).toBe(before + 1);
    expect(bodies[1]).toEqual(bodies[0]);
    expect(responses[0]?.headers.get("location")).toBe("/v1/projects/default/apps/once/releases/1");
    const replayed = responses.filter((response) => response.headers.has("idempotency-replayed"));
    expect(replayed.length).toBe(2);
  });

  test("another body with the same key is refused; another route is another request", async () => {
    await deploy("twice", "a.txt", "key-2");
    await problem(await deploy("twice", "b.txt", "key-2"), 422);
    expect((await deploy("thrice", "b.txt", "key-2")).status).toBe(202);
    await problem(await deploy("twice", "b.txt", "k y"), 400);
  });

  test("a refusal is remembered, a failure of ours is not", async () => {
    const scale = () =>
      call("/v1/projects/default/apps/once/scale", {
        method: "PATCH",
        headers: { "Idempotency-Key": "key-3" },
        json: { counts: { web: 2 } },
      });
    double.failNext("scale", { code: "unavailable" });
    await problem(await scale(), 503);
    expect((await scale()).status).toBe(200);
  });
});

test("lists are paged", async () => {
  for (const name of ["page-a", "page-b", "page-c"]) await deploy(name);
  const seen: string[] = [];
  let after = "page";
  for (;;) {
    const response = await call(`/v1/projects/default/apps?limit=2&after=${after}`);
    const page = (await response.json()) as { items: { name: string }[]; next: string | null };
    seen.push(...page.items.map((item) => item.name));
    if (page.next === null) break;
    after = page.next;
  }
  expect(seen.filter((name) => name.startsWith("page-"))).toEqual(["page-a", "page-b", "page-c"]);
  const instances = await call("/v1/projects/default/instances?limit=1");
  expect(((await instances.json()) as { items: unknown[] }).items.length).toBe(1);
});

describe("metrics", () => {
  const read = (token: string, path = "/metrics") =>
    fetch(`${base}${path}`, { headers: { Authorization: `Bearer ${token}` } });

  test("are in Prometheus' text format, families without samples left out", async () => {
    const response = await read(adminSecret);
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const text = await response.text();
    expect(text).toStartWith(
      '# HELP lode_test_total Two\\nlines.\n# TYPE lode_test_total counter\nlode_test_total{app="a\\"\\\\"} 2.5\n',
    );
    expect(text).not.toContain("lode_none_total");
    expect(text).toMatch(/^process_cpu_seconds_total [0-9.]+$/m);
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    expect(text).toEndWith("\n");
  });

  test("may be read with a token that may do nothing else", async () => {
    const body = JSON.stringify({ name: "prometheus", role: "metrics" });
    const headers = { Authorization: `Bearer ${adminSecret}`, "Content-Type": "application/json" };
    const made = await fetch(`${base}/v1/tokens`, { method: "POST", headers, body });
    const { secret, token } = (await made.json()) as {
      secret: string;
      token: { roles: string[] };
    };
    expect(token.roles).toEqual(["metrics"]);
    expect((await read(secret)).status).toBe(200);
    expect((await read(secret, "/v1/status")).status).toBe(403);
    expect((await read("nobody")).status).toBe(401);
  });
});
