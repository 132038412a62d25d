import { ok, type Result } from "../../base/result.ts";
import type { Condition, Write } from "../../fabric/ledger.ts";
import type { App } from "../../model/app.ts";
import { appKey, keys } from "../../model/keys.ts";
import type { Deployment, Release } from "../../model/release.ts";
import { applyChanges } from "../../scheduler/apply.ts";
import { type AppState, type HostClaim, hostsOf } from "../../scheduler/snapshot.ts";
import type { Actor, AppRef, OperationError, Outcome } from "../operations.ts";
import {
  beingRemoved,
  type Context,
  commit,
  fromLedger,
  type Proposal,
  refuse,
  stateOf,
} from "./context.ts";

/** What a new release is made of, and what changes on the app with it. */
export interface ReleaseDraft {
  readonly cause: string;
  readonly manifest: Release["manifest"];
  readonly config: Release["config"];
  readonly env: Release["env"];
  readonly secrets: Release["secrets"];
  /** The release that it is taken from, which must still be kept when this one is recorded. */
  readonly source?: { readonly key: string; readonly modRevision: number };
  readonly appEnv?: App["env"];
  readonly appSecrets?: App["secrets"];
}

/**
 * What to record for the app as it is now. `onlyApp`: the app record without a release. The
 * draft may be asked for several times, when others change the app at the same time.
 */
export type DraftRelease = (
  state: AppState,
  app: App,
) => Result<ReleaseDraft | { readonly onlyApp: App }, OperationError>;

/** The ledger takes 128; beyond, the first steps follow in a transaction of their own. */
const writesTogetherMax = 128;

/**
 * Records the next release of an app, which is made if need be; with it, in one transaction,
 * its deployment, its host names, and the first steps on its way. Null: no release was made.
 */
export async function recordRelease(
  context: Context,
  ref: AppRef,
  actor: Actor,
  draft: DraftRelease,
): Promise<Result<Release | null, OperationError>> {
  const { snapshot } = context.engine.state;
  if (!snapshot.projects.has(ref.project)) {
    return refuse("notFound", `there is no project ${ref.project}`, "use the project default");
  }
  let uidOffset: number | null = null;
  if (stateOf(context, ref).app === null) {
    const taken = await context.uidOffsets.take();
    if (!taken.ok) return fromLedger(`creating ${ref.app}`, taken.error);
    uidOffset = taken.value;
  }
  const recorded = await commit(context, `recording a release of ${ref.app}`, () =>
    propose(context, ref, actor, draft, uidOffset),
  );
  const isUsed = recorded.ok && stateOf(context, ref).app?.value.uidOffset === uidOffset;
  if (uidOffset !== null && !isUsed) context.uidOffsets.giveBack(uidOffset);
  return recorded;
}

async function propose(
  context: Context,
  ref: AppRef,
  actor: Actor,
  draft: DraftRelease,
  uidOffset: number | null,
): Promise<Result<Proposal<Release | null>, OperationError>> {
  const state = stateOf(context, ref);
  const record = state.app;
  if (record?.value.removing) return beingRemoved(ref);
  if (record === null && uidOffset === null) return beingRemoved(ref);
  const key = keys.app(ref.project, ref.app);
  const app = record?.value ?? newApp(ref, uidOffset ?? 0, context.clock.now());
  const drafted = draft(state, app);
  if (!drafted.ok) return drafted;
  const conditions: Condition[] = [
    record === null
      ? { kind: "absent", key }
      : { kind: "unchanged", key, modRevision: record.modRevision },
  ];
  if ("onlyApp" in drafted.value) {
    const write: Write = { kind: "put", key, value: JSON.stringify(drafted.value.onlyApp) };
    return ok({ conditions, writes: [write], value: null });
  }
  const made = recordsOf(context, app, actor, drafted.value);
  const hosts = await claims(context, made.app, made.release);
  if (!hosts.ok) return hosts;
  const writes = [...made.writes, ...hosts.value.writes];
  conditions.push(...hosts.value.conditions);
  const { source } = drafted.value;
  if (source !== undefined) conditions.push({ kind: "unchanged", ...source });
  return ok(withFirstSteps(context, ref, { conditions, writes, value: made.release }));
}

