import {
  chmodSync,
  constants,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  unlinkSync,
} from "node:fs";
import {
  chmod,
  copyFile,
  type FileHandle,
  link,
  open,
  readdir,
  readFile,
  rename,
  stat,
  unlink,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { CryptoHasher } from "bun";
import { err, ok, type Result } from "../../base/result.ts";
import type { Timestamp } from "../../base/time.ts";
import {
  assertDigest,
  blobCorrupt,
  blobMissing,
  blobTooLarge,
  digestMismatch,
  fileError,
} from "../blob-errors.ts";
import type { BlobError, Blobs } from "../blobs.ts";
import { Gate } from "./gate.ts";

export interface FileBlobsOptions {
  /** Made if it is not there, with the directories above it. */
  readonly directory: string;
  /** How old a file's time may be before it is renewed when it is asked for; a minute usually. */
  readonly renewMs?: number;
}

const chunkBytes = 256 * 1024;
/** Files looked at, hashed and laid down at one time. */
const inFlightMax = 16;
const renewMsDefault = 60_000;
const blobMode = 0o444;

/**
 * Blobs as files of one process, named by their digest and spread over 256 directories:
 *
 *   blobs/3f/3f9a…   the blobs, mode 0444; the inode's change time tells when it was last stored,
 *                    asked for or laid down. It is renewed by a chmod that changes nothing: the
 *                    other times are what apps see in the files that were laid down.
 *   incoming/        what is being received or removed; emptied at the start
 *   corrupt/         what failed its verification, for a person to look at
 *
 * All on one file system, so that a blob appears, and is set aside, in one step.
 */
export async function createFileBlobs({
  directory,
  renewMs = renewMsDefault,
}: FileBlobsOptions): Promise<Result<Blobs, BlobError>> {
  try {
    for (const name of ["blobs", "incoming", "corrupt"]) {
      mkdirSync(join(directory, name), { recursive: true, mode: 0o700 });
    }
    for (let shard = 0; shard < 256; shard++) {
      const name = shard.toString(16).padStart(2, "0");
      mkdirSync(join(directory, "blobs", name), { recursive: true, mode: 0o700 });
    }
    for (const name of readdirSync(join(directory, "incoming"))) {
      unlinkSync(join(directory, "incoming", name));
    }
    await syncDirectory(join(directory, "blobs"));
    await syncDirectory(directory);
    return ok(new FileBlobs(directory, renewMs));
  } catch (error) {
    return err(fileError(`opening the blobs in ${directory}`, error));
  }
}

class FileBlobs implements Blobs {
  readonly #directory: string;
  readonly #renewMs: number;
  readonly #gate = new Gate(inFlightMax);
  /** For hashing files in chunks; as many as were ever in use at one time. */
  readonly #buffers: Buffer[] = [];
  #received = 0;

  constructor(directory: string, renewMs: number) {
    this.#directory = directory;
    this.#renewMs = renewMs;
  }

  async missing(digests: readonly string[]): Promise<Result<readonly string[], BlobError>> {
    for (const digest of digests) assertDigest(digest);
    const unique = [...new Set(digests)];
    try {
      const sizes = await Promise.all(
        unique.map((digest) => this.#gate.run(() => this.#askedFor(digest))),
      );
      return ok(unique.filter((_, index) => sizes[index] === null));
    } catch (error) {
      return err(fileError("looking for blobs", error));
    }
  }

  async put(
    digest: string,
    content: ReadableStream<Uint8Array> | Uint8Array,
    { maxBytes = Number.POSITIVE_INFINITY }: { readonly maxBytes?: number } = {},
  ): Promise<Result<{ readonly size: number }, BlobError>> {
    assertDigest(digest);
    const incoming = join(this.#directory, "incoming", `${digest}.${++this.#received}`);
    let isIncoming = false;
    try {
      const stored = await this.#askedFor(digest);
      if (stored !== null) {
        await cancel(content);
        return ok({ size: stored });
      }
      const file = await open(incoming, "wx", 0o400);
      isIncoming = true;
      const received = await receive(digest, content, file, maxBytes);
      if (!received.ok) return received;
      const path = this.#pathOf(digest);
      await rename(incoming, path);
      isIncoming = false;
      await syncDirectory(dirname(path));
      return received;
    } catch (error) {
      await cancel(content);
      return err(fileError(`storing blob ${digest}`, error));
    } finally {
      if (isIncoming) await unlink(incoming);
    }
  }

  async read(digest: string): Promise<Result<Uint8Array, BlobError>> {
    assertDigest(digest);
    return await this.#gate.run(async () => {
      try {
        const bytes = await readFile(this.#pathOf(digest));
        const actual = new CryptoHasher("sha256").update(bytes).digest("hex");
        return actual === digest ? ok(bytes) : err(await this.#setAside(digest));
      } catch (error) {
        if (isCode(error, "ENOENT")) return err(blobMissing(digest));
        return err(fileError(`reading blob ${digest}`, error));
      }
    });
  }

  async materialise(
    digest: string,
    path: string,
    { executable }: { readonly executable: boolean },
  ): Promise<Result<void, BlobError>> {
    assertDigest(digest);
    return await this.#gate.run(async () => {
      const blob = this.#pathOf(digest);
      try {
        const actual = await this.#hash(blob);
        if (actual === null) return err(blobMissing(digest));
        if (actual !== digest) return err(await this.#setAside(digest));
        const isLinked = !executable && (await tryLink(blob, path));
        if (!isLinked) await copy(blob, path, executable ? 0o555 : 0o444);
        return ok(undefined);
      } catch (error) {
        return err(fileError(`laying blob ${digest} down as ${path}`, error));
      }
    });
  }

  /** Looked at and taken away in one go, so that nobody asks for it in between. */
  async removeUnused(digest: string, before: Timestamp): Promise<Result<number | null, BlobError>> {
    assertDigest(digest);
    const path = this.#pathOf(digest);
    const leaving = join(this.#directory, "incoming", `${digest}.${++this.#received}`);
    try {
      const { ctimeMs, size } = statSync(path);
      if (ctimeMs >= before - this.#renewMs) return ok(null);
      renameSync(path, leaving);
      // A large file's end takes its time.
      await unlink(leaving);
      return ok(size);
    } catch (error) {
      if (isCode(error, "ENOENT")) return ok(null);
      return err(fileError(`removing blob ${digest}`, error));
    }
  }

  async *list(): AsyncGenerator<string> {
    for (const shard of await readdir(join(this.#directory, "blobs"))) {
      yield* await readdir(join(this.#directory, "blobs", shard));
    }
  }

  #pathOf(digest: string): string {
    return join(this.#directory, "blobs", digest.slice(0, 2), digest);
  }

  /** The size of the blob, which from now on counts as used; null: it is not stored. */
  async #askedFor(digest: string): Promise<number | null> {
    const path = this.#pathOf(digest);
    try {
      const { size, ctimeMs } = await stat(path);
      // Without a wait, as `removeUnused` does: one of the two is first.
      if (Date.now() - ctimeMs >= this.#renewMs) chmodSync(path, blobMode);
      return size;
    } catch (error) {
      if (isCode(error, "ENOENT")) return null;
      throw error;
    }
  }

  /** The SHA-256 of a file; null if there is none. */
  async #hash(path: string): Promise<string | null> {
    const buffer = this.#buffers.pop() ?? Buffer.allocUnsafe(chunkBytes);
    let file: FileHandle | null = null;
    try {
      file = await open(path, "r");
      const hasher = new CryptoHasher("sha256");
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, chunkBytes, null);
        hasher.update(buffer.subarray(0, bytesRead));
        if (bytesRead < chunkBytes) return hasher.digest("hex");
      }
    } catch (error) {
      if (isCode(error, "ENOENT")) return null;
      throw error;
    } finally {
      await file?.close();
      this.#buffers.push(buffer);
    }
  }

  async #setAside(digest: string): Promise<BlobError> {
    const aside = join(this.#directory, "corrupt", digest);
    try {
      await rename(this.#pathOf(digest), aside);
    } catch (error) {
      // Another reader saw it too and was first.
      if (!isCode(error, "ENOENT")) return fileError(`moving corrupt blob ${digest} away`, error);
    }
    return blobCorrupt(digest, aside);
  }
}

/** Writes the content to the file, made durable, and closes it. */
async function receive(
  digest: string,
  content: ReadableStream<Uint8Array> | Uint8Array,
  file: FileHandle,
  maxBytes: number,
): Promise<Result<{ readonly size: number }, BlobError>> {
  try {
    const hasher = new CryptoHasher("sha256");
    let size = 0;
    for await (const chunk of content instanceof Uint8Array ? [content] : content) {
      size += chunk.byteLength;
      if (size > maxBytes) return err(blobTooLarge(digest, maxBytes));
      hasher.update(chunk);
      await writeWhole(file, chunk);
    }
    const actual = hasher.digest("hex");
    if (actual !== digest) return err(digestMismatch(digest, actual));
    await file.chmod(blobMode);
    await file.sync();
    return ok({ size });
  } finally {
    await file.close();
  }
}

async function writeWhole(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.byteLength; ) {
    at += (await file.write(chunk, at, chunk.byteLength - at)).bytesWritten;
  }
}

async function cancel(content: ReadableStream<Uint8Array> | Uint8Array): Promise<void> {
  // What was read to its end, or broke, cannot be cancelled any more.
  if (!(content instanceof Uint8Array)) await content.cancel().catch(() => {});
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** False where the file systems, or the number of links, do not allow it. */
async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (["EXDEV", "EMLINK", "EPERM", "ENOTSUP"].some((code) => isCode(error, code))) return false;
    throw error;
  }
}

/** Shares the blocks where the file system can. */
async function copy(from: string, to: string, mode: number): Promise<void> {
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    await chmod(to, mode);
  } catch (error) {
    if (!isCode(error, "EEXIST")) await unlink(to).catch(() => {});
    throw error;
  }
}

function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === code;
}
