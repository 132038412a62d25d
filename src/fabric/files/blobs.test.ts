import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { blobsContract } from "../blobs.contract.ts";
import type { Blobs } from "../blobs.ts";
import { bytesOf, codeOf, digestOf, listed, putText, removed } from "../contract/blobs-case.ts";
import { must } from "../contract/ledger-case.ts";
import { onSmallDisk } from "../contract/small-disk.ts";
import { createFileBlobs } from "./blobs.ts";

const directories: string[] = [];

function freshDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "lode-blobs-"));
  directories.push(directory);
  return directory;
}

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

async function open(directory: string): Promise<Blobs> {
  return must(await createFileBlobs({ directory: join(directory, "store") }));
}

function pathOf(directory: string, digest: string): string {
  return join(directory, "store", "blobs", digest.slice(0, 2), digest);
}

blobsContract("files", async () => {
  const directory = freshDirectory();
  // Each use counts at once.
  const blobs = must(await createFileBlobs({ directory: join(directory, "store"), renewMs: 0 }));
  const target = join(directory, "target");
  mkdirSync(target);
  return {
    blobs,
    directory: target,
    leftovers: async () => [
      ...readdirSync(join(directory, "store", "incoming")),
      ...readdirSync(join(directory, "store", "corrupt")),
    ],
    dispose: async () => {},
  };
});

describe("file blobs", () => {
  test("[B2] reopened: the blobs are there, what was being received is not", async () => {
    const directory = freshDirectory();
    const digest = await putText(await open(directory), "kept");
    writeFileSync(join(directory, "store", "incoming", `${digest}.1`), "half");
    const blobs = await open(directory);
    expect(must(await blobs.read(digest))).toEqual(bytesOf("kept"));
    expect(readdirSync(join(directory, "store", "incoming"))).toEqual([]);
    expect(await listed(blobs)).toEqual([digest]);
  });

  test("[B7] damaged, cut and lengthened blobs are set aside and can be stored again", async () => {
    const directory = freshDirectory();
    const blobs = await open(directory);
    const target = join(directory, "target");
    const text = "content ".repeat(100_000);
    const damages: ((path: string) => void)[] = [
      (path) => writeFileSync(path, text.replace("content", "c0ntent")),
      (path) => truncateSync(path, text.length - 1),
      (path) => writeFileSync(path, `${text} `),
    ];
    for (const damage of damages) {
      for (const readBack of ["read", "materialise"] as const) {
        const digest = await putText(blobs, text);
        const path = pathOf(directory, digest);
        chmodSync(path, 0o600);
        damage(path);
        const code =
          readBack === "read"
            ? await codeOf(blobs.read(digest))
            : await codeOf(blobs.materialise(digest, target, { executable: false }));
        expect(code).toBe("corrupt");
        expect(existsSync(target)).toBe(false);
        expect(must(await blobs.missing([digest]))).toEqual([digest]);
        expect(await codeOf(blobs.read(digest))).toBe("missing");
        expect(readdirSync(join(directory, "store", "corrupt"))).toEqual([digest]);
        await putText(blobs, text);
        expect(must(await blobs.read(digest))).toEqual(bytesOf(text));
        await removed(blobs, digest);
      }
    }
  });

  test("[B8] a plain file shares the blob's storage, an executable one does not", async () => {
    const directory = freshDirectory();
    const blobs = await open(directory);
    const digest = await putText(blobs, "shared");
    const [plain, executable] = [join(directory, "plain"), join(directory, "executable")];
    must(await blobs.materialise(digest, plain, { executable: false }));
    must(await blobs.materialise(digest, executable, { executable: true }));
    const inode = (path: string) => statSync(path).ino;
    expect(inode(plain)).toBe(inode(pathOf(directory, digest)));
    expect(inode(executable)).not.toBe(inode(plain));
    expect(statSync(plain).mode & 0o777).toBe(0o444);
  });

  test("modes do not depend on the umask", async () => {
    const directory = freshDirectory();
    const blobs = await open(directory);
    const before = process.umask(0o077);
    try {
      const digest = await putText(blobs, "readable");
      for (const executable of [false, true]) {
        const path = join(directory, `${executable}`);
        must(await blobs.materialise(digest, path, { executable }));
        expect(statSync(path).mode & 0o777).toBe(executable ? 0o555 : 0o444);
      }
    } finally {
      process.umask(before);
    }
  });

  onSmallDisk("[B4][B8][B11] a full disk leaves nothing, and room mends it", async (disk) => {
    const blobs = await open(disk);
    const incoming = join(disk, "store", "incoming");
    const small = await putText(blobs, "x".repeat(100_000));
    const large = new Uint8Array(3 * 1024 * 1024);
    const stream = () => new Blob([large]).stream();
    const digest = digestOf(large);
    for (const content of [large, stream()]) {
      const result = await blobs.put(digest, content);
      expect(result.ok ? "stored" : result.error.code).toBe("full");
      expect(result.ok ? "" : result.error.message).toContain("the disk is full");
      expect(readdirSync(incoming)).toEqual([]);
    }
    expect(await listed(blobs)).toEqual([small]);
    const filler = join(disk, "filler");
    const free = () => Number(Bun.spawnSync(["stat", "-f", "-c", "%f", disk]).stdout);
    writeFileSync(filler, Buffer.alloc(free() * 4096 - 40_000));
    const copied = join(disk, "copied");
    const executable = { executable: true };
    expect(await codeOf(blobs.materialise(small, copied, executable))).toBe("full");
    expect(existsSync(copied)).toBe(false);
    rmSync(filler);
    must(await blobs.materialise(small, copied, executable));
    await putText(blobs, "room again");
  });

  onSmallDisk("[B8] another file system: copied, with the same bytes and mode", async (disk) => {
    const directory = freshDirectory();
    const blobs = await open(directory);
    const digest = await putText(blobs, "far away");
    for (const executable of [false, true]) {
      const path = join(disk, `${executable}`);
      must(await blobs.materialise(digest, path, { executable }));
      expect(readFileSync(path, "utf8")).toBe("far away");
      expect(statSync(path).mode & 0o777).toBe(executable ? 0o555 : 0o444);
    }
  });

  test("a directory that cannot be is an error with its name", async () => {
    const directory = freshDirectory();
    writeFileSync(join(directory, "file"), "");
    const result = await createFileBlobs({ directory: join(directory, "file", "store") });
    expect(result.ok ? "" : result.error.message).toContain(join(directory, "file", "store"));
  });

  test("[B12] uses are told from one another to a minute, and survive a restart", async () => {
    const directory = freshDirectory();
    const digest = await putText(await open(directory), "kept");
    const now = Date.now();
    const blobs = await open(directory);
    const path = pathOf(directory, digest);
    const { ctimeMs, mtimeMs } = statSync(path);
    must(await blobs.missing([digest]));
    // Fresh already: the file is left alone.
    expect(statSync(path).ctimeMs).toBe(ctimeMs);
    expect(must(await blobs.removeUnused(digest, now + 59_000))).toBeNull();
    const eager = must(await createFileBlobs({ directory: join(directory, "store"), renewMs: 0 }));
    await Bun.sleep(20);
    must(await eager.missing([digest]));
    const renewed = statSync(path);
    expect(renewed.ctimeMs).toBeGreaterThan(ctimeMs);
    expect({ mtimeMs: renewed.mtimeMs, mode: renewed.mode & 0o7777 }).toEqual({
      mtimeMs,
      mode: 0o444,
    });
    expect(must(await blobs.removeUnused(digest, Date.now() + 61_000))).toBe(4);
  });
});
