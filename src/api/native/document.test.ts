import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { z } from "@hono/zod-openapi";
import fc from "fast-check";
import { systemClock } from "../../fabric/system.ts";
import { createApi } from "./api.ts";
import { adminSecret, createDouble, dependenciesOf } from "./double.test.ts";
import type { Route } from "./routing.ts";
import { problemSchema } from "./schemas.ts";
import { type ApiListener, serveApi } from "./server.ts";

const double = createDouble(systemClock);
const dependencies = dependenciesOf(double);
const { routes } = createApi(dependencies);

interface OpenApi {
  openapi: string;
  paths: Record<
    string,
    Record<string, { operationId: string; responses: Record<string, unknown> }>
  >;
  components: { schemas: Record<string, unknown> };
}

let listener: ApiListener;
let base: string;
let document: OpenApi;

const authorised = { Authorization: `Bearer ${adminSecret}` };

beforeAll(async () => {
  listener = serveApi({ ...dependencies, port: 0 });
  base = `http://127.0.0.1:${listener.port}`;
  document = (await (await fetch(`${base}/v1/openapi.json`)).json()) as OpenApi;
});
afterAll(() => listener.stop());

test("every route is in the document, and nothing else is", () => {
  const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => `${operationId} ${method} ${path}`),
  );
  const registered = routes.map(({ spec }) => `${spec.id} ${spec.method} ${spec.path}`);
  expect(documented.sort()).toEqual([...registered].sort());
  expect(registered.length).toBeGreaterThan(25);
  expect(new Set(routes.map(({ spec }) => spec.id)).size).toBe(routes.length);
  expect(document.openapi).toBe("3.1.0");
});

test("every reference in the document leads somewhere", () => {
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#([^"]+)"/g)];
  expect(references.length).toBeGreaterThan(30);
  for (const [, pointer = ""] of references) expect(resolve(pointer)).toBeDefined();
});

function resolve(pointer: string): unknown {
  let value: unknown = document;
  for (const step of pointer.split("/").slice(1)) value = (value as Record<string, unknown>)[step];
  return value;
}

/** The schema that the document has for a response, as a validator. */
function documented(route: Route, status: number, mediaType: string): z.ZodType {
  const responses = document.paths[route.spec.path]?.[route.spec.method]?.responses ?? {};
  const response = (responses[status] ?? responses[`${Math.floor(status / 100)}XX`]) as
    | { content?: Record<string, { schema: object }> }
    | undefined;
  expect(response, `${route.spec.id} has no documented ${status}`).toBeDefined();
  const schema = response?.content?.[mediaType]?.schema;
  expect(schema, `${route.spec.id} has no documented ${status} ${mediaType}`).toBeDefined();
  const definitions = JSON.parse(
    JSON.stringify({ ...schema, $defs: document.components.schemas }).replaceAll(
      "#/components/schemas/",
      "#/$defs/",
    ),
  );
  return z.fromJSONSchema(definitions);
}

const digest = createHash("sha256").update("hi").digest("hex");
const file = { kind: "file", path: "index.html", digest, size: 2, executable: false };
const pem = "-----BEGIN CERTIFICATE-----";

/** A good request for each route, in an order that makes each of them possible. */
const story: readonly [id: string, status: number, init?: { path?: object; body?: unknown }][] = [
  ["getStatus", 200],
  ["findMissingBlobs", 200, { body: { digests: [digest] } }],
  ["putBlob", 201, { body: "hi" }],
  ["deploy", 202, { body: { manifest: { entries: [file] } } }],
  ["watchDeployment", 200],
  ["changeEnvironment", 200, { body: { changes: { A: "1", B: null } } }],
  ["changeSecrets", 200, { body: { changes: { S: "hidden" } } }],
  ["rollback", 202, { body: {} }],
  ["listApps", 200],
  ["getApp", 200],
  ["getEnvironment", 200],
  ["listSecrets", 200],
  ["listInstances", 200],
  ["listAppInstances", 200],
  ["getCosts", 200],
  ["listReleases", 200],
  ["getRelease", 200],
  ["scaleApp", 200, { body: { counts: { web: 2 } } }],
  ["limitApp", 200, { body: { cpu: { min: 0.5, max: null, burst: null } } }],
  ["getLogs", 200],
  ["watchTop", 200],
  ["getMetrics", 200],
  ["exec", 426],
  ["run", 426],
  ["setCertificate", 200, { body: { certificateChain: pem, privateKey: "k" } }],
  ["listCertificates", 200],
  ["removeCertificate", 204],
  ["createToken", 201, { body: { name: "ci" } }],
  ["listTokens", 200],
  ["revokeToken", 204],
  ["getOpenApi", 200],
  ["getConfigSchema", 200],
  ["removeApp", 204],
];

