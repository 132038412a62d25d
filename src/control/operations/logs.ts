import { err, ok, type Result } from "../../base/result.ts";
import type { Timer } from "../../base/time.ts";
import type { NodeName } from "../../model/names.ts";
import { type LogLine, type LogsReply, type LogsRequest, subjects } from "../../model/wire.ts";
import type { AppRef, OperationError, Operations, Outcome } from "../operations.ts";
import { onAbort, Stream } from "../stream.ts";
import { type Context, findApp, fromWire, refuse } from "./context.ts";

type Query = Parameters<Operations["logs"]>[1];

const tailMax = 10_000;
const queryTimeoutMs = 10_000;
/** A node publishes new lines for so long after it was asked; it is asked again before. */
const followMs = 60_000;
const followAgainMs = 20_000;
const linesQueuedMax = 10_000;

export async function logs(
  context: Context,
  ref: AppRef,
  query: Query,
  signal: AbortSignal,
): Outcome<AsyncIterable<LogLine>> {
  const found = findApp(context, ref);
  if (!found.ok) return found;
  if (!Number.isInteger(query.tail) || query.tail < 0 || query.tail > tailMax) {
    const message = `tail=${query.tail} is not a number of lines`;
    return refuse("invalid", message, `write a whole number from 0 to ${tailMax}`, "/tail");
  }
  return query.follow ? follow(context, ref, query, signal) : history(context, ref, query);
}

async function history(
  context: Context,
  ref: AppRef,
  query: Query,
): Outcome<AsyncIterable<LogLine>> {
  const lines = await ask(context, ref, requestOf(ref, query));
  return lines.ok ? ok(each(lines.value)) : lines;
}

async function* each(lines: readonly LogLine[]): AsyncGenerator<LogLine, void> {
  yield* lines;
}

/** What is written while the nodes answer is held back, and told after what they answered. */
async function follow(
  context: Context,
  ref: AppRef,
  query: Query,
  signal: AbortSignal,
): Outcome<AsyncIterable<LogLine>> {
  let held: LogLine[] | null = [];
  let renewal: Timer | null = null;
  const stream = new Stream<LogLine>(linesQueuedMax, () => {
    subscription.cancel();
    renewal?.cancel();
  });
  const subscription = context.wire.subscribe(subjects.logs(ref.project, ref.app), (message) => {
    const line = message.payload as unknown as LogLine;
    if (query.process !== null && line.process !== query.process) return;
    if (query.instance !== null && line.instance !== query.instance) return;
    if (held === null) stream.push(line);
    else if (held.length < linesQueuedMax) held.push(line);
  });
  onAbort(signal, () => stream.end());
  const request = requestOf(ref, query);
  const before = await ask(context, ref, { ...request, followMs });
  if (!before.ok) {
    stream.end();
    return before;
  }
  for (const line of before.value) stream.push(line);
  for (const line of notIn(before.value, held)) stream.push(line);
  held = null;
  if (!signal.aborted) {
    renewal = context.clock.every(followAgainMs, () => {
      void ask(context, ref, { ...request, tail: 0, followMs });
    });
  }
  return ok(stream);
}

/** A line published just before the answer is in the answer too. */
function notIn(answered: readonly LogLine[], held: readonly LogLine[]): readonly LogLine[] {
  const nameOf = (line: LogLine) =>
    JSON.stringify([line.at, line.instance, line.stream, line.text]);
  const known = new Map<string, number>();
  for (const line of answered) known.set(nameOf(line), (known.get(nameOf(line)) ?? 0) + 1);
  return held.filter((line) => {
    const left = known.get(nameOf(line)) ?? 0;
    if (left > 0) known.set(nameOf(line), left - 1);
    return left === 0;
  });
}

function requestOf(ref: AppRef, query: Query): LogsRequest {
  const { process, instance, since, tail } = query;
  return { project: ref.project, app: ref.app, process, instance, since, tail };
}

/** The newest lines of all nodes, by time. One node that does not answer hides no other. */
async function ask(
  context: Context,
  ref: AppRef,
  request: LogsRequest,
): Promise<Result<readonly LogLine[], OperationError>> {
  const nodes = [...context.engine.state.snapshot.nodes.values()].filter(
    ({ node, name }) => node !== null && context.engine.observer.heardSince(name) !== null,
  );
  if (nodes.length === 0) {
    return refuse("unavailable", `no node can tell the logs of ${ref.app} now`, "try again");
  }
  const replies = await Promise.all(nodes.map(({ name }) => askNode(context, ref, name, request)));
  const failed = replies.find((reply) => !reply.ok);
  const answered = replies.flatMap((reply) => (reply.ok ? [reply.value] : []));
  if (answered.length === 0 && failed !== undefined && !failed.ok) return err(failed.error);
  const lines = answered.flat().sort((one, other) => one.at - other.at);
  return ok(request.tail === 0 ? [] : lines.slice(-request.tail));
}

async function askNode(
  context: Context,
  ref: AppRef,
  node: NodeName,
  request: LogsRequest,
): Promise<Result<readonly LogLine[], OperationError>> {
  const reply = await context.wire.request(
    subjects.nodeLogs(node),
    { ...request },
    { timeoutMs: queryTimeoutMs },
  );
  if (reply.ok) return ok((reply.value as unknown as LogsReply).lines);
  return fromWire(`asking ${node} for the logs of ${ref.app}`, reply.error);
}
