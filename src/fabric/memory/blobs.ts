import { createHash } from "node:crypto";
import { chmod, unlink, writeFile } from "node:fs/promises";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timestamp } from "../../base/time.ts";
import {
  assertDigest,
  blobMissing,
  blobTooLarge,
  digestMismatch,
  fileError,
} from "../blob-errors.ts";
import type { BlobError, Blobs } from "../blobs.ts";

/** Blobs that live as long as their process: for tests and the simulation. */
export function createMemoryBlobs({ clock }: { readonly clock: Clock }): Blobs {
  return new MemoryBlobs(clock);
}

class MemoryBlobs implements Blobs {
  readonly #blobs = new Map<string, Uint8Array>();
  /** When each was stored, or last told to be. */
  readonly #askedAt = new Map<string, Timestamp>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async missing(digests: readonly string[]): Promise<Result<readonly string[], BlobError>> {
    for (const digest of digests) assertDigest(digest);
    const unique = [...new Set(digests)];
    for (const digest of unique) if (this.#blobs.has(digest)) this.#asked(digest);
    return ok(unique.filter((digest) => !this.#blobs.has(digest)));
  }

  async put(
    digest: string,
    content: ReadableStream<Uint8Array> | Uint8Array,
    { maxBytes = Number.POSITIVE_INFINITY }: { readonly maxBytes?: number } = {},
  ): Promise<Result<{ readonly size: number }, BlobError>> {
    assertDigest(digest);
    const stored = this.#blobs.get(digest);
    if (stored !== undefined) {
      this.#asked(digest);
      if (!(content instanceof Uint8Array)) await content.cancel().catch(() => {});
      return ok({ size: stored.byteLength });
    }
    const collected = await collect(digest, content, maxBytes);
    if (!collected.ok) return collected;
    const bytes = collected.value;
    const actual = createHash("sha256").update(bytes).digest("hex");
    if (actual !== digest) return err(digestMismatch(digest, actual));
    this.#blobs.set(digest, bytes);
    this.#asked(digest);
    return ok({ size: bytes.byteLength });
  }

  async read(digest: string): Promise<Result<Uint8Array, BlobError>> {
    assertDigest(digest);
    const bytes = this.#blobs.get(digest);
    return bytes === undefined ? err(blobMissing(digest)) : ok(bytes.slice());
  }

  async materialise(
    digest: string,
    path: string,
    { executable }: { readonly executable: boolean },
  ): Promise<Result<void, BlobError>> {
    assertDigest(digest);
    const bytes = this.#blobs.get(digest);
    if (bytes === undefined) return err(blobMissing(digest));
    try {
      await writeFile(path, bytes, { flag: "wx" });
    } catch (error) {
      return err(fileError(`laying blob ${digest} down as ${path}`, error));
    }
    try {
      await chmod(path, executable ? 0o555 : 0o444);
      return ok(undefined);
    } catch (error) {
      await unlink(path).catch(() => {});
      return err(fileError(`laying blob ${digest} down as ${path}`, error));
    }
  }

  async removeUnused(digest: string, before: Timestamp): Promise<Result<number | null, BlobError>> {
    assertDigest(digest);
    const bytes = this.#blobs.get(digest);
    if (bytes === undefined || (this.#askedAt.get(digest) ?? 0) >= before) return ok(null);
    this.#blobs.delete(digest);
    this.#askedAt.delete(digest);
    return ok(bytes.byteLength);
  }

  async *list(): AsyncGenerator<string> {
    yield* [...this.#blobs.keys()];
  }

  #asked(digest: string): void {
    this.#askedAt.set(digest, this.#clock.now());
  }
}

async function collect(
  digest: string,
  content: ReadableStream<Uint8Array> | Uint8Array,
  maxBytes: number,
): Promise<Result<Uint8Array, BlobError>> {
  if (content instanceof Uint8Array) {
    if (content.byteLength > maxBytes) return err(blobTooLarge(digest, maxBytes));
    return ok(content.slice());
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of content) {
      size += chunk.byteLength;
      if (size > maxBytes) return err(blobTooLarge(digest, maxBytes));
      chunks.push(chunk);
    }
  } catch (error) {
    return err(fileError(`receiving blob ${digest}`, error));
  }
  return ok(Buffer.concat(chunks));
}
