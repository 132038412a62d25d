import { assert } from "../base/assert.ts";
import type { BlobError } from "./blobs.ts";

export function assertDigest(digest: string): void {
  assert(/^[0-9a-f]{64}$/.test(digest), `${JSON.stringify(digest.slice(0, 80))} is not [B1]`);
}

export function digestMismatch(expected: string, actual: string): BlobError {
  const message = `the content announced as ${expected} has the SHA-256 ${actual}`;
  return { code: "digestMismatch", message };
}

export function blobMissing(digest: string): BlobError {
  return { code: "missing", message: `blob ${digest} is not stored` };
}

export function blobTooLarge(digest: string, bytesMax: number): BlobError {
  return { code: "tooLarge", message: `blob ${digest} is larger than ${bytesMax} bytes` };
}

/** What the operating system, or the sender of a stream, had against it. */
export function fileError(doing: string, error: unknown): BlobError {
  const cause = error instanceof Error ? error.message : String(error);
  const full = /^(ENOSPC|EDQUOT)$/.test((error as NodeJS.ErrnoException | null)?.code ?? "");
  const message = `${doing}: ${full ? "the disk is full" : cause}`;
  return { code: full ? "full" : "unavailable", message };
}

export function blobCorrupt(digest: string, aside: string): BlobError {
  const message = `blob ${digest} was damaged and moved to ${aside}: store it again`;
  return { code: "corrupt", message };
}
