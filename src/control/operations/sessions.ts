import { ok, type Result } from "../../base/result.ts";
import type { Assignment } from "../../model/instance.ts";
import type { NodeName } from "../../model/names.ts";
import {
  type ExecInput,
  type ExecOutput,
  type ExecReply,
  type ExecRequest,
  subjects,
  type WakeReply,
} from "../../model/wire.ts";
import { type AppState, releaseOf, takesRequests } from "../../scheduler/snapshot.ts";
import type { AppRef, ExecSession, OperationError, Operations, Outcome } from "../operations.ts";
import { Stream } from "../stream.ts";
import { type Context, findLastingApp, fromWire, type Refusal, refuse } from "./context.ts";

type ExecQuery = Parameters<Operations["exec"]>[1];
type RunQuery = Parameters<Operations["run"]>[1];

const startTimeoutMs = 60_000;
const wakeTimeoutMs = 30_000;
/** The agent ends a session that it has not heard of for 30 s. */
const aliveMs = 10_000;
const outputsQueuedMax = 4_096;

export async function exec(context: Context, ref: AppRef, query: ExecQuery): Outcome<ExecSession> {
  const found = findLastingApp(context, ref);
  if (!found.ok) return found;
  const { state, app } = found.value;
  const chosen = await chooseInstance(context, ref, state, query.instance);
  if (!chosen.ok) return chosen;
  const { instance, node } = chosen.value;
  return open(context, ref, node, {
    uidOffset: app.value.uidOffset,
    target: { kind: "inside", instance },
    argv: query.argv,
    terminal: query.terminal,
  });
}

export async function run(context: Context, ref: AppRef, query: RunQuery): Outcome<ExecSession> {
  const found = findLastingApp(context, ref);
  if (!found.ok) return found;
  const { state, app } = found.value;
  const release = app.value.serving ?? app.value.target;
  if (release === null) {
    return refuse("conflict", `${ref.app} has no release to run in`, "deploy it first");
  }
  const node = chooseNode(context, state);
  if (node === null) {
    return refuse("unavailable", "no node of the pool can take a command now", "try again");
  }
  return open(context, ref, node, {
    uidOffset: app.value.uidOffset,
    target: { kind: "oneOff", release },
    argv: query.argv,
    terminal: query.terminal,
  });
}

async function chooseInstance(
  context: Context,
  ref: AppRef,
  state: AppState,
  wanted: Assignment["instance"] | null,
): Promise<Result<Assignment, OperationError>> {
  const seen = context.engine.observer.instancesOf(state.key);
  const stateOf = (assignment: Assignment) => seen.get(assignment.instance)?.status.phase.state;
  const config = releaseOf(state, state.app?.value.serving ?? null)?.config;
  const all = state.assignments
    .map(({ value }) => value)
    .filter((value) => wanted === null || value.instance === wanted);
  if (wanted !== null && all.length === 0) {
    const remedy = `see lode ps --app ${ref.app}`;
    return refuse("notFound", `${ref.app} has no instance ${wanted}`, remedy);
  }
  const preferred = all.filter(
    ({ release, process }) =>
      wanted !== null ||
      (release === state.app?.value.serving &&
        config !== undefined &&
        (config.http === null || takesRequests(config, process))),
  );
  const running = preferred.find((assignment) => stateOf(assignment) === "running");
  if (running !== undefined) return ok(running);
  const resting =
    preferred.find((assignment) => stateOf(assignment) === "frozen") ??
    preferred.find((assignment) => stateOf(assignment) === "asleep");
  if (resting !== undefined) return (await wake(context, ref, resting)) ?? ok(resting);
  const remedy = `see lode ps and lode logs, or use lode run for a sandbox of its own`;
  return refuse("conflict", `no instance of ${ref.app} is running`, remedy);
}

async function wake(
  context: Context,
  ref: AppRef,
  { instance, node }: Assignment,
): Promise<Refusal | null> {
  const doing = `waking ${ref.app}`;
  const reply = await context.wire.request(
    subjects.nodeWake(node),
    { instance },
    { timeoutMs: wakeTimeoutMs },
  );
  if (!reply.ok) return fromWire(doing, reply.error);
  const answer = reply.value as unknown as WakeReply;
  if (answer.ok) return null;
  return refuse("conflict", `${doing}: ${answer.reason}`, `see lode logs --app ${ref.app}`);
}

/** Where the app's files are laid out already, else any node that is there. */
function chooseNode(context: Context, state: AppState): NodeName | null {
  const isThere = (name: NodeName) => context.engine.observer.heardSince(name) !== null;
  const known = state.assignments.map(({ value }) => value.node).find(isThere);
  if (known !== undefined) return known;
  const pool = [...context.engine.state.snapshot.nodes.values()];
  return pool.find(({ node, name }) => node !== null && isThere(name))?.name ?? null;
}

async function open(
  context: Context,
  ref: AppRef,
  node: NodeName,
  request: Pick<ExecRequest, "uidOffset" | "target" | "argv" | "terminal">,
): Outcome<ExecSession> {
  const session = context.random.token(20);
  let hasExited = false;
  const input = (message: ExecInput) =>
    context.wire.publish(subjects.sessionInput(session), { ...message });
  const stream = new Stream<ExecOutput>(outputsQueuedMax, () => {
    subscription.cancel();
    alive.cancel();
    if (!hasExited) input({ kind: "signal", signal: "SIGHUP" });
  });
  const subscription = context.wire.subscribe(subjects.sessionOutput(session), ({ payload }) => {
    const output = payload as unknown as ExecOutput;
    stream.push(output);
    hasExited = output.kind === "exit";
    if (hasExited) stream.end();
  });
  const alive = context.clock.every(aliveMs, () => input({ kind: "alive" }));
  const reply = await context.wire.request(
    subjects.nodeExec(node),
    { session, project: ref.project, app: ref.app, ...request },
    { timeoutMs: startTimeoutMs },
  );
  const answer = reply.ok ? (reply.value as unknown as ExecReply) : null;
  if (answer?.ok) return ok({ input, output: complete(stream), close: () => stream.end() });
  stream.end();
  if (!reply.ok) return fromWire(`starting a session of ${ref.app} on ${node}`, reply.error);
  const reason = answer?.ok === false ? answer.reason : "no reason was given";
  return refuse("conflict", `starting a session of ${ref.app}: ${reason}`);
}

/** Says so where output was lost because the reader was too slow. */
async function* complete(stream: Stream<ExecOutput>): AsyncGenerator<ExecOutput, void> {
  let told = 0;
  for await (const output of stream) {
    if (stream.lost > told) {
      const text = `\n[${stream.lost - told} pieces of output were lost: it came too fast]\n`;
      told = stream.lost;
      yield { kind: "data", stream: "stderr", data: Buffer.from(text).toString("base64") };
    }
    yield output;
  }
}