const values: Record<string, string> = {
  project: "default",
  app: "hello",
  release: "1",
  digest,
  name: "main",
  token: "t1",
};

function urlOf(route: Route, given: Record<string, string> = values): string {
  return `${base}${route.spec.path.replaceAll(/\{(\w+)\}/g, (_, name) => given[name] ?? "x")}`;
}

test("every route answers as the document says", async () => {
  expect(story.map(([id]) => id).sort()).toEqual(routes.map(({ spec }) => spec.id).sort());
  double.log("hello", "a line");
  for (const [id, status, { body } = {}] of story) {
    const route = routes.find(({ spec }) => spec.id === id) as Route;
    const raw = typeof body === "string";
    const type = raw ? "application/octet-stream" : "application/json";
    const response = await fetch(urlOf(route), {
      method: route.spec.method.toUpperCase(),
      headers: { ...authorised, ...(body === undefined ? {} : { "Content-Type": type }) },
      ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    expect(`${id} ${response.status}`).toBe(`${id} ${status}`);
    if (status === 204) continue;
    const mediaType = response.headers.get("content-type") ?? "";
    const schema = documented(route, status, mediaType);
    const bodies =
      mediaType === "text/event-stream"
        ? [...text.matchAll(/^data: (.*)$/gm)].map((match) => match[1] ?? "")
        : [mediaType.startsWith("text/") ? JSON.stringify(text) : text];
    expect(bodies.length).toBeGreaterThan(0);
    for (const each of bodies) {
      const parsed = schema.safeParse(JSON.parse(each));
      expect(parsed.error?.message ?? "valid").toBe("valid");
      expect(each).not.toContain("hidden");
    }
  }
});

test("garbage gets a problem document from every route", async () => {
  const methods = fc.constantFrom("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS");
  const segment = fc.string({ minLength: 1, maxLength: 20 }).map(encodeURIComponent);
  const types = fc.constantFrom(
    "application/json",
    "application/octet-stream",
    "text/html",
    "multipart/form-data",
    "",
  );
  const bodies = fc.oneof(
    fc.string({ maxLength: 50 }),
    fc.jsonValue().map((value) => JSON.stringify(value)),
    fc.constant("[".repeat(5000)),
  );
  const query = fc.option(fc.string({ maxLength: 20 }).map(encodeURIComponent), { nil: null });
  const problems = z.strictObject(problemSchema.shape);
  let refusals = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.nat(routes.length - 1),
      methods,
      fc.array(segment, { minLength: 4, maxLength: 4 }),
      types,
      bodies,
      query,
      async (index, method, segments, type, body, search) => {
        const route = routes[index] as Route;
        const [project = "", app = "", third = ""] = segments;
        const given = { project, app, release: third, digest: third, name: third, token: third };
        const url = `${urlOf(route, given)}${search === null ? "" : `?${search}`}`;
        const response = await fetch(url, {
          method,
          headers: { ...authorised, ...(type === "" ? {} : { "Content-Type": type }) },
          ...(method === "GET" ? {} : { body }),
        });
        const text = await response.text();
        if (response.status < 400) return;
        refusals += 1;
        expect(response.status).not.toBe(500);
        expect(response.headers.get("content-type")).toBe("application/problem+json");
        problems.parse(JSON.parse(text));
        expect(text).not.toMatch(/\.ts:\d|node_modules/);
      },
    ),
    { numRuns: 600, seed: 1 },
  );
  expect(refusals).toBeGreaterThan(400);
});
