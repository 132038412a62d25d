import { expect } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BlobError, Blobs } from "../blobs.ts";
import { must } from "./ledger-case.ts";

/** An empty store and a directory to lay blobs down in. */
export interface BlobsFixture {
  readonly blobs: Blobs;
  readonly directory: string;
  /** What a failed or finished call left behind beside the blobs listed; none is right. */
  leftovers(): Promise<readonly string[]>;
  dispose(): Promise<void>;
}

/** A rule's check, run on an empty store of its own. */
export interface BlobsCase {
  readonly name: string;
  run(fixture: BlobsFixture): Promise<void>;
}

export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export async function putText(blobs: Blobs, text: string): Promise<string> {
  const bytes = bytesOf(text);
  const digest = digestOf(bytes);
  expect(must(await blobs.put(digest, bytes))).toEqual({ size: bytes.byteLength });
  return digest;
}

/** Later than any use of a blob. */
const anyTime = Number.POSITIVE_INFINITY;

/** Whatever uses it. */
export async function removed(blobs: Blobs, digest: string): Promise<void> {
  expect(must(await blobs.removeUnused(digest, anyTime))).toBeNumber();
}

export async function codeOf(
  result: Promise<{ ok: true } | { ok: false; error: BlobError }>,
): Promise<string> {
  const settled = await result;
  return settled.ok ? "ok" : settled.error.code;
}

export async function listed(blobs: Blobs): Promise<string[]> {
  const digests: string[] = [];
  for await (const digest of blobs.list()) digests.push(digest);
  return digests.sort();
}

/** A stream in chunks, that counts what was pulled and tells when it was cancelled. */
function streamOf(chunks: readonly Uint8Array[], failure?: Error) {
  const state = { pulled: 0, cancelled: false };
  const stream = new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        const chunk = chunks[state.pulled++];
        if (chunk !== undefined) controller.enqueue(chunk);
        else if (failure !== undefined) controller.error(failure);
        else controller.close();
      },
      cancel: () => {
        state.cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  return { stream, state };
}

const unstored = digestOf(bytesOf("nobody stored this"));
const plain = { executable: false };

