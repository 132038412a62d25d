import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openIdentity, prepareDataDirectory } from "./identity.ts";

const directory = mkdtempSync(join(tmpdir(), "lode-identity-"));
afterAll(() => rmSync(directory, { recursive: true }));

const random = { next: () => 0.5, token: (length: number) => "a1b2c3".slice(0, length) };

test("an identity is made once and read back", () => {
  const first = openIdentity(directory, random);
  const again = openIdentity(directory, { next: () => 0.1, token: () => "zzzzzz" });
  const node = expect.stringMatching(/^[a-z0-9-]+$/);
  expect(first).toEqual({
    ok: true,
    value: { cloud: "a1b2c3", uidBase: 1_100_000_000, node },
  });
  expect(again).toEqual(first);
});

test("a damaged identity is named, never replaced", () => {
  writeFileSync(join(directory, "cloud.json"), '{"cloud":"../etc","uidBase":0}');
  const opened = openIdentity(directory, random);
  expect(opened.ok ? "" : opened.error).toContain("cloud.json is damaged");
});

test("a data directory that cannot be made is named", () => {
  expect(prepareDataDirectory(join(directory, "new", "deep")).ok).toBe(true);
  const refused = prepareDataDirectory(join(directory, "cloud.json", "data"));
  expect(refused.ok ? "" : refused.error).toContain("cannot make the data directory");
});
