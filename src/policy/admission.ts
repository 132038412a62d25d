import { formatBytes } from "../base/units.ts";
import { checkBounds } from "../model/bounds.ts";
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
  return denyOne("cpu", limits.cpu) ?? denyOne("memory", limits.memory);
}

function denyOne(name: string, bounds: Bounds | undefined): Denial | null {
  if (bounds === undefined) return null;
  for (const bound of ["min", "max", "burst"] as const) {
    const amount = bounds[bound];
    if (amount === null || (Number.isFinite(amount) && amount > 0)) continue;
    const message = `the ${bound} of ${name} is ${amount}, which is not an amount above 0`;
    return { message, remedy: `leave ${bound} empty to lift it` };
  }
  const checked = checkBounds(bounds, name);
  return checked.ok ? null : { message: checked.error, remedy: "write min ≤ max ≤ burst" };
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
