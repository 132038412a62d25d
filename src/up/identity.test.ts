import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openIdentity, prepareDataDirectory } from "./identity.ts";

const directory = mkdtempSync(join(tmpdir(), "lode-identity-"));
chmodSync(directory, 0o755);
afterAll(() => rmSync(directory, { recursive: true }));

const random = { next: () => 0.5, token: (length: number) => "a1b2c3".slice(0, length) };

test("an identity is made once and read back", () => {
  const first = openIdentity(directory, random);
  const again = openIdentity(directory, { next: () => 0.1, token: () => "zzzzzz" });
  expect(first).toEqual({ ok: true, value: { cloud: "a1b2c3", uidBase: 1_100_000_000 } });
  expect(again).toEqual(first);
});

test("a damaged identity is named, never replaced", () => {
  writeFileSync(join(directory, "cloud.json"), '{"cloud":"../etc","uidBase":0}');
  const opened = openIdentity(directory, random);
  expect(opened.ok ? "" : opened.error).toContain("cloud.json is damaged");
});

test("a data directory is traversable, and refused below a closed one", () => {
  const open = join(directory, "open");
  expect(prepareDataDirectory(open).ok).toBe(true);
  expect(statSync(open).mode & 0o777).toBe(0o711);
  const closed = join(directory, "closed");
  prepareDataDirectory(closed);
  chmodSync(closed, 0o700);
  const refused = prepareDataDirectory(join(closed, "data"));
  expect(refused.ok ? "" : refused.error).toContain(`chmod o+x ${closed}`);
});
