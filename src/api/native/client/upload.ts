import { err, ok, type Result } from "../../../base/result.ts";
import { type ClientError, fileCodes, type Transport } from "./transport.ts";

export interface Upload {
  readonly digest: string;
  readonly size: number;
  /** What the digest is of, for errors. */
  readonly path: string;
  /** Called for each attempt; a file that is gone shows when it is read. */
  readonly open: () => Blob;
}

export type UploadError =
  | ClientError
  /** The file is no longer there, or cannot be read. */
  | { readonly kind: "unreadable"; readonly path: string; readonly message: string }
  /** The file no longer has the digest it had. */
  | { readonly kind: "changed"; readonly path: string };

export interface UploadProgress {
  readonly filesDone: number;
  readonly bytesDone: number;
}

const concurrencyMax = 16;
const digestsPerRequest = 10_000;

export async function findMissing(
  transport: Transport,
  digests: readonly string[],
): Promise<Result<ReadonlySet<string>, ClientError>> {
  const missing = new Set<string>();
  for (let from = 0; from < digests.length; from += digestsPerRequest) {
    const answer = await transport.askJson<{ missing: readonly string[] }>({
      method: "POST",
      path: "/v1/blobs/missing",
      json: { digests: digests.slice(from, from + digestsPerRequest) },
      repeatable: true,
      timeoutMs: 60_000,
    });
    if (!answer.ok) return answer;
    for (const digest of answer.value.missing) missing.add(digest);
  }
  return ok(missing);
}

/** Uploads in parallel; the first failure stops the rest. */
export async function uploadAll(
  transport: Transport,
  uploads: readonly Upload[],
  onProgress: (progress: UploadProgress) => void,
): Promise<Result<void, UploadError>> {
  const abort = new AbortController();
  let next = 0;
  let filesDone = 0;
  let bytesDone = 0;
  let failure: UploadError | null = null;

  async function work(): Promise<void> {
    while (failure === null) {
      const upload = uploads[next++];
      if (upload === undefined) return;
      const outcome = await uploadOne(transport, upload, abort.signal);
      if (!outcome.ok) {
        failure ??= outcome.error;
        abort.abort();
        return;
      }
      filesDone += 1;
      bytesDone += upload.size;
      onProgress({ filesDone, bytesDone });
    }
  }

  await Promise.all(Array.from({ length: Math.min(concurrencyMax, uploads.length) }, work));
  return failure === null ? ok(undefined) : err(failure);
}

async function uploadOne(
  transport: Transport,
  upload: Upload,
  signal: AbortSignal,
): Promise<Result<void, UploadError>> {
  const outcome = await transport.ask({
    method: "PUT",
    path: `/v1/blobs/${upload.digest}`,
    headers: { "Content-Type": "application/octet-stream" },
    body: upload.open,
    repeatable: true,
    timeoutMs: null,
    signal,
  });
  if (outcome.ok) return ok(undefined);
  const { error } = outcome;
  const { code } = error.kind === "problem" ? error.problem : { code: null };
  if (code === "invalid" || code === "unprocessable") {
    return err({ kind: "changed", path: upload.path });
  }
  if (error.kind === "unreachable" && fileCodes.has(error.code ?? "")) {
    return err({ kind: "unreadable", path: upload.path, message: error.message });
  }
  return err(error);
}