const putCases: readonly BlobsCase[] = [
  {
    name: "[B1][B2] bytes and streams come back as they were, the empty blob too",
    run: async ({ blobs }) => {
      const large = new Uint8Array(3_000_000).map((_, index) => (index * 7) % 251);
      for (const bytes of [new Uint8Array(0), bytesOf("x"), bytesOf("ü€😀\0\n"), large]) {
        const digest = digestOf(bytes);
        const middle = Math.floor(bytes.byteLength / 3);
        const chunks = [bytes.slice(0, middle), new Uint8Array(0), bytes.slice(middle)];
        const { stream } = streamOf(chunks);
        expect(must(await blobs.put(digest, stream))).toEqual({ size: bytes.byteLength });
        expect(digestOf(must(await blobs.read(digest)))).toBe(digest);
        await removed(blobs, digest);
        expect(must(await blobs.put(digest, bytes))).toEqual({ size: bytes.byteLength });
        expect(digestOf(must(await blobs.read(digest)))).toBe(digest);
      }
    },
  },
  {
    name: "[B1] what is no digest rejects",
    run: async ({ blobs, directory }) => {
      const path = join(directory, "x");
      for (const name of ["", "../../etc/passwd", "A".repeat(64), "a".repeat(63), "a".repeat(65)]) {
        await expect(blobs.put(name, bytesOf(""))).rejects.toThrow("[B1]");
        await expect(blobs.read(name)).rejects.toThrow("[B1]");
        await expect(blobs.missing([name])).rejects.toThrow("[B1]");
        await expect(blobs.materialise(name, path, plain)).rejects.toThrow("[B1]");
        await expect(blobs.removeUnused(name, 0)).rejects.toThrow("[B1]");
      }
    },
  },
  {
    name: "[B2][B4] other bytes than announced are not stored",
    run: async ({ blobs, leftovers }) => {
      const { stream } = streamOf([bytesOf("so"), bytesOf("mething")]);
      expect(await codeOf(blobs.put(unstored, stream))).toBe("digestMismatch");
      expect(await codeOf(blobs.put(unstored, bytesOf("else")))).toBe("digestMismatch");
      expect(await listed(blobs)).toEqual([]);
      expect(await leftovers()).toEqual([]);
      expect(must(await blobs.missing([unstored]))).toEqual([unstored]);
    },
  },
  {
    name: "[B3][B4] too much is noticed while it arrives",
    run: async ({ blobs, leftovers }) => {
      const chunk = new Uint8Array(1000);
      const chunks = Array.from({ length: 100 }, () => chunk);
      const { stream, state } = streamOf(chunks);
      const digest = digestOf(Buffer.concat(chunks));
      expect(await codeOf(blobs.put(digest, stream, { maxBytes: 4500 }))).toBe("tooLarge");
      expect(state.pulled).toBeLessThan(10);
      expect(state.cancelled).toBe(true);
      expect(await codeOf(blobs.put(digest, chunk, { maxBytes: 999 }))).toBe("tooLarge");
      expect(await listed(blobs)).toEqual([]);
      expect(await leftovers()).toEqual([]);
      const exact = streamOf(chunks).stream;
      expect(await codeOf(blobs.put(digest, exact, { maxBytes: 100_000 }))).toBe("ok");
    },
  },
  {
    name: "[B4] a stream that breaks off leaves nothing",
    run: async ({ blobs, leftovers }) => {
      const { stream } = streamOf([bytesOf("begin")], new Error("the client went away"));
      const result = await blobs.put(digestOf(bytesOf("begin")), stream);
      expect(result.ok ? "stored" : result.error.message).toContain("the client went away");
      expect(await listed(blobs)).toEqual([]);
      expect(await leftovers()).toEqual([]);
    },
  },
  {
    name: "[B5] storing again is free; concurrent puts all succeed",
    run: async ({ blobs, leftovers }) => {
      const bytes = bytesOf("again");
      const digest = digestOf(bytes);
      const puts = Array.from({ length: 8 }, (_, index) =>
        blobs.put(digest, index % 2 === 0 ? bytes : streamOf([bytes]).stream),
      );
      for (const result of await Promise.all(puts)) expect(must(result)).toEqual({ size: 5 });
      const { stream, state } = streamOf([bytes]);
      expect(must(await blobs.put(digest, stream))).toEqual({ size: 5 });
      expect(state).toEqual({ pulled: 0, cancelled: true });
      expect(await listed(blobs)).toEqual([digest]);
      expect(await leftovers()).toEqual([]);
    },
  },
];

const readCases: readonly BlobsCase[] = [
  {
    name: "[B6][B9][B10] missing, remove and list",
    run: async ({ blobs, leftovers }) => {
      const texts = Array.from({ length: 60 }, (_, index) => `text ${index}`);
      const digests: string[] = [];
      for (const text of texts) digests.push(await putText(blobs, text));
      expect(await listed(blobs)).toEqual([...digests].sort());
      const [first, second] = digests as [string, string];
      const other = "0".repeat(64);
      const asked = [unstored, first, other, unstored, second, other];
      expect(must(await blobs.missing(asked))).toEqual([unstored, other]);
      expect(must(await blobs.missing([]))).toEqual([]);
      await removed(blobs, first);
      expect(must(await blobs.removeUnused(first, anyTime))).toBeNull();
      expect(must(await blobs.removeUnused(unstored, anyTime))).toBeNull();
      expect(must(await blobs.missing(asked))).toEqual([unstored, first, other]);
      expect(await codeOf(blobs.read(first))).toBe("missing");
      expect(await listed(blobs)).toEqual(digests.slice(1).sort());
      expect(await leftovers()).toEqual([]);
    },
  },
  {
    name: "[B7] what a reader does to its bytes changes no blob",
    run: async ({ blobs }) => {
      const digest = await putText(blobs, "original");
      must(await blobs.read(digest)).fill(0);
      expect(must(await blobs.read(digest))).toEqual(bytesOf("original"));
    },
  },
  {
    name: "[B8] materialised files: bytes, modes, many at one time",
    run: async ({ blobs, directory, leftovers }) => {
      const large = "large ".repeat(200_000);
      for (const [name, text] of Object.entries({ empty: "", small: "small", large })) {
        const digest = await putText(blobs, text);
        for (const executable of [false, true]) {
          const path = join(directory, `${name}-${executable}`);
          must(await blobs.materialise(digest, path, { executable }));
          expect(readFileSync(path, "utf8")).toBe(text);
          expect(statSync(path).mode & 0o7777).toBe(executable ? 0o555 : 0o444);
          expect(statSync(path).uid).toBe(process.getuid?.() ?? 0);
        }
        await removed(blobs, digest);
        expect(readFileSync(join(directory, `${name}-false`), "utf8")).toBe(text);
      }
      const digest = await putText(blobs, "many");
      const paths = Array.from({ length: 300 }, (_, index) => join(directory, `many-${index}`));
      const results = paths.map((path) => blobs.materialise(digest, path, plain));
      for (const result of await Promise.all(results)) must(result);
      for (const path of paths) expect(readFileSync(path, "utf8")).toBe("many");
      expect(await leftovers()).toEqual([]);
    },
  },
  {
    name: "[B8] nothing is written through or over what is there",
    run: async ({ blobs, directory }) => {
      const digest = await putText(blobs, "new");
      const taken = join(directory, "taken");
      writeFileSync(taken, "old");
      symlinkSync(taken, join(directory, "link"));
      symlinkSync(join(directory, "nowhere"), join(directory, "dangling"));
      mkdirSync(join(directory, "folder"));
      for (const name of ["taken", "link", "dangling", "folder", "absent/file"]) {
        for (const executable of [false, true]) {
          const result = await blobs.materialise(digest, join(directory, name), { executable });
          expect(result.ok ? "laid down" : result.error.code).toBe("unavailable");
          expect(result.ok ? "" : result.error.message).toContain(name);
        }
      }
      expect(readFileSync(taken, "utf8")).toBe("old");
      const path = join(directory, "none");
      expect(await codeOf(blobs.materialise(unstored, path, plain))).toBe("missing");
      expect(() => statSync(path)).toThrow("ENOENT");
    },
  },
];

