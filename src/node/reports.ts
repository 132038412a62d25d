import type { Json } from "../base/json.ts";
import type { Clock, Timer } from "../base/time.ts";
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

/** Use is told at most so often; everything else at once. */
const usageMs = 1000;
/** A sign of life, and what shows a lost message by its number. */
const heartbeatMs = 5000;

export interface Reports {
  /** What is told from now on when somebody asks is the whole. */
  open(): void;
  changed(instance: InstanceId, urgent: boolean): void;
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
  let soon = false;
  let later: Timer | null = null;
  let closed = false;

  function flush(): void {
    soon = false;
    later?.cancel();
    later = null;
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

  function flushSoon(): void {
    if (soon) return;
    soon = true;
    // Everything that happens in this turn travels as one message; after what the turn began (a
    // start, the answer to a wake), which nobody else waits for less.
    setImmediate(flush);
  }

  const at = () => ({ epoch, sequence });
  let responders: readonly Subscription[] = [];
  const heartbeat = clock.every(heartbeatMs, flushSoon);

  return {
    open() {
      const tell = (id: InstanceId) => statusOf(id) ?? sleeperOf(id);
      responders = answerAsked(node, wire, clock, at, all, tell);
    },
    changed(instance, urgent) {
      removed.delete(instance);
      changed.add(instance);
      if (urgent) flushSoon();
      else later ??= clock.after(usageMs, flush);
    },
    removed(instance, last) {
      changed.delete(instance);
      removed.set(instance, last);
      flushSoon();
    },
    rested(last) {
      if (last === null) return;
      rested.push({ ...last, last: true });
      flushSoon();
    },
    close() {
      closed = true;
      later?.cancel();
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
