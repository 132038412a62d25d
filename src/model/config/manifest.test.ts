import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { Digest } from "../names.ts";
import type { ManifestEntry } from "../release.ts";
import { checkManifest, compareEntries, defaultManifestLimits } from "./manifest.ts";

// A busy machine makes real folders slowly.
setDefaultTimeout(60_000);

const digest = "0".repeat(64) as Digest;

function file(path: string, size = 1): ManifestEntry {
  return { kind: "file", path, digest, size, executable: false };
}

function link(path: string, target: string): ManifestEntry {
  return { kind: "symlink", path, target };
}

function folder(path: string): ManifestEntry {
  return { kind: "directory", path };
}

function problemOf(entries: readonly ManifestEntry[]): string | null {
  const checked = checkManifest({ entries: [...entries].sort(compareEntries) });
  return checked.ok ? null : checked.error.message;
}

describe("a manifest is accepted", () => {
  test("when it is empty, flat or deep, with links that stay inside", () => {
    expect(problemOf([])).toBeNull();
    expect(problemOf([file("a"), file("b/c/d"), folder("e"), file("häß/ü.txt")])).toBeNull();
    expect(problemOf([file("bin/tool"), link("node_modules/.bin/t", "../../bin/tool")])).toBeNull();
    expect(
      problemOf([folder("a"), link("b", "a"), link("c", "b/x"), link("d", "nowhere")]),
    ).toBeNull();
    expect(problemOf([file("...")])).toBeNull();
  });
});

describe("a manifest is refused", () => {
  const refused: readonly (readonly [string, readonly ManifestEntry[], RegExp])[] = [
    ["an empty path", [file("")], /is empty/],
    ["an absolute path", [file("/etc/passwd")], /absolute/],
    ["a parent part", [file("a/../../b")], /part "\.\."/],
    ["a dot part", [file("./a")], /part "\."/],
    ["an empty part", [file("a//b")], /empty part/],
    ["a trailing slash", [file("a/")], /empty part/],
    ["a NUL byte", [file("a\0b")], /control character/],
    ["a line break", [file("a\nb")], /control character/],
    ["a backslash", [file("..\\..\\a")], /backslash/],
    ["a lone surrogate", [file("a\ud800")], /Unicode/],
    ["a part beyond NAME_MAX", [file("ä".repeat(128))], /longer than 255 bytes/],
    ["a path too long", [file(Array(5).fill("a".repeat(250)).join("/"))], /longer than 1024/],
    ["too many parts", [file(Array(65).fill("a").join("/"))], /more than 64 parts/],
    ["the same path twice", [file("a"), file("a")], /named twice/],
    ["a file as a folder", [file("a"), file("a/b")], /"a" is a file/],
    ["a file as a folder, apart", [file("a"), file("a.b"), file("a/b")], /"a" is a file/],
    ["an entry under a link", [folder("b"), link("a", "b"), file("a/c")], /symbolic link/],
    ["an absolute link", [link("a", "/etc")], /absolute path "\/etc"/],
    ["an empty link", [link("a", "")], /points to nothing/],
    ["a link upwards", [link("a", "../x")], /leaves the folder/],
    ["a link up and back", [link("a/b", "../../a/c")], /leaves the folder/],
    [
      "a link out through a link",
      [folder("d/e"), link("a", "d/e"), link("b", "a/../../../x")],
      /leaves/,
    ],
    ["a circle", [link("a", "b"), link("b", "a")], /circle/],
    ["itself", [link("a", "a/x")], /circle/],
    ["a control character in a target", [link("a", "b\nc")], /control character/],
    ["a wrong digest", [{ ...file("a"), digest: "../x" as Digest } as ManifestEntry], /SHA-256/],
    ["a negative size", [file("a", -1)], /whole number of bytes/],
    ["a broken size", [file("a", 0.5)], /whole number of bytes/],
    ["too many bytes", [file("a", 2 ** 32), file("b", 2 ** 32)], /8G; at most 4G/],
  ];
  for (const [what, entries, message] of refused) {
    test(`for ${what}`, () => expect(problemOf(entries) ?? "accepted").toMatch(message));
  }

  test("when it is not sorted", () => {
    const checked = checkManifest({ entries: [file("b"), file("a")] });
    expect(checked).toMatchObject({ ok: false, error: { code: "invalid", at: "a" } });
  });

  test("beyond the number of entries, before looking at any", () => {
    const entries = Array.from({ length: 3 }, () => file("same"));
    const checked = checkManifest({ entries }, { ...defaultManifestLimits, entriesMax: 2 });
    expect(checked).toMatchObject({ ok: false, error: { code: "tooLarge" } });
  });

  test("for a chain of links that the kernel would not follow, however long", () => {
    const name = (index: number) => `l${String(index).padStart(6, "0")}`;
    const chain = (length: number) =>
      Array.from({ length }, (_, index) => link(name(index), name(index + 1)));
    expect(problemOf(chain(40))).toBeNull();
    expect(problemOf(chain(41))).toMatch(/more than 40 links/);
    expect(problemOf(chain(90_000))).toMatch(/more than 40 links/);
  });
});

