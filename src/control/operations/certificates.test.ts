import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { World } from "../../../sim/world.ts";
import { parseCertificate } from "./certificates.ts";

interface Pair {
  readonly certificateChain: string;
  readonly privateKey: string;
}

const actor = { id: "tester" };
let directory: string;
let site: Pair;
let other: Pair;
let world: World;

/** Made by openssl, valid by the machine's time; the world's virtual time lies before it. */
function makePair(name: string, subject: readonly string[]): Pair {
  const [key, certificate] = [join(directory, `${name}.key`), join(directory, `${name}.pem`)];
  const made = Bun.spawnSync([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-nodes", "-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=test"],
    ...subject,
  ]);
  if (!made.success) throw new Error(made.stderr.toString());
  return {
    certificateChain: readFileSync(certificate, "utf8"),
    privateKey: readFileSync(key, "utf8"),
  };
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "lode-certificates-"));
  const names = "subjectAltName=DNS:shop.Example.org,DNS:*.example.net,IP:192.0.2.1";
  site = makePair("site", ["-addext", names]);
  other = makePair("other", []);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));
beforeEach(async () => {
  world = new World();
  await world.start();
});
afterEach(() => world.close());

test("a certificate reaches the gateways with its key, which is sealed at rest", async () => {
  const { operations } = world.control;
  const set = await operations.setCertificate("site", site, actor);
  const hosts = ["shop.example.org", "*.example.net"];
  expect(set).toMatchObject({ ok: true, value: { hosts } });
  await world.clock.run(10);
  expect(world.gateway.table?.certificates).toEqual([{ hosts, ...site }]);
  const listed = await world.ledger.list("");
  expect(JSON.stringify(listed)).not.toContain("PRIVATE KEY");
  expect(await operations.listCertificates()).toMatchObject({
    ok: true,
    value: [{ name: "site", hosts }],
  });
  expect(await operations.removeCertificate("site", actor)).toMatchObject({ ok: true });
  await world.clock.run(10);
  expect(world.gateway.table?.certificates).toEqual([]);
  expect(await operations.removeCertificate("site", actor)).toMatchObject({
    error: { code: "notFound" },
  });
});

test("what a gateway could not serve with is refused", async () => {
  const refusal = async (name: string, pair: Pair) => {
    const set = await world.control.operations.setCertificate(name, pair, actor);
    return set.ok ? null : set.error.message;
  };
  const { certificateChain, privateKey } = site;
  expect(await refusal("a/b", site)).toContain("cannot name a certificate");
  expect(await refusal("a", { certificateChain: "", privateKey })).toContain("0 PEM certificates");
  expect(await refusal("a", { certificateChain, privateKey: "no" })).toContain("cannot be read");
  expect(await refusal("a", { certificateChain, privateKey: other.privateKey })).toContain(
    "does not belong",
  );
  expect(await refusal("a", other)).toContain("names no host");
  const mixed = certificateChain + other.certificateChain;
  expect(await refusal("a", { certificateChain: mixed, privateKey })).toContain(
    "certificate 2 of the chain did not issue certificate 1",
  );
  const late = parseCertificate(site, Date.now() + 31 * 86_400_000);
  expect(late).toMatchObject({ error: { message: expect.stringContaining("expired") } });
});
