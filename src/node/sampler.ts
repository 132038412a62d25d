import type { Clock } from "../base/time.ts";
import type { InstanceId } from "../model/names.ts";
import type { CpuShares } from "./cpu-shares.ts";
import { idleCores } from "./decide/cpu-shares.ts";
import type { Instance } from "./instance.ts";

// How often an instance's use is read. Reading costs a few files each; with hundreds of idle
// instances that would be most of what lode does. So a busy one is read every second, one
// that used nothing ever more rarely, one that is frozen once, and a request makes it due again
// (one file then tells whether there is anything to read). Only when there is hardly
// a core to spare all are read every second, for who wants some then gets its part.

const tickMs = 1000;
const delayMsMax = 30_000;

interface Plan {
  dueAt: number;
  delayMs: number;
}

export interface Sampler {
  /** It got a request or was started: worth a look. */
  touch(instance: InstanceId): void;
  forget(instance: InstanceId): void;
  close(): void;
}

/** @param sampled told, after each round, whose use was read. */
export function createSampler(
  clock: Clock,
  instances: ReadonlyMap<InstanceId, Instance>,
  shares: CpuShares,
  sampled: (instances: readonly InstanceId[]) => void,
): Sampler {
  const plans = new Map<InstanceId, Plan>();
  let running = false;

  async function sampleDue(): Promise<void> {
    if (running) return;
    running = true;
    const now = clock.now();
    const all = shares.isContended;
    const read: InstanceId[] = [];
    for (const [id, plan] of plans) {
      if (plan.dueAt > now && !all) continue;
      const instance = instances.get(id);
      const cores = (await instance?.sample()) ?? null;
      if (instance === undefined || cores === null) {
        plans.delete(id);
        continue;
      }
      read.push(id);
      // Whoever thaws it says so.
      if (instance.standsStill) {
        plans.delete(id);
        continue;
      }
      const busy = cores >= idleCores || instance.accounted;
      plan.delayMs = busy ? tickMs : Math.min(delayMsMax, plan.delayMs * 2);
      plan.dueAt = now + plan.delayMs;
    }
    shares.balance();
    running = false;
    if (read.length > 0) sampled(read);
  }

  const timer = clock.every(tickMs, () => void sampleDue());
  return {
    touch(instance) {
      const plan = plans.get(instance);
      const dueAt = clock.now() + tickMs;
      if (plan === undefined) plans.set(instance, { dueAt, delayMs: tickMs });
      else if (plan.dueAt > dueAt) Object.assign(plan, { dueAt, delayMs: tickMs });
    },
    forget: (instance) => void plans.delete(instance),
    close: () => timer.cancel(),
  };
}