/** Longer than a file system's times are coarse. */
async function momentLater(): Promise<number> {
  await Bun.sleep(40);
  const moment = Date.now();
  await Bun.sleep(40);
  return moment;
}

const removeCases: readonly BlobsCase[] = [
  {
    name: "[B12] only what nobody stored or asked for since a time is removed",
    run: async ({ blobs, leftovers }) => {
      const start = Date.now() - 1000;
      const digest = await putText(blobs, "once");
      expect(must(await blobs.removeUnused(digest, start))).toBeNull();
      expect(await listed(blobs)).toEqual([digest]);
      expect(must(await blobs.removeUnused(digest, await momentLater()))).toBe(4);
      expect(await listed(blobs)).toEqual([]);
      expect(await leftovers()).toEqual([]);
    },
  },
  {
    name: "[B12] missing and put of what is stored count as use",
    run: async ({ blobs }) => {
      const uses: ((digest: string) => Promise<unknown>)[] = [
        async (digest) => expect(must(await blobs.missing([digest]))).toEqual([]),
        async (digest) => must(await blobs.put(digest, bytesOf("used"))),
        async (digest) => must(await blobs.put(digest, streamOf([bytesOf("used")]).stream)),
      ];
      for (const use of uses) {
        const digest = await putText(blobs, "used");
        const before = await momentLater();
        await use(digest);
        expect(must(await blobs.removeUnused(digest, before))).toBeNull();
        await removed(blobs, digest);
      }
    },
  },
  {
    name: "[B12] what is told to be stored stays, however closely its removal follows",
    run: async ({ blobs }) => {
      const digests: string[] = [];
      for (let index = 0; index < 40; index += 1) {
        digests.push(await putText(blobs, `raced ${index}`));
      }
      const before = await momentLater();
      const told = digests.map((digest, index) => {
        const missing = () => blobs.missing([digest]);
        const remove = () => blobs.removeUnused(digest, before);
        return index % 2 === 0
          ? Promise.all([missing(), remove()])
          : Promise.all([remove(), missing()]).then(([gone, asked]) => [asked, gone] as const);
      });
      for (const [index, [asked, gone]] of (await Promise.all(told)).entries()) {
        const digest = digests[index] as string;
        const isThere = must(asked).length === 0;
        expect(must(gone) === null).toBe(isThere);
        expect(must(await blobs.missing([digest])).length === 0).toBe(isThere);
      }
    },
  },
];

export const blobsCases: readonly BlobsCase[] = [...putCases, ...readCases, ...removeCases];
