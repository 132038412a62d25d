import type {
  Client,
  ClientError,
  DeployAccepted,
  DeploymentEvent,
  Upload,
  UploadError,
} from "../../api/native/client.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { exitCodes, type Failure, failure, failureOf } from "./failure.ts";
import { type Scanned, type ScannedFile, scanFolder } from "./scan.ts";

export type EndEvent = Extract<DeploymentEvent, { kind: "end" }>;

/** What happens on the way, in this order. */
export type DeployStep =
  | { readonly kind: "hashing"; readonly files: number; readonly of: number }
  | {
      readonly kind: "uploading";
      readonly filesDone: number;
      readonly files: number;
      readonly bytesDone: number;
      readonly bytes: number;
    }
  | {
      readonly kind: "uploaded";
      readonly files: number;
      readonly bytes: number;
      readonly scanned: Scanned;
      readonly durationMs: number;
    }
  | { readonly kind: "accepted"; readonly accepted: DeployAccepted }
  | { readonly kind: "event"; readonly event: DeploymentEvent }
  /** The cloud went away: perhaps only for a moment. */
  | { readonly kind: "interrupted" };

export interface DeployEnd {
  readonly accepted: DeployAccepted;
  readonly end: EndEvent;
  readonly uploadMs: number;
  readonly totalMs: number;
}

export interface DeployOptions {
  readonly client: Client;
  readonly folder: string;
  readonly app: string;
  readonly now: () => number;
  /** Where the API's address came from, for errors. */
  readonly refusal: (error: ClientError) => Result<never, Failure>;
  readonly onStep: (step: DeployStep) => void;
}

/** Deploys a folder and waits until its release serves, fails or is superseded. */
export async function deployFolder(options: DeployOptions): Promise<Result<DeployEnd, Failure>> {
  const { client, now, refusal, onStep } = options;
  const began = now();
  const scanned = await scanFolder(options.folder, (files, of) =>
    onStep({ kind: "hashing", files, of }),
  );
  if (!scanned.ok) return scanned;
  const uploaded = await uploadMissing(options, scanned.value.files);
  if (!uploaded.ok) return uploaded;
  const uploadMs = now() - began;
  onStep({ kind: "uploaded", ...uploaded.value, scanned: scanned.value, durationMs: uploadMs });
  const accepted = await client.deploy(options.app, scanned.value.manifest);
  if (!accepted.ok) return refusal(accepted.error);
  onStep({ kind: "accepted", accepted: accepted.value });
  const end = await watchToEnd(options, accepted.value.release);
  if (!end.ok) return end;
  return ok({ accepted: accepted.value, end: end.value, uploadMs, totalMs: now() - began });
}

/** Waits for the `end` of a release. */
export async function watchToEnd(
  { client, app, refusal, onStep }: Pick<DeployOptions, "client" | "app" | "refusal" | "onStep">,
  release: number,
): Promise<Result<EndEvent, Failure>> {
  let end: EndEvent | null = null;
  const watched = await client.watchDeployment(
    app,
    release,
    (event) => {
      onStep({ kind: "event", event });
      if (event.kind === "end") end = event;
    },
    () => onStep({ kind: "interrupted" }),
  );
  if (!watched.ok) {
    const refused = refusal(watched.error);
    if (watched.error.kind !== "unreachable" || refused.ok) return refused;
    const { message, exitCode } = refused.error;
    const remedy = `it goes on once \`lode up\` runs again: see lode releases ${app}`;
    return err(failure(exitCode, `${message}; v${release} of ${app} was on its way`, remedy));
  }
  if (end !== null) return ok(end);
  return err(failure(exitCodes.failed, `the events of ${app} v${release} have no end`));
}

/** The failure of a release; null when it serves, or a later one does instead. */
export function failureOfEnd(app: string, release: number, end: EndEvent): Failure | null {
  if (end.state !== "failed") return null;
  return failure(
    exitCodes.deployFailed,
    `release v${release} of ${app} failed: ${end.reason ?? "no reason was given"}`,
    null,
    end.logTail,
  );
}

async function uploadMissing(
  { client, refusal, onStep }: DeployOptions,
  all: readonly ScannedFile[],
): Promise<Result<{ files: number; bytes: number }, Failure>> {
  const missing = await client.findMissing(all.map((file) => file.digest));
  if (!missing.ok) return refusal(missing.error);
  const uploads: Upload[] = all
    .filter((file) => missing.value.has(file.digest))
    .map(({ digest, size, path, absolute }) => {
      return { digest, size, path, open: () => Bun.file(absolute) };
    });
  const files = uploads.length;
  const bytes = uploads.reduce((sum, upload) => sum + upload.size, 0);
  const done = await client.upload(uploads, (progress) =>
    onStep({ kind: "uploading", ...progress, files, bytes }),
  );
  if (!done.ok) return uploadRefusal(done.error, refusal);
  return ok({ files, bytes });
}

function uploadRefusal(
  error: UploadError,
  refusal: DeployOptions["refusal"],
): Result<never, Failure> {
  if (error.kind === "unreadable") {
    return err(
      failure(
        exitCodes.failed,
        `${error.path} was there, but could not be read for the upload: ${error.message}`,
        "deploy again once the folder is at rest",
      ),
    );
  }
  if (error.kind === "changed") {
    return err(
      failure(
        exitCodes.failed,
        `${error.path} changed while it was uploaded`,
        "deploy again once the folder is at rest",
      ),
    );
  }
  return refusal(error);
}

/** `refusal` for callers that are not a session. */
export function refusalFrom(whence: string): DeployOptions["refusal"] {
  return (error) => err(failureOf(error, whence));
}
