import { ok, type Result } from "../../base/result.ts";
import type { App } from "../../model/app.ts";
import { keys } from "../../model/keys.ts";
import type { Bounds, Limits } from "../../model/limits.ts";
import {
  type InstanceId,
  type NodeName,
  type ProcessType,
  releaseProcess,
} from "../../model/names.ts";
import { type ReleaseConfig, releaseName } from "../../model/release.ts";
import { type SleepReply, subjects } from "../../model/wire.ts";
import { type Denial, denyBounds, denyLimits } from "../../policy/admission.ts";
import { lack } from "../../scheduler/instances.ts";
import { Room } from "../../scheduler/placement.ts";
import {
  type AppState,
  effectiveLimits,
  lastingProcesses,
  releaseOf,
  type Stored,
  takesRequests,
} from "../../scheduler/snapshot.ts";
import type { AppRef, AppView, OperationError, Outcome } from "../operations.ts";
import {
  type Context,
  commit,
  findApp,
  findLastingApp,
  fromWire,
  type Refusal,
  refuse,
} from "./context.ts";
import { appView } from "./views.ts";

type Counts = Readonly<Record<ProcessType, number>>;
type LimitsChange = { readonly cpu?: Bounds; readonly memory?: Bounds };

const instancesMax = 1_000;
/** A node waits 10 s for requests in flight. */
const sleepTimeoutMs = 15_000;

export async function scale(context: Context, ref: AppRef, counts: Counts): Outcome<AppView> {
  const scaled = await commit(context, `scaling ${ref.app}`, async () => {
    const found = findLastingApp(context, ref);
    if (!found.ok) return found;
    const { state, app } = found.value;
    const config = currentConfig(ref, state, app.value);
    if (!config.ok) return config;
    const fault = faultOf(config.value, counts);
    if (fault !== null) return fault;
    const kept = Object.fromEntries(
      Object.entries(counts).filter(
        ([type, count]) => count > 0 || !takesRequests(config.value, type as ProcessType),
      ),
    );
    const after: App = { ...app.value, counts: { ...app.value.counts, ...kept } };
    const room = denyGrowth(context, state, after, config.value, kept);
    if (room !== null) return room;
    const asleep = Object.keys(counts).some((type) => !(type in kept));
    return ok({ ...replaceApp(app, after, Object.keys(kept).length > 0), value: asleep });
  });
  if (!scaled.ok) return scaled;
  if (scaled.value) {
    const refusal = await putToSleep(context, ref);
    if (refusal !== null) return refusal;
  }
  return view(context, ref);
}

export async function setLimits(
  context: Context,
  ref: AppRef,
  change: LimitsChange,
): Outcome<AppView> {
  const denied = denyBounds(change);
  if (denied !== null) return refuse("invalid", denied.message, denied.remedy);
  const changed = await commit(context, `limiting ${ref.app}`, async () => {
    const found = findLastingApp(context, ref);
    if (!found.ok) return found;
    const { state, app } = found.value;
    const { cpu, memory } = app.value.limits;
    const limits = { cpu: change.cpu ?? cpu, memory: change.memory ?? memory };
    const after: App = { ...app.value, limits };
    const denial = denyOnNodes(context, state, after);
    if (denial !== null) return refuse("conflict", denial.message, denial.remedy);
    return ok({ ...replaceApp(app, after, true), value: undefined });
  });
  return changed.ok ? view(context, ref) : changed;
}

function view(context: Context, ref: AppRef): Result<AppView, OperationError> {
  const found = findApp(context, ref);
  return found.ok ? ok(appView(context, found.value.state, found.value.app.value)) : found;
}

function replaceApp(before: Stored<App>, after: App, isChanged: boolean) {
  const key = keys.app(after.project, after.name);
  return {
    conditions: [{ kind: "unchanged" as const, key, modRevision: before.modRevision }],
    writes: isChanged ? [{ kind: "put" as const, key, value: JSON.stringify(after) }] : [],
  };
}

function currentConfig(
  ref: AppRef,
  state: AppState,
  app: App,
): Result<ReleaseConfig, OperationError> {
  const release = releaseOf(state, app.serving ?? app.target);
  if (release !== null) return ok(release.config);
  return refuse("conflict", `${ref.app} has nothing deployed yet`, "deploy it first");
}

