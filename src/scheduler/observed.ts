import type { Timestamp } from "../base/time.ts";
import type { InstanceStatus } from "../model/instance.ts";
import type { InstanceId, NodeName } from "../model/names.ts";

export interface ObservedInstance {
  readonly node: NodeName;
  readonly status: InstanceStatus;
}

/** What control has heard. Soft: after a restart it knows nothing until the nodes report. */
export interface Observed {
  /** What the nodes run of one app; instances may outlive their assignment here. */
  instancesOf(app: string): ReadonlyMap<InstanceId, ObservedInstance>;
  /** Since when this control hears the node without a gap; null: it has not reported. */
  heardSince(node: NodeName): Timestamp | null;
}
