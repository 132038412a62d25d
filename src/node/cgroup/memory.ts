const mebibyte = 1024 ** 2;

/**
 * Page cache worth reclaiming from what is frozen. Reclaim takes the kernel 5–13 ms even where
 * there is nothing to have, as with most small apps (8 KiB); 48 MiB took it 38 ms.
 */
export const reclaimBytesMin = mebibyte;

export interface MemoryCeilings {
  /** Of all apps, builds and gateways together, bytes. */
  readonly treeBytes: number;
  /** Of one app, however high its own limit, bytes. */
  readonly instanceBytes: number;
}

/**
 * What apps may use of a machine's memory. The rest keeps the machine, lode and the gateways
 * alive while apps take all they can: their cgroup runs out of memory, not the machine.
 */
export function memoryCeilings(machineBytes: number): MemoryCeilings {
  const machineReserve = Math.min(machineBytes / 4, Math.max(256 * mebibyte, machineBytes / 20));
  const treeBytes = machineBytes - machineReserve;
  const gatewayReserve = Math.min(treeBytes / 8, Math.max(128 * mebibyte, treeBytes / 50));
  return {
    treeBytes: Math.floor(treeBytes),
    instanceBytes: Math.floor(treeBytes - gatewayReserve),
  };
}

/** A limit that may be missing or beyond the machine, as one that is neither. */
export function withinCeiling(bytes: number | null, { instanceBytes }: MemoryCeilings): number {
  return Math.min(bytes ?? instanceBytes, instanceBytes);
}
