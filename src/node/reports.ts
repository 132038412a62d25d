import type { Json } from "../base/json.ts";
import type { Clock, Timer, Timestamp } from "../base/time.ts";
import type { Subscription, Wire } from "../fabric/wire.ts";
import type { InstanceStatus } from "../model/instance.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import {
  type InstanceTotals,
  type NodeChange,
  type NodeReport,
  type ReportRequest,
  type StatusesReply,
  type StatusesRequest,
  subjects,
} from "../model/wire.ts";

/**
 * How soon a change is told: at once; when whoever waited for it, and was told, has had the cores
 * to get on; at most every second (how much is used, what froze).
 */
export type Urgency = "now" | "soon" | "later";

const delaysMs = { soon: 20, later: 1000 } as const;
/** A sign of life, and what shows a lost message by its number. */
const heartbeatMs = 5000;

export interface Reports {
  /** What is told from now on when somebody asks is the whole. */
  open(): void;
  changed(instance: InstanceId, urgency: Urgency): void;
  /** @param last what there is to tell of it in the end. */
  removed(instance: InstanceId, last: InstanceTotals | null): void;
  /** It sleeps, and is kept in memory no more: its next totals begin at 0. */
  rested(last: InstanceTotals | null): void;
  close(): void;
}

/** Publishes what changes, coalesced, and answers with the whole when asked. */
export function createReports(
  node: NodeName,
  epoch: string,
  wire: Wire,
  clock: Clock,
  statusOf: (instance: InstanceId) => InstanceStatus | null,
  all: () => readonly InstanceStatus[],
  sleeperOf: (instance: InstanceId) => InstanceStatus | null,
  totalsOf: (instance: InstanceId) => InstanceTotals | null,
): Reports {
  const changed = new Set<InstanceId>();
  /** With the last that there is to tell of each. */
  const removed = new Map<InstanceId, InstanceTotals | null>();
  const rested: InstanceTotals[] = [];
  let sequence = 0;
  let isNow = false;
  let waiting: { readonly at: Timestamp; readonly timer: Timer } | null = null;
  let closed = false;

  function flush(): void {
    isNow = false;
    waiting?.timer.cancel();
    waiting = null;
    if (closed) return;
    const statuses = [...changed].map(statusOf).filter((status) => status !== null);
    const gone = [...removed.keys()];
    const totals = [...rested.splice(0), ...[...changed].map(totalsOf), ...removed.values()].filter(
      (each) => each !== null,
    );
    changed.clear();
    removed.clear();
    sequence += 1;
    const change: NodeChange = {
      node,
      epoch,
      sequence,
      at: clock.now(),
      changed: statuses,
      removed: gone,
      totals,
    };
    wire.publish(subjects.nodeStatus(node), change as unknown as Json);
  }

  function flushNow(): void {
    if (isNow) return;
    isNow = true;
    // Everything that happens in this turn travels as one message; after what the turn began.
    setImmediate(flush);
  }

  function flushAfter(delayMs: number): void {
    const at = clock.now() + delayMs;
    if (isNow || (waiting !== null && waiting.at <= at)) return;
    waiting?.timer.cancel();
    waiting = { at, timer: clock.after(delayMs, flush) };
  }

  const at = () => ({ epoch, sequence });
  let responders: readonly Subscription[] = [];
  const heartbeat = clock.every(heartbeatMs, flushNow);

  return {
    open() {
      const tell = (id: InstanceId) => statusOf(id) ?? sleeperOf(id);
      responders = answerAsked(node, wire, clock, at, all, tell);
    },
    changed(instance, urgency) {
      removed.delete(instance);
      changed.add(instance);
      if (urgency === "now") flushNow();
      else flushAfter(delaysMs[urgency]);
    },
    removed(instance, last) {
      changed.delete(instance);
      removed.set(instance, last);
      flushNow();
    },
    rested(last) {
      if (last === null) return;
      rested.push({ ...last, last: true });
      flushNow();
    },
    close() {
      closed = true;
      waiting?.timer.cancel();
      heartbeat.cancel();
      for (const responder of responders) responder.cancel();
    },
  };
}

function answerAsked(
  node: NodeName,
  wire: Wire,
  clock: Clock,
  at: () => Pick<NodeReport, "epoch" | "sequence">,
  all: () => readonly InstanceStatus[],
  statusOf: (instance: InstanceId) => InstanceStatus | null,
): readonly Subscription[] {
  return [
    wire.respond(subjects.nodeReport(node), async (payload) => {
      const { also } = payload as unknown as ReportRequest;
      const named = new Map(all().map((status) => [status.instance, status]));
      for (const id of also) {
        const status = named.get(id) ?? statusOf(id);
        if (status !== null) named.set(id, status);
      }
      const instances = [...named.values()];
      const report: NodeReport = { node, ...at(), at: clock.now(), instances };
      return report as unknown as Json;
    }),
    wire.respond(subjects.nodeStatuses(node), async (payload) => {
      const { instances } = payload as unknown as StatusesRequest;
      const reply: StatusesReply = {
        ...at(),
        statuses: instances.flatMap((id) => statusOf(id) ?? []),
      };
      return reply as unknown as Json;
    }),
  ];
}
