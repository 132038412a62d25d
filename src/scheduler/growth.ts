import type { Assignment } from "../model/instance.ts";
import type { ProcessType } from "../model/names.ts";
import type { Release } from "../model/release.ts";
import { countFor } from "./demand.ts";
import type { Draft } from "./draft.ts";
import type { Surroundings } from "./instances.ts";
import { requestsPerInstance, takesRequests, wantedCount } from "./snapshot.ts";

/** What is wanted of a process now: what was asked for, and more while requests need more. */
export function countNow(
  draft: Draft,
  around: Surroundings,
  { config }: Release,
  process: ProcessType,
  present: readonly Assignment[],
): number {
  const base = wantedCount(draft.app, config, process);
  const { max } = config.scale;
  if (!takesRequests(config, process) || max <= base) return base;
  const demand = around.demandOf(draft.before.key);
  const scale = { base, max, perInstance: requestsPerInstance(config) };
  if (present.length > base && demand.changesAt !== null) draft.wakeAt(demand.changesAt);
  return countFor(demand, scale, present.length);
}
