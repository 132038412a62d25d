import { formatBytes } from "../base/units.ts";
import type { NodeCapacity } from "../model/instance.ts";
import type { Bounds, Limits } from "../model/limits.ts";

/** A machine as admission sees it: what it has, and what is guaranteed on it already. */
export interface NodeLoad {
  readonly name: string;
  readonly capacity: NodeCapacity;
  readonly reservedCores: number;
  readonly reservedMemoryBytes: number;
  /** The app's own instances there, whose limits are about to change. */
  readonly own: readonly Limits[];
}

/** A sentence and how to mend it. */
export interface Denial {
  readonly message: string;
  readonly remedy: string;
}

/** Sums of fractions such as 0.1 come out a hair beside the true sum. */
const coresTolerance = 1e-6;

/** May these be an app's limits at all? Null: yes. */
export function denyBounds(limits: {
  readonly cpu?: Bounds;
  readonly memory?: Bounds;
}): Denial | null {
  return (
    denyOne("cpu", limits.cpu, (cores) => `${cores} cores`) ??
    denyOne("memory", limits.memory, formatBytes)
  );
}

function denyOne(
  name: string,
  bounds: Bounds | undefined,
  format: (amount: number) => string,
): Denial | null {
  if (bounds === undefined) return null;
  const given = (["min", "max", "burst"] as const).flatMap((bound) => {
    const amount = bounds[bound];
    return amount === null ? [] : [{ bound, amount }];
  });
  for (const { bound, amount } of given) {
    if (Number.isFinite(amount) && amount > 0) continue;
    const message = `the ${bound} of ${name} is ${amount}, which is not an amount above 0`;
    return { message, remedy: `leave ${bound} empty to lift it` };
  }
  for (const [index, lower] of given.entries()) {
    const upper = given[index + 1];
    if (upper === undefined || lower.amount <= upper.amount) continue;
    const message =
      `the ${lower.bound} of ${name}, ${format(lower.amount)}, ` +
      `is above its ${upper.bound}, ${format(upper.amount)}`;
    return { message, remedy: "write them as min ≤ max ≤ burst" };
  }
  return null;
}

/** May the app's instances get these limits where they are? Null: yes. */
export function denyLimits(limits: Limits, nodes: readonly NodeLoad[]): Denial | null {
  const cores = limits.cpu.min ?? 0;
  const memoryBytes = limits.memory.min ?? 0;
  const fitsAnywhere = nodes.some(
    ({ capacity }) => cores <= capacity.cores && memoryBytes <= capacity.memoryBytes,
  );
  if (nodes.length > 0 && !fitsAnywhere) {
    const largest = nodes.map(({ name, capacity }) => {
      return `${name} has ${capacity.cores} cores and ${formatBytes(capacity.memoryBytes)}`;
    });
    return {
      message: `no node can guarantee so much to one instance: ${largest.join(", ")}`,
      remedy: "lower the min",
    };
  }
  for (const { name, capacity, reservedCores, reservedMemoryBytes, own } of nodes) {
    const ownCores = own.reduce((sum, before) => sum + (before.cpu.min ?? 0), 0);
    const ownMemory = own.reduce((sum, before) => sum + (before.memory.min ?? 0), 0);
    const missingCores = reservedCores - ownCores + own.length * cores - capacity.cores;
    const missingMemory =
      reservedMemoryBytes - ownMemory + own.length * memoryBytes - capacity.memoryBytes;
    const lacksCores = missingCores > coresTolerance && cores > 0;
    const lacksMemory = missingMemory > 0 && memoryBytes > 0;
    if (own.length === 0 || (!lacksCores && !lacksMemory)) continue;
    const missing = [
      lacksCores ? `${Number(missingCores.toFixed(3))} cores` : null,
      lacksMemory ? `${formatBytes(missingMemory)} of memory` : null,
    ].filter((part) => part !== null);
    return {
      message: `${name} cannot guarantee that: ${missing.join(" and ")} too little is free`,
      remedy: "lower the min here or of other apps",
    };
  }
  return null;
}