function newApp(ref: AppRef, uidOffset: number, createdAt: number): App {
  return {
    project: ref.project,
    name: ref.app,
    createdAt,
    uidOffset,
    nextRelease: 1,
    target: null,
    serving: null,
    counts: {},
    limits: { cpu: null, memory: null },
    env: {},
    secrets: {},
    removing: false,
  };
}

function recordsOf(
  context: Context,
  before: App,
  actor: Actor,
  draft: ReleaseDraft,
): { app: App; release: Release; writes: readonly Write[] } {
  const now = context.clock.now();
  const { project, name, nextRelease: number } = before;
  const { cause, manifest, config, env, secrets } = draft;
  const app: App = {
    ...before,
    nextRelease: number + 1,
    target: number,
    env: draft.appEnv ?? before.env,
    secrets: draft.appSecrets ?? before.secrets,
  };
  const release: Release = {
    ...{ project, app: name, number, createdAt: now, createdBy: actor.id },
    ...{ cause, manifest, config, env, secrets },
  };
  const deployment: Deployment = { project, app: name, number, startedAt: now, state: "starting" };
  const put = (key: string, value: App | Release | Deployment): Write => ({
    kind: "put",
    key,
    value: JSON.stringify(value),
  });
  const writes = [
    put(keys.app(project, name), app),
    put(keys.release(project, name, number), release),
    put(keys.deployment(project, name, number), deployment),
  ];
  return { app, release, writes };
}

/** The release's host names: claimed for the app, or who has them. */
async function claims(
  context: Context,
  app: App,
  release: Release,
): Outcome<{ writes: readonly Write[]; conditions: readonly Condition[] }> {
  const writes: Write[] = [];
  const conditions: Condition[] = [];
  const owner = { project: app.project, app: app.name };
  for (const host of hostsOf(app, release.config, context.settings.domain)) {
    const entry = await context.ledger.get(keys.host(host));
    if (!entry.ok) return fromLedger(`looking up ${host}`, entry.error);
    if (entry.value === null) {
      conditions.push({ kind: "absent", key: keys.host(host) });
      writes.push({ kind: "put", key: keys.host(host), value: JSON.stringify(owner) });
      continue;
    }
    const claim = JSON.parse(entry.value.value) as HostClaim;
    if (claim.project === app.project && claim.app === app.name) continue;
    return refuse(
      "conflict",
      `${host} belongs to the app ${claim.app} of project ${claim.project}`,
      `take ${host} out of ${app.name}'s http.hosts, or out of ${claim.app}'s and deploy that`,
      "lode.toml",
    );
  }
  return ok({ writes, conditions });
}

/** What the leader would do first anyway is done in the same transaction. */
function withFirstSteps<Value>(
  context: Context,
  ref: AppRef,
  proposal: Proposal<Value>,
): Proposal<Value> {
  const { snapshot } = context.engine.state;
  const changes = proposal.writes.flatMap((write) =>
    write.kind === "put" ? [{ key: write.key, value: write.value, modRevision: -1 }] : [],
  );
  const after = applyChanges(snapshot, snapshot.revision, changes).snapshot;
  const first = context.engine.firstSteps(after, appKey(ref.project, ref.app));
  if (first === null) return proposal;
  const byKey = new Map<string, Write>();
  for (const write of [...proposal.writes, ...first.writes]) {
    byKey.set(write.kind === "deletePrefix" ? write.prefix : write.key, write);
  }
  const conditions = [...proposal.conditions, ...first.conditions];
  if (byKey.size > writesTogetherMax || conditions.length > writesTogetherMax) return proposal;
  return { ...proposal, conditions, writes: [...byKey.values()], taking: first.taking };
}
