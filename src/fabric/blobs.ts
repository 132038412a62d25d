import type { Result } from "../base/result.ts";
import type { Timestamp } from "../base/time.ts";

export type BlobError = {
  readonly code: "digestMismatch" | "missing" | "corrupt" | "full" | "tooLarge" | "unavailable";
  readonly message: string;
};

/**
 * Immutable bytes named by their SHA-256 (64 lowercase hex digits). Verified on every read; a
 * blob that fails is reported `corrupt` and no longer listed. `blobs.SPEC.md` numbers the rules.
 */
export interface Blobs {
  /** Of the given digests, those that are not stored. */
  missing(digests: readonly string[]): Promise<Result<readonly string[], BlobError>>;
  /** Stores nothing unless the bytes have this digest. Storing again is free. */
  put(
    digest: string,
    content: ReadableStream<Uint8Array> | Uint8Array,
    options?: { readonly maxBytes?: number },
  ): Promise<Result<{ readonly size: number }, BlobError>>;
  /** The whole blob, for small ones such as manifests. */
  read(digest: string): Promise<Result<Uint8Array, BlobError>>;
  /** Lays the verified blob down as a file that the caller may not modify (mode 0444/0555). */
  materialise(
    digest: string,
    path: string,
    options: { readonly executable: boolean },
  ): Promise<Result<void, BlobError>>;
  /**
   * Removes the blob unless it was stored, or `missing` or `put` told that it is, at `before` or
   * later: then somebody may be about to need it. The size of what was removed, in bytes; null:
   * nothing was.
   */
  removeUnused(digest: string, before: Timestamp): Promise<Result<number | null, BlobError>>;
  /** All digests, for garbage collection. */
  list(): AsyncIterable<string>;
}
