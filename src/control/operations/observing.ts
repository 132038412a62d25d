import { ok } from "../../base/result.ts";
import { keys } from "../../model/keys.ts";
import type { InstanceId, ProjectName } from "../../model/names.ts";
import type { AppState } from "../../scheduler/snapshot.ts";
import { metricFamilies } from "../metrics/families.ts";
import type { MetricFamily, Outcome, TopApp, TopFrame, TopInstance } from "../operations.ts";
import { onAbort, Stream } from "../stream.ts";
import type { Context } from "./context.ts";
import { appView } from "./views.ts";

const framePeriodMs = 1000;
/** Gateways tell their load once a second, each in its own time: over less, rates would jump. */
const rateFrames = 3;
const framesQueuedMax = 4;
const appsShownMax = 200;
/** The first of the apps that do nothing are shown; the others are only counted. */
const quietAppsMax = 200;

export async function metrics(context: Context): Outcome<readonly MetricFamily[]> {
  const { engine, meters, knownCosts, settings, collector } = context;
  const { apps, nodes } = engine.state.snapshot;
  meters.keep((app) => apps.get(app) !== undefined || engine.state.isCold(app));
  const assigned = [...nodes.values()].reduce((sum, { instances }) => sum + instances, 0);
  return ok(
    metricFamilies(meters, {
      version: settings.version,
      apps: engine.state.appCount,
      collected: collector.collected,
      statuses: engine.observer.statuses(),
      costsOf: (app) => knownCosts.of(app, apps.get(app)?.app?.value.serving ?? null),
      asleep: Math.max(0, assigned - engine.observer.count),
    }),
  );
}

/** Requests of every instance at one moment. */
interface Mark {
  readonly at: number;
  readonly requests: ReadonlyMap<InstanceId, number>;
}

export async function top(
  context: Context,
  project: ProjectName,
  signal: AbortSignal,
): Outcome<AsyncIterable<TopFrame>> {
  const { clock, meters } = context;
  const mark = (): Mark => ({ at: clock.now(), requests: new Map(meters.requests) });
  const marks = [mark()];
  const show = async () => {
    await showFirst(context, project);
    stream.push(frame(context, project, marks[0] as Mark));
    marks.push(mark());
    if (marks.length > rateFrames) marks.shift();
  };
  const timer = clock.every(framePeriodMs, () => void show());
  const stream = new Stream<TopFrame>(framesQueuedMax, () => timer.cancel());
  onAbort(signal, () => stream.end());
  return ok(stream);
}

/** Keeps the first of the project's apps in the snapshot. */
async function showFirst({ ledger, engine }: Context, project: ProjectName): Promise<void> {
  const listed = await ledger.list(keys.appsOf(project), { limit: quietAppsMax });
  if (!listed.ok) return;
  await engine.ensure(listed.value.entries.map(({ key }) => key.slice(keys.apps.length)));
}

function frame(context: Context, project: ProjectName, since: Mark): TopFrame {
  const { state } = context.engine;
  const rows: TopApp[] = [];
  let quiet = 0;
  for (const [key, each] of state.snapshot.apps.entries()) {
    if (each.app?.value.project !== project) continue;
    if (isQuiet(context, key)) quiet += 1;
    if (quiet <= quietAppsMax || !isQuiet(context, key)) {
      rows.push(rowOf(context, key, each, since));
    }
  }
  rows.sort(byBusiness);
  const apps = rows.slice(0, appsShownMax);
  return {
    at: context.clock.now(),
    apps,
    more: Math.max(0, state.appCountOf(project) - apps.length),
  };
}

function isQuiet({ engine }: Context, key: string): boolean {
  for (const { status } of engine.observer.instancesOf(key).values()) {
    if (status.phase.state !== "asleep") return false;
  }
  return true;
}

function byBusiness(one: TopApp, other: TopApp): number {
  const cpu = other.cpuCores - one.cpuCores;
  const requests = other.requestsPerSecond - one.requestsPerSecond;
  const memory = other.memoryBytes - one.memoryBytes;
  return cpu || requests || memory || (one.app < other.app ? -1 : 1);
}

function rowOf(context: Context, key: string, state: AppState, since: Mark): TopApp {
  const { meters } = context;
  const view = appView(context, state, state.app?.value as NonNullable<typeof state.app>["value"]);
  const instances = view.instances.map((each): TopInstance => {
    const { instance, node, release, process, phase, usage } = each;
    const inFlight = [...meters.liveGateways()].reduce(
      (sum, [, gateway]) => sum + (gateway.inFlight.get(instance) ?? 0),
      0,
    );
    const requestsPerSecond = rateOf(context, instance, since);
    return {
      instance,
      node,
      release,
      process,
      state: phase.state,
      requestsPerSecond,
      inFlight,
      usage,
    };
  });
  const sum = (of: (each: TopInstance) => number) =>
    instances.reduce((total, each) => total + of(each), 0);
  let inFlight = 0;
  let held = 0;
  for (const [, gateway] of meters.liveGateways()) {
    inFlight += gateway.apps.get(key)?.inFlight ?? 0;
    held += gateway.apps.get(key)?.held ?? 0;
  }
  return {
    ...{ app: view.name, state: view.state },
    cpuCores: sum(({ usage }) => usage?.cpuCores ?? 0),
    memoryBytes: sum(({ usage }) => usage?.memoryBytes ?? 0),
    requestsPerSecond: sum((each) => each.requestsPerSecond),
    ...{ inFlight, held, instances },
  };
}

function rateOf({ meters, clock }: Context, instance: InstanceId, since: Mark): number {
  const requests = (meters.requests.get(instance) ?? 0) - (since.requests.get(instance) ?? 0);
  return Math.max(0, requests) / Math.max(0.001, (clock.now() - since.at) / 1000);
}
