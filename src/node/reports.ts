import type { Json } from "../base/json.ts";
import type { Clock, Timer } from "../base/time.ts";
import type { Wire } from "../fabric/wire.ts";
import type { InstanceStatus } from "../model/instance.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import { type InstanceTotals, type NodeChange, type NodeReport, subjects } from "../model/wire.ts";

/** Use is told at most so often; everything else at once. */
const usageMs = 1000;
/** A sign of life, and what shows a lost message by its number. */
const heartbeatMs = 5000;

export interface Reports {
  changed(instance: InstanceId, urgent: boolean): void;
  /** @param last what there is to tell of it in the end. */
  removed(instance: InstanceId, last: InstanceTotals | null): void;
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
  totalsOf: (instance: InstanceId) => InstanceTotals | null,
): Reports {
  const changed = new Set<InstanceId>();
  /** With the last that there is to tell of each. */
  const removed = new Map<InstanceId, InstanceTotals | null>();
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
    const totals = [...[...changed].map(totalsOf), ...removed.values()].filter(
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

  const responder = wire.respond(subjects.nodeReport(node), async () => {
    const at = clock.now();
    const report: NodeReport = { node, epoch, sequence, at, instances: all() };
    return report as unknown as Json;
  });
  const heartbeat = clock.every(heartbeatMs, flushSoon);

  return {
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
    close() {
      closed = true;
      later?.cancel();
      heartbeat.cancel();
      responder.cancel();
    },
  };
}