/** Lays entries out on a real disk and asks the kernel where the links lead. */
function linksLeave(entries: readonly ManifestEntry[]): boolean {
  const outer = mkdtempSync(join(tmpdir(), "lode-manifest-"));
  try {
    const root = join(outer, "r1/r2/r3/root");
    mkdirSync(root, { recursive: true });
    for (const entry of entries) {
      const path = join(root, entry.path);
      mkdirSync(join(path, ".."), { recursive: true });
      if (entry.kind === "directory") mkdirSync(path, { recursive: true });
      if (entry.kind === "file") writeFileSync(path, "");
      if (entry.kind === "symlink") symlinkSync(entry.target, path);
    }
    const real = realpathSync(root);
    return entries.some((entry) => {
      if (entry.kind !== "symlink") return false;
      try {
        const end = realpathSync(join(root, entry.path));
        return end !== real && !end.startsWith(`${real}/`);
      } catch {
        return false; // Dangling, or a circle: nothing is reached.
      }
    });
  } finally {
    rmSync(outer, { recursive: true });
  }
}

test("no accepted tree has a link that the kernel follows out of it", () => {
  const name = fc.constantFrom("a", "b", "c", "d");
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
  const step = fc.constantFrom("a", "b", "c", "d", "..", "..", ".", "");
  const target = fc.array(step, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/"));
  const entry = fc.oneof(
    fc.record({ path, target }).map(({ path, target }) => link(path, target)),
    path.map(folder),
    path.map((path) => file(path)),
  );
  let accepted = 0;
  let leaving = 0;
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), (entries) => {
      const sorted = [...new Map(entries.map((one) => [one.path, one])).values()].sort(
        compareEntries,
      );
      const checked = checkManifest({ entries: sorted });
      if (!checked.ok) {
        if (/leaves the folder/.test(checked.error.message)) leaving += 1;
        return;
      }
      accepted += 1;
      expect(linksLeave(sorted)).toBe(false);
    }),
    { numRuns: 1500, seed: 20_261_120 },
  );
  expect(accepted).toBeGreaterThan(50);
  expect(leaving).toBeGreaterThan(40);
});

test("no text is accepted as a path that a naive resolver takes out of the root", () => {
  const part = fc.oneof(
    fc.constantFrom("..", ".", "", "a", "\\", "..\\", "C:", "\0", "a\n", "…", "%2e%2e"),
    fc.string({ maxLength: 4, unit: "binary" }),
  );
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), fc.boolean(), (parts, rooted) => {
      const path = (rooted ? "/" : "") + parts.join("/");
      if (problemOf([file(path)]) !== null) return;
      expect(join("/srv/release", path)).toBe(`/srv/release/${path}`);
      expect(path).not.toMatch(/[\0\n\\]/);
    }),
    { numRuns: 2000, seed: 20_261_121 },
  );
});
