import { createHash } from "node:crypto";
import { ok, type Result } from "../../base/result.ts";
import { checkManifest } from "../../model/config/manifest.ts";
import { resolveConfig } from "../../model/config/resolve.ts";
import { filesToRead } from "../../model/config/tree.ts";
import { keys } from "../../model/keys.ts";
import { parseDigest } from "../../model/names.ts";
import {
  type Manifest,
  type ManifestEntry,
  type Release,
  releaseName,
} from "../../model/release.ts";
import type { AppState } from "../../scheduler/snapshot.ts";
import { blobSpareMs } from "../collect/collector.ts";
import type {
  Actor,
  AppRef,
  DeployAccepted,
  DeployRequest,
  OperationError,
  Outcome,
} from "../operations.ts";
import {
  type Context,
  findLastingApp,
  fromBlobs,
  noRelease,
  type Refusal,
  refuse,
} from "./context.ts";
import { recordRelease } from "./record-release.ts";
import { urlsOf } from "./views.ts";

/** Read at one time. */
const readsAtOnce = 16;
const missingNamedMax = 5;

export async function deploy(
  context: Context,
  ref: AppRef,
  request: DeployRequest,
  actor: Actor,
): Outcome<DeployAccepted> {
  const { manifest } = request;
  const checked = checkManifest(manifest);
  if (!checked.ok) return checked;
  const askedAt = context.clock.now();
  const complete = await checkComplete(context, manifest);
  if (complete !== null) return complete;
  const contents = await readContents(context, manifest);
  if (!contents.ok) return contents;
  const config = resolveConfig(manifest, contents.value, { sha256 });
  if (!config.ok) return config;
  const text = canonical(manifest);
  const digest = parseDigest(sha256(text));
  if (!digest.ok) return refuse("internal", digest.error);
  const stored = await context.blobs.put(digest.value, new TextEncoder().encode(text));
  if (!stored.ok) return fromBlobs("storing the manifest", stored.error);
  const recorded = await recordRelease(context, ref, actor, (_, app) => {
    // Its files may have been collected meanwhile.
    if (context.clock.now() - askedAt > blobSpareMs / 2) {
      return refuse("unavailable", `recording ${ref.app} took too long`, "deploy it again");
    }
    const { env, secrets } = app;
    return ok({ cause: "deploy", manifest: digest.value, config: config.value, env, secrets });
  });
  return accepted(context, ref, recorded);
}

export async function rollback(
  context: Context,
  ref: AppRef,
  number: number | null,
  actor: Actor,
): Outcome<DeployAccepted> {
  const found = findLastingApp(context, ref);
  if (!found.ok) return found;
  const recorded = await recordRelease(context, ref, actor, (state) => {
    const wanted = number ?? releaseBefore(state);
    if (wanted === null) {
      return refuse(
        "conflict",
        `${ref.app} has no earlier release that served`,
        `name one: lode releases --app ${ref.app}`,
      );
    }
    const stored = state.releases.find((each) => each.number === wanted);
    if (stored === undefined) return noRelease(context, ref, state, wanted);
    const { manifest, config, env, secrets } = JSON.parse(stored.text) as Release;
    const source = {
      key: keys.release(ref.project, ref.app, wanted),
      modRevision: stored.modRevision,
    };
    const cause = `rollback to ${releaseName(wanted)}`;
    return ok({ cause, manifest, config, env, secrets, source });
  });
  return accepted(context, ref, recorded);
}

/** The release that served before the one that is wanted now. */
function releaseBefore(state: AppState): number | null {
  const { target = null, serving = null } = state.app?.value ?? {};
  if (serving !== null && serving !== target) return serving;
  let last: { readonly number: number; readonly endedAt: number } | null = null;
  for (const { value } of state.deployments) {
    if (value.state !== "replaced") continue;
    if (last === null || value.endedAt >= last.endedAt) last = value;
  }
  return last?.number ?? null;
}

function accepted(
  context: Context,
  ref: AppRef,
  recorded: Result<Release | null, OperationError>,
): Result<DeployAccepted, OperationError> {
  if (!recorded.ok) return recorded;
  const release = recorded.value;
  const app = findLastingApp(context, ref);
  if (release === null || !app.ok) {
    return refuse("conflict", `${ref.app} was removed while it was deployed`, "deploy it again");
  }
  return ok({
    app: ref.app,
    release: release.number,
    url: urlsOf(context, app.value.app.value, release.config)[0] ?? null,
    recognition: release.config.recognition,
  });
}

type FileEntry = Extract<ManifestEntry, { kind: "file" }>;

function filesOf(manifest: Manifest): readonly FileEntry[] {
  return manifest.entries.filter((entry) => entry.kind === "file");
}

async function checkComplete(context: Context, manifest: Manifest): Promise<Refusal | null> {
  const files = filesOf(manifest);
  const digests = [...new Set(files.map(({ digest }) => digest))];
  const missing = await context.blobs.missing(digests);
  if (!missing.ok) return fromBlobs("looking for the files", missing.error);
  if (missing.value.length === 0) return null;
  const lacking = new Set(missing.value);
  const paths = files.filter(({ digest }) => lacking.has(digest)).map(({ path }) => path);
  const more = paths.length - missingNamedMax;
  const named = paths.slice(0, missingNamedMax).join(", ") + (more > 0 ? ` and ${more} more` : "");
  return refuse(
    "conflict",
    `${lacking.size} files of the release are not uploaded: ${named}`,
    "ask which digests are missing, upload those, then deploy again",
    paths[0] ?? null,
  );
}

async function readContents(
  context: Context,
  manifest: Manifest,
): Promise<Result<ReadonlyMap<string, string>, OperationError>> {
  const entries = new Map(filesOf(manifest).map((entry) => [entry.path, entry]));
  const contents = new Map<string, string>();
  const wanted = filesToRead(manifest).flatMap((path) => entries.get(path) ?? []);
  for (let start = 0; start < wanted.length; start += readsAtOnce) {
    const some = wanted.slice(start, start + readsAtOnce);
    const read = await Promise.all(some.map(({ digest }) => context.blobs.read(digest)));
    for (const [index, entry] of some.entries()) {
      const bytes = read[index];
      if (bytes === undefined) continue;
      if (!bytes.ok) return fromBlobs(`reading ${entry.path}`, bytes.error);
      if (bytes.value.byteLength !== entry.size) return wrongSize(entry, bytes.value.byteLength);
      const text = textOf(bytes.value);
      if (text !== null) contents.set(entry.path, text);
    }
  }
  return ok(contents);
}

function wrongSize(entry: FileEntry, size: number): Refusal {
  return refuse(
    "invalid",
    `${entry.path} is said to have ${entry.size} bytes, but its content has ${size}`,
    "the file changed while it was read: deploy again",
    entry.path,
  );
}

function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** The same tree, the same text, whoever sent it. */
function canonical(manifest: Manifest): string {
  const entries = manifest.entries.map((entry): ManifestEntry => {
    const { kind, path } = entry;
    if (entry.kind === "directory") return { kind: entry.kind, path };
    if (entry.kind === "symlink") return { kind: entry.kind, path, target: entry.target };
    const { digest, size, executable } = entry;
    return { kind: kind as "file", path, digest, size, executable };
  });
  return JSON.stringify({ entries });
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
