import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { exitCodes } from "./failure.ts";
import { scanFolder } from "./scan.ts";

const scratch = mkdtempSync(join(tmpdir(), "lode-scan-"));
let root: string;
let number = 0;

beforeEach(() => {
  root = join(scratch, String(++number));
  mkdirSync(root);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function write(files: Readonly<Record<string, string>>, base = root): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(base, path)), { recursive: true });
    writeFileSync(join(base, path), content);
  }
}

async function scan(folder = root) {
  const scanned = await scanFolder(folder, () => {});
  if (!scanned.ok) throw new Error(scanned.error.message);
  return scanned.value;
}

async function paths(folder = root): Promise<string[]> {
  return (await scan(folder)).manifest.entries.map((entry) => entry.path);
}

async function refusal(folder = root) {
  const scanned = await scanFolder(folder, () => {});
  if (scanned.ok) throw new Error("it was not refused");
  return scanned.error;
}

describe("what goes into the manifest", () => {
  test("files with digest, size and executable bit; links; empty folders; in order", async () => {
    write({ "b.txt": "two", "a/c.txt": "two", "a.sh": "#!/bin/sh\n" });
    chmodSync(join(root, "a.sh"), 0o4755);
    mkdirSync(join(root, "empty/inner"), { recursive: true });
    symlinkSync("a/c.txt", join(root, "link"));
    symlinkSync("a", join(root, "to-folder"));
    const { manifest, files, fileCount, bytes } = await scan();
    const sha = (text: string) => createHash("sha256").update(text).digest("hex");
    const file = (path: string, text: string, executable = false) => {
      return { kind: "file", path, digest: sha(text), size: text.length, executable };
    };
    expect(manifest.entries as unknown[]).toEqual([
      file("a.sh", "#!/bin/sh\n", true),
      file("a/c.txt", "two"),
      file("b.txt", "two"),
      { kind: "directory", path: "empty/inner" },
      { kind: "symlink", path: "link", target: "a/c.txt" },
      { kind: "symlink", path: "to-folder", target: "a" },
    ]);
    expect({ files: files.length, fileCount, bytes }).toEqual({
      files: 2,
      fileCount: 3,
      bytes: 16,
    });
  });

  test("a large file is read in pieces to the same digest", async () => {
    const content = "0123456789abcdef".repeat(400_000);
    write({ "large.bin": content });
    const digest = createHash("sha256").update(content).digest("hex");
    expect((await scan()).files[0]?.digest).toBe(digest);
  });

  test("ten thousand files", async () => {
    for (let index = 0; index < 100; index++) mkdirSync(join(root, `d${index}`));
    for (let index = 0; index < 10_000; index++) {
      writeFileSync(join(root, `d${index % 100}`, `f${index}`), String(index));
    }
    expect((await scan()).files.length).toBe(10_000);
  }, 60_000);
});

describe("what is ignored", () => {
  test(".gitignore as git has it, nested, and taken back", async () => {
    write({
      ".gitignore": "*.log\n/build\ntemp/\n!keep.log\n",
      "a.log": "",
      "keep.log": "",
      "build/x": "",
      "sub/build/x": "",
      "sub/temp/x": "",
      "sub/.gitignore": "!b.log\nonly-here\n",
      "sub/b.log": "",
      "sub/c.log": "",
      "sub/only-here": "",
      "only-here": "",
    });
    expect(await paths()).toEqual([
      ".gitignore",
      "keep.log",
      "only-here",
      "sub/.gitignore",
      "sub/b.log",
      "sub/build/x",
    ]);
  });

  test(".lodeignore adds to .gitignore and can take back what it ignores", async () => {
    write({
      ".gitignore": "dist/\n",
      ".lodeignore": "!dist/\ntests/\n",
      "dist/x": "",
      "tests/x": "",
    });
    expect(await paths()).toEqual([".gitignore", ".lodeignore", "dist/x"]);
  });

  test(".git always, node_modules where dependencies are declared", async () => {
    write({ ".git/config": "", "node_modules/a/x": "", "index.js": "" });
    expect(await paths()).toEqual(["index.js", "node_modules/a/x"]);
    write({ "package.json": "{}", "sub/node_modules/b/x": "" });
    expect(await paths()).toEqual(["index.js", "package.json"]);
  });

  test("the repository around the folder has a say, unless it ignores the folder", async () => {
    mkdirSync(join(root, ".git"));
    write({ ".gitignore": ".env\nout/\n", "app/.env": "SECRET", "app/x": "", "out/.env": "y" });
    expect(await paths(join(root, "app"))).toEqual(["x"]);
    expect(await paths(join(root, "out"))).toEqual([".env"]);
    rmSync(join(root, ".git"), { recursive: true });
    expect(await paths(join(root, "app"))).toEqual([".env", "x"]);
  });
});

describe("what is refused, with its name", () => {
  test("links that lead out or nowhere near", async () => {
    for (const target of ["/etc/passwd", "../outside", "a/../../outside"]) {
      write({ "index.html": "" });
      symlinkSync(target, join(root, "bad-link"));
      const { exitCode, message } = await refusal();
      expect(exitCode).toBe(exitCodes.refused);
      expect(message).toContain("bad-link");
      rmSync(join(root, "bad-link"));
    }
  });

  test("pipes and sockets", async () => {
    write({ "index.html": "" });
    Bun.spawnSync(["mkfifo", join(root, "pipe")]);
    expect((await refusal()).message).toContain(`${join(root, "pipe")} is a named pipe`);
    rmSync(join(root, "pipe"));
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(root, "s"), resolve));
    expect((await refusal()).message).toContain("is a socket");
    write({ ".lodeignore": "s\n" });
    expect(await paths()).toEqual([".lodeignore", "index.html"]);
    server.close();
  });

  test("a name that is not UTF-8", async () => {
    write({ "index.html": "" });
    Bun.spawnSync(["sh", "-c", `touch "$(printf '%s/\\377name' "$0")"`, root]);
    expect((await refusal()).message).toContain("not valid UTF-8");
  });
});
