import { availableParallelism, totalmem } from "node:os";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock } from "../base/time.ts";
import type { Ledger } from "../fabric/ledger.ts";
import type { PoolNode } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import type { NodeName } from "../model/names.ts";

/** Writes this machine into the pool, or its capacity anew when it changed. */
export async function joinPool(
  ledger: Ledger,
  clock: Clock,
  name: NodeName,
): Promise<Result<void, string>> {
  const key = keys.node(name);
  const present = await ledger.get(key);
  if (!present.ok) return err(`cannot read the ledger: ${present.error.message}`);
  const before = present.value === null ? null : (JSON.parse(present.value.value) as PoolNode);
  const capacity = { cores: availableParallelism(), memoryBytes: totalmem() };
  if (before !== null && JSON.stringify(before.capacity) === JSON.stringify(capacity)) {
    return ok(undefined);
  }
  const node: PoolNode = { name, capacity, joinedAt: before?.joinedAt ?? clock.now() };
  const written = await ledger.transact({
    conditions: [],
    writes: [{ kind: "put", key, value: JSON.stringify(node) }],
  });
  return written.ok ? ok(undefined) : err(`cannot write the ledger: ${written.error.message}`);
}
