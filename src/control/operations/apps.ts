import { ok } from "../../base/result.ts";
import { appKey, keys } from "../../model/keys.ts";
import { type AppName, type ProjectName, parseAppName } from "../../model/names.ts";
import type { DeploymentEvent } from "../../model/wire.ts";
import { type AppState, deploymentOf } from "../../scheduler/snapshot.ts";
import type {
  AppRef,
  AppView,
  CloudStatus,
  Outcome,
  Page,
  PageRequest,
  ReleaseView,
} from "../operations.ts";
import {
  badCursor,
  type Context,
  commit,
  findApp,
  fromLedger,
  noRelease,
  pageFault,
} from "./context.ts";
import { appView, releaseView } from "./views.ts";

/** Instances get 10 s to end; then the records go. */
const removalWaitMs = 20_000;

export async function status(context: Context): Outcome<CloudStatus> {
  const { state } = context.engine;
  const { snapshot } = state;
  const { version, domain, httpPort, httpsPort, releasesKept } = context.settings;
  const { collected } = context.collector;
  const nodes = [...snapshot.nodes.values()].flatMap(({ name, node, instances }) => {
    if (node === null) return [];
    const alive = context.engine.observer.isAlive(name);
    return [{ name, capacity: node.capacity, alive, instances }];
  });
  const instances = nodes.reduce((sum, node) => sum + node.instances, 0);
  const present = { nodes, apps: state.appCount, instances };
  return ok({ version, domain, httpPort, httpsPort, ...present, releasesKept, collected });
}

export async function listApps(
  context: Context,
  project: ProjectName,
  page: PageRequest,
): Outcome<Page<AppView>> {
  const fault = pageFault(page);
  if (fault !== null) return fault;
  const { after } = page;
  if (after !== null && !parseAppName(after).ok) return badCursor(after);
  const listed = await context.ledger.list(keys.appsOf(project), {
    ...(after === null ? {} : { after: keys.app(project, after as AppName) }),
    limit: page.limit + 1,
  });
  if (!listed.ok) return fromLedger("listing the apps", listed.error);
  const some = listed.value.entries.slice(0, page.limit).map(({ key }) => nameIn(key));
  const looked = await context.engine.glance(
    some.map((app) => appKey(project, app)),
    () =>
      some.flatMap((app) => {
        const found = findApp(context, { project, app });
        return found.ok ? [appView(context, found.value.state, found.value.app.value)] : [];
      }),
  );
  if (!looked.ok) return fromLedger("listing the apps", looked.error);
  const isLast = listed.value.entries.length <= page.limit;
  return ok({ items: looked.value, next: isLast ? null : (some.at(-1) ?? null) });
}

function nameIn(key: string): AppName {
  return key.slice(key.lastIndexOf("/") + 1) as AppName;
}

export async function getApp(context: Context, ref: AppRef): Outcome<AppView> {
  const found = findApp(context, ref);
  return found.ok ? ok(appView(context, found.value.state, found.value.app.value)) : found;
}

export async function removeApp(context: Context, ref: AppRef): Outcome<void> {
  const marked = await commit(context, `removing ${ref.app}`, async () => {
    const found = findApp(context, ref);
    if (!found.ok) return found;
    const { value: app, modRevision } = found.value.app;
    const key = keys.app(ref.project, ref.app);
    const value = JSON.stringify({ ...app, removing: true });
    return ok({
      conditions: [{ kind: "unchanged", key, modRevision }],
      writes: app.removing ? [] : [{ kind: "put", key, value }],
      value: undefined,
    });
  });
  if (!marked.ok) return marked;
  await isForgotten(context, ref);
  return ok(undefined);
}

/** Waits for the end of the records, bounded: a dead node must not hold the caller. */
async function isForgotten(context: Context, ref: AppRef): Promise<void> {
  let isLate = false;
  let giveUp: () => void = () => {};
  const late = new Promise<void>((resolve) => {
    giveUp = resolve;
  });
  const timer = context.clock.after(removalWaitMs, () => {
    isLate = true;
    giveUp();
  });
  const { state } = context.engine;
  const isThere = () => state.isCold(appKey(ref.project, ref.app)) || findApp(context, ref).ok;
  while (!isLate && !state.isClosed && isThere()) {
    await Promise.race([late, state.reached(state.snapshot.revision + 1)]);
  }
  timer.cancel();
}

/** Newest first; the cursor is a release's number. */
export async function listReleases(
  context: Context,
  ref: AppRef,
  page: PageRequest,
): Outcome<Page<ReleaseView>> {
  const fault = pageFault(page);
  if (fault !== null) return fault;
  const found = findApp(context, ref);
  if (!found.ok) return found;
  if (page.after !== null && !/^\d{1,10}$/.test(page.after)) return badCursor(page.after);
  const below = page.after === null ? Number.POSITIVE_INFINITY : Number(page.after);
  const { state } = found.value;
  const older = state.releases.filter(({ number }) => number < below).reverse();
  const some = older.slice(0, page.limit);
  const items = some.flatMap((release) => {
    const deployment = deploymentOf(state, release.number);
    return deployment === null ? [] : [releaseView(release, deployment.value)];
  });
  const isLast = older.length <= page.limit;
  return ok({ items, next: isLast ? null : String(some.at(-1)?.number ?? 0) });
}

export async function getRelease(
  context: Context,
  ref: AppRef,
  number: number,
): Outcome<ReleaseView> {
  const found = findApp(context, ref);
  if (!found.ok) return found;
  const { state } = found.value;
  const release = state.releases.find((stored) => stored.number === number);
  const deployment = deploymentOf(state, number);
  if (release === undefined || deployment === null) return noRelease(context, ref, state, number);
  return ok(releaseView(release, deployment.value));
}

export async function watchDeployment(
  context: Context,
  ref: AppRef,
  number: number,
  signal: AbortSignal,
): Outcome<AsyncIterable<DeploymentEvent>> {
  const found = findApp(context, ref);
  if (!found.ok) return found;
  const state: AppState = found.value.state;
  const deployment = deploymentOf(state, number);
  if (deployment === null) return noRelease(context, ref, state, number);
  return ok(context.engine.journals.read(state.key, deployment.value, signal));
}
