import type { Json } from "../base/json.ts";
import type { Clock, Timestamp } from "../base/time.ts";
import type { Wire } from "../fabric/wire.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import { type NodeCpu, subjects } from "../model/wire.ts";
import type { Instance } from "./instance.ts";

/** Without a request for so long, an instance's CPU tells nothing of what requests cost. */
const requestedMs = 5000;

/** Tells gateways what CPU was used by instances that get requests, as soon as it was read. */
export class CpuSamples {
  readonly #node: NodeName;
  readonly #epoch: string;
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #instances: ReadonlyMap<InstanceId, Instance>;
  readonly #requested = new Map<InstanceId, { at: Timestamp; sample: number }>();
  #sequence = 0;

  constructor(
    node: NodeName,
    epoch: string,
    wire: Wire,
    clock: Clock,
    instances: ReadonlyMap<InstanceId, Instance>,
  ) {
    this.#node = node;
    this.#epoch = epoch;
    this.#wire = wire;
    this.#clock = clock;
    this.#instances = instances;
  }

  requested(instance: InstanceId): void {
    const at = this.#clock.now();
    const known = this.#requested.get(instance);
    if (known === undefined) this.#requested.set(instance, { at, sample: 0 });
    else known.at = at;
  }

  /** These were read just now. */
  sampled(instances: readonly InstanceId[]): void {
    const since = this.#clock.now() - requestedMs;
    for (const [instance, { at }] of this.#requested) {
      if (at < since) this.#requested.delete(instance);
    }
    const samples: NodeCpu["instances"][number][] = [];
    for (const instance of instances) {
      const requested = this.#requested.get(instance);
      if (requested === undefined) continue;
      const sample = this.#instances.get(instance)?.cpuSample ?? null;
      if (sample === null) {
        this.#requested.delete(instance);
        continue;
      }
      requested.sample += 1;
      samples.push({ instance, sample: requested.sample, ...sample });
    }
    if (samples.length === 0) return;
    this.#sequence += 1;
    const cpu: NodeCpu = {
      node: this.#node,
      epoch: this.#epoch,
      sequence: this.#sequence,
      instances: samples,
    };
    this.#wire.publish(subjects.nodeCpu(this.#node), cpu as unknown as Json);
  }
}
