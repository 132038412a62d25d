import type { Assignment } from "../model/instance.ts";
import type { Limits } from "../model/limits.ts";
import type { NodeName } from "../model/names.ts";
import type { NodeState, Snapshot } from "./snapshot.ts";

export type Placement =
  | { readonly kind: "placed"; readonly node: NodeName }
  | { readonly kind: "noNode" }
  /** What the node that comes closest lacks. */
  | {
      readonly kind: "noRoom";
      readonly node: NodeName;
      readonly missingCores: number;
      readonly missingMemoryBytes: number;
    };

interface Account {
  readonly state: NodeState;
  reservedCores: number;
  reservedMemoryBytes: number;
  instances: number;
}

/** Sums of fractions such as 0.1 come out a hair beside the true sum. */
const coresTolerance = 1e-6;

/**
 * The room left on each node during one round of planning: what the snapshot's assignments and
 * those already placed in this round are guaranteed is taken.
 */
export class Room {
  readonly #accounts = new Map<NodeName, Account>();

  constructor(snapshot: Snapshot, pending: Iterable<Assignment>) {
    for (const state of snapshot.nodes.values()) {
      const { reservedCores, reservedMemoryBytes, instances } = state;
      this.#accounts.set(state.name, { state, reservedCores, reservedMemoryBytes, instances });
    }
    for (const assignment of pending) this.take(assignment.node, assignment.limits);
  }

  take(node: NodeName, limits: Limits): void {
    this.#change(node, limits, 1);
  }

  give(node: NodeName, limits: Limits): void {
    this.#change(node, limits, -1);
  }

  /**
   * The node for one more instance: of those where its minimum fits, the one with the fewest of
   * the same app, then the least reserved share, then the fewest instances, then by name.
   */
  place(limits: Limits, sameApp: readonly Assignment[]): Placement {
    const cores = limits.cpu.min ?? 0;
    const memoryBytes = limits.memory.min ?? 0;
    let best: { account: Account; score: readonly number[] } | null = null;
    let closest: Extract<Placement, { kind: "noRoom" }> | null = null;
    for (const account of this.#accounts.values()) {
      const { node, name } = account.state;
      if (node === null) continue;
      const missingCores = account.reservedCores + cores - node.capacity.cores;
      const missingMemoryBytes =
        account.reservedMemoryBytes + memoryBytes - node.capacity.memoryBytes;
      if (missingCores > coresTolerance || missingMemoryBytes > 0) {
        const lack = {
          kind: "noRoom" as const,
          node: name,
          missingCores: missingCores > coresTolerance ? missingCores : 0,
          missingMemoryBytes: Math.max(0, missingMemoryBytes),
        };
        if (closest === null || lessLacking(lack, closest)) closest = lack;
        continue;
      }
      const score = [
        sameApp.filter((assignment) => assignment.node === name).length,
        Math.max(
          account.reservedCores / node.capacity.cores,
          account.reservedMemoryBytes / node.capacity.memoryBytes,
        ),
        account.instances,
      ];
      if (best === null || isBefore(score, name, best.score, best.account.state.name)) {
        best = { account, score };
      }
    }
    if (best !== null) return { kind: "placed", node: best.account.state.name };
    return closest ?? { kind: "noNode" };
  }

  #change(node: NodeName, limits: Limits, sign: 1 | -1): void {
    const account = this.#accounts.get(node);
    if (account === undefined) return;
    account.reservedCores += sign * (limits.cpu.min ?? 0);
    account.reservedMemoryBytes += sign * (limits.memory.min ?? 0);
    account.instances += sign;
  }
}

function lessLacking(
  one: { missingCores: number; missingMemoryBytes: number },
  other: { missingCores: number; missingMemoryBytes: number },
): boolean {
  if (one.missingCores !== other.missingCores) return one.missingCores < other.missingCores;
  return one.missingMemoryBytes < other.missingMemoryBytes;
}

function isBefore(
  score: readonly number[],
  name: string,
  otherScore: readonly number[],
  otherName: string,
): boolean {
  const difference = score.findIndex((value, index) => value !== otherScore[index]);
  if (difference === -1) return name < otherName;
  return (score[difference] ?? 0) < (otherScore[difference] ?? 0);
}
