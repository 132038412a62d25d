import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { createStaticHandler } from "./static-shim.ts";

const top = mkdtempSync(join(tmpdir(), "lode-static-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));
const root = join(top, "site");
mkdirSync(join(root, "docs"), { recursive: true });
mkdirSync(join(root, ".well-known"));
mkdirSync(join(root, "empty"));
writeFileSync(join(root, "index.html"), "<h1>home</h1>");
writeFileSync(join(root, "docs", "index.html"), "docs");
writeFileSync(join(root, "digits.txt"), "0123456789");
writeFileSync(join(root, "big.js"), "let big = 1;");
writeFileSync(join(root, "big.js.gz"), gzipSync("let big = 1;"));
writeFileSync(join(root, ".env"), "SECRET=1");
writeFileSync(join(root, ".well-known", "acme"), "token");
writeFileSync(join(root, "404.html"), "lost");
writeFileSync(join(top, "outside.txt"), "outside");
symlinkSync("../outside.txt", join(root, "leak.txt"));
symlinkSync("digits.txt", join(root, "alias.txt"));

const handler = createStaticHandler(root);
const ask = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  handler(new Request(`http://site.test${path}`, { headers, method }));

test("files, directory indexes and redirects", async () => {
  const home = await ask("/");
  expect(home.status).toBe(200);
  expect(home.headers.get("content-type")).toBe("text/html;charset=utf-8");
  expect(await home.text()).toBe("<h1>home</h1>");
  expect(await (await ask("/docs/")).text()).toBe("docs");
  const redirect = await ask("/docs?a=1");
  expect([redirect.status, redirect.headers.get("location")]).toEqual([301, "/docs/?a=1"]);
  expect((await ask("//docs")).headers.get("location")).toBe("/docs/");
  expect(await (await ask("/alias.txt")).text()).toBe("0123456789");
  expect(await (await ask("/.well-known/acme")).text()).toBe("token");
});

test("what is not served is not found", async () => {
  const refused = ["/.env", "/leak.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt", "/nope"];
  for (const path of [...refused, "/a%00b", "/%zz", "/empty/", "/digits.txt/"]) {
    const answer = await ask(path);
    expect([path, answer.status, await answer.text()]).toEqual([path, 404, "lost"]);
  }
  const posted = await ask("/", {}, "POST");
  expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
});

test("HEAD tells the length and sends nothing", async () => {
  const head = await ask("/digits.txt", {}, "HEAD");
  expect([head.status, head.headers.get("content-length")]).toEqual([200, "10"]);
  expect(await head.text()).toBe("");
});

test("validators answer 304, If-None-Match before If-Modified-Since", async () => {
  const first = await ask("/digits.txt");
  const etag = first.headers.get("etag") ?? "";
  const modified = first.headers.get("last-modified") ?? "";
  expect((await ask("/digits.txt", { "if-none-match": `"x", ${etag}` })).status).toBe(304);
  expect((await ask("/digits.txt", { "if-none-match": "*" })).status).toBe(304);
  expect((await ask("/digits.txt", { "if-modified-since": modified })).status).toBe(304);
  const both = { "if-none-match": '"other"', "if-modified-since": modified };
  expect((await ask("/digits.txt", both)).status).toBe(200);
});

test("ranges", async () => {
  const cases: readonly (readonly [string, number, string | null, string])[] = [
    ["bytes=2-4", 206, "bytes 2-4/10", "234"],
    ["bytes=7-", 206, "bytes 7-9/10", "789"],
    ["bytes=-3", 206, "bytes 7-9/10", "789"],
    ["bytes=5-99", 206, "bytes 5-9/10", "56789"],
    ["bytes=10-", 416, "bytes */10", ""],
    ["bytes=-0", 416, "bytes */10", ""],
    ["bytes=4-2", 200, null, "0123456789"],
    ["bytes=0-1,4-5", 200, null, "0123456789"],
    ["lines=1-2", 200, null, "0123456789"],
  ];
  for (const [range, status, contentRange, body] of cases) {
    const answer = await ask("/digits.txt", { range });
    const seen = [range, answer.status, answer.headers.get("content-range"), await answer.text()];
    expect(seen).toEqual([range, status, contentRange, body]);
  }
  const stale = await ask("/digits.txt", { range: "bytes=0-1", "if-range": '"old"' });
  expect(stale.status).toBe(200);
});

test("a precompressed sibling is sent to who accepts it", async () => {
  const packed = await ask("/big.js", { "accept-encoding": "br, gzip" });
  expect(packed.headers.get("content-encoding")).toBe("gzip");
  expect(packed.headers.get("content-type")).toStartWith("text/javascript");
  expect(packed.headers.get("vary")).toBe("accept-encoding");
  const plain = await ask("/big.js", { "accept-encoding": "gzip;q=0" });
  expect(plain.headers.get("content-encoding")).toBeNull();
  expect(plain.headers.get("vary")).toBe("accept-encoding");
  expect(await plain.text()).toBe("let big = 1;");
});
