import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeCertificate } from "./testing/certificate.ts";
import { appRoute, runningOn } from "./testing/harness.ts";
import { scratchFolder, sharedRig } from "./testing/suite.ts";

// Clients that are not ours: curl and nghttp2's own, which checks what it is sent strictly.

setDefaultTimeout(60_000);

const scratch = scratchFolder();

const bun = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/big") return new Response("b".repeat(3_000_000));
    if (pathname === "/length") return new Response(`${(await request.bytes()).length} bytes\n`);
    return new Response(`hello ${pathname}\n`);
  },
});
const rig = await sharedRig(
  {
    "default/a": appRoute("a", [runningOn("a1", bun.port)], {
      hosts: ["localhost"],
    }),
  },
  { certificates: [makeCertificate(scratch, "all", ["localhost"])] },
  [() => bun.stop(true)],
);
writeFileSync(join(scratch, "upload"), Buffer.alloc(2_000_000, "u"));

async function run(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "pipe" });
  const [out, error] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${out}${error}`);
  return out;
}

const url = (path: string) => `https://localhost:${rig.tlsPort}${path}`;

test("curl: small, large, uploads of both framings, HEAD, several on one connection", async () => {
  const curl = ["curl", "-sk", "--http2", "--max-time", "20"];
  const version = ["-w", "%{http_version} %{http_code}"];
  expect(await run([...curl, ...version, url("/x")])).toBe("hello /x\n2 200");
  expect((await run([...curl, url("/big")])).length).toBe(3_000_000);
  const file = join(scratch, "upload");
  const upload = ["--data-binary", `@${file}`];
  expect(await run([...curl, ...upload, url("/length")])).toBe("2000000 bytes\n");
  const streamed = ["-X", "POST", "-T", "-", url("/length")];
  const piped = await run(["sh", "-c", `cat ${file} | ${[...curl, ...streamed].join(" ")}`]);
  expect(piped).toBe("2000000 bytes\n");
  expect(await run([...curl, "-I", url("/x")])).toStartWith("HTTP/2 200 ");
  expect(await run([...curl, url("/1"), url("/2"), url("/3")])).toBe(
    "hello /1\nhello /2\nhello /3\n",
  );
});

test("nghttp: the frames it was sent are in order, and the connection is left in peace", async () => {
  const seen = await run(["nghttp", "-nv", "--no-dep", url("/x"), url("/big"), url("/y")]);
  expect(seen).toContain(":status: 200");
  expect(seen.match(/; END_STREAM/g)?.length).toBeGreaterThanOrEqual(3);
  for (const wrong of ["INTERNAL_ERROR", "PROTOCOL_ERROR", "FLOW_CONTROL_ERROR", "COMPRESSION"]) {
    expect(seen).not.toContain(wrong);
  }
});

test("nghttp: an upload, padding, and a table of another size", async () => {
  const file = join(scratch, "upload");
  const more = ["-d", file, "--padding=40", "-w", "10", "-W", "12", "--header-table-size=1024"];
  expect(await run(["nghttp", ...more, url("/length")])).toBe("2000000 bytes\n");
});

test("h2load: thousands of requests, twenty at a time, in small windows", async () => {
  const report = await run(["h2load", "-n4000", "-c8", "-m20", "-w12", "-W14", url("/x")]);
  expect(report).toContain("4000 succeeded, 0 failed, 0 errored, 0 timeout");
  const large = await run(["h2load", "-n60", "-c3", "-m10", "-w12", "-W14", url("/big")]);
  expect(large).toContain("60 succeeded, 0 failed, 0 errored, 0 timeout");
});