function faultOf(config: ReleaseConfig, counts: Counts): Refusal | null {
  const known = lastingProcesses(config);
  if (Object.keys(counts).length === 0) {
    return refuse("invalid", "no process was named", `write it as ${known[0] ?? "web"}=2`);
  }
  for (const [type, count] of Object.entries(counts)) {
    if (!known.includes(type as ProcessType)) {
      const isTask = type === releaseProcess && type in config.processes;
      const message = isTask
        ? "the release process runs once for each release and cannot be scaled"
        : `there is no process "${type}"`;
      return refuse("invalid", message, `its processes are: ${known.join(", ")}`, `/${type}`);
    }
    if (Number.isInteger(count) && count >= 0 && count <= instancesMax) continue;
    const message = `${type}=${count} is not a number of instances`;
    return refuse("invalid", message, `write a whole number from 0 to ${instancesMax}`, `/${type}`);
  }
  return null;
}

function denyGrowth(
  context: Context,
  state: AppState,
  app: App,
  config: ReleaseConfig,
  counts: Readonly<Record<string, number>>,
): Refusal | null {
  const { snapshot } = context.engine.state;
  const limits = effectiveLimits(app, config);
  const room = new Room(snapshot, []);
  const all = state.assignments.map(({ value }) => value);
  for (const [type, wanted] of Object.entries(counts)) {
    const present = all.filter(
      ({ process, release, drain }) =>
        process === type && release === (app.serving ?? app.target) && drain === null,
    );
    for (let count = present.length; count < wanted; count += 1) {
      const placement = room.place(limits, all);
      if (placement.kind === "noRoom") {
        const name = `instance ${count + 1} of ${type}`;
        return refuse("conflict", lack(name, placement), "lower its min, or scale to fewer");
      }
      if (placement.kind === "noNode") break;
      room.take(placement.node, limits);
    }
  }
  return null;
}

function denyOnNodes(context: Context, state: AppState, app: App): Denial | null {
  const release = releaseOf(state, app.serving ?? app.target);
  if (release === null) return null;
  const nodes = [...context.engine.state.snapshot.nodes.values()].flatMap((node) => {
    if (node.node === null) return [];
    const own: Limits[] = state.assignments
      .filter(({ value }) => value.node === node.name)
      .map(({ value }) => value.limits);
    const { name, reservedCores, reservedMemoryBytes } = node;
    return [{ name, capacity: node.node.capacity, reservedCores, reservedMemoryBytes, own }];
  });
  return denyLimits(effectiveLimits(app, release.config), nodes);
}

/** The process that takes requests sleeps until the next one. Null: it does. */
async function putToSleep(context: Context, ref: AppRef): Promise<Refusal | null> {
  const found = findLastingApp(context, ref);
  if (!found.ok) return found;
  const { state, app } = found.value;
  const serving = releaseOf(state, app.value.serving);
  if (serving === null) {
    const name = releaseName(app.value.target ?? app.value.nextRelease - 1);
    return refuse("conflict", `${ref.app} does not serve yet`, `wait until ${name} serves`);
  }
  const byNode = new Map<NodeName, InstanceId[]>();
  for (const { value } of state.assignments) {
    const isWeb = takesRequests(serving.config, value.process);
    if (!isWeb || value.release !== serving.number || value.drain !== null) continue;
    byNode.set(value.node, [...(byNode.get(value.node) ?? []), value.instance]);
  }
  const asked = [...byNode].map(async ([node, instances]): Promise<Refusal | null> => {
    const reply = await context.wire.request(
      subjects.nodeSleep(node),
      { instances },
      { timeoutMs: sleepTimeoutMs },
    );
    if (!reply.ok) return fromWire(`putting ${ref.app} to sleep on ${node}`, reply.error);
    const { asleep } = reply.value as unknown as SleepReply;
    const awake = instances.filter((instance) => !asleep.includes(instance));
    if (awake.length === 0) return null;
    return refuse(
      "conflict",
      `${awake.length} of ${instances.length} instances of ${ref.app} are still in use`,
      "try again when their requests have ended",
    );
  });
  const refusals = await Promise.all(asked);
  return refusals.find((refusal) => refusal !== null) ?? null;
}
