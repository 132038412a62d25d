import { assert } from "../base/assert.ts";
import type {
  Change,
  Condition,
  Entry,
  LeaseId,
  LedgerError,
  Revision,
  Transaction,
  Write,
} from "./ledger.ts";

/** etcd's default; larger transactions would not survive the way to a cluster. */
export const operationsMax = 128;
/** Keys and values of one transaction, in bytes; etcd refuses requests above 1.5 MiB. */
export const transactionBytesMax = 1024 * 1024;
export const keyBytesMax = 512;

const keyPattern = /^[\x21-\x7e]{1,512}$/;
const prefixPattern = /^[\x21-\x7e]{0,512}$/;

export function assertKey(key: string): void {
  assert(keyPattern.test(key), `ledger key ${JSON.stringify(key.slice(0, 80))} is not [L1]`);
}

export function assertPrefix(prefix: string): void {
  assert(prefixPattern.test(prefix), `ledger prefix ${JSON.stringify(prefix)} is not [L1]`);
}

/** The first key, in key order, after all that begin with `prefix`. */
export function prefixEnd(prefix: string): string {
  return `${prefix}\x7f`;
}

/** Why a transaction cannot be taken, whatever the ledger holds; null if it can. */
export function transactionRefusal(transaction: Transaction): LedgerError | null {
  const { conditions, writes } = transaction;
  if (conditions.length > operationsMax || writes.length > operationsMax) {
    return tooLarge(
      `${conditions.length} conditions and ${writes.length} writes; ` +
        `at most ${operationsMax} of each`,
    );
  }
  for (const condition of conditions) assertKey(condition.key);
  let bytes = 0;
  for (const write of writes) {
    if (write.kind === "deletePrefix") {
      assertPrefix(write.prefix);
      continue;
    }
    assertKey(write.key);
    if (write.kind === "delete") continue;
    assert(write.value.isWellFormed(), `the value of ${write.key} is not well-formed Unicode`);
    bytes += write.key.length + Buffer.byteLength(write.value);
  }
  assertDisjoint(writes);
  if (bytes <= transactionBytesMax) return null;
  return tooLarge(`${bytes} bytes of keys and values; at most ${transactionBytesMax}`);
}

function tooLarge(what: string): LedgerError {
  return { code: "tooLarge", message: `a ledger transaction with ${what}: split it` };
}

/** As etcd has it: a key is put once, and what is put is not deleted as well. */
function assertDisjoint(writes: readonly Write[]): void {
  const put = new Set<string>();
  for (const write of writes) {
    if (write.kind !== "put") continue;
    assert(!put.has(write.key), `one transaction puts ${write.key} twice [L8]`);
    put.add(write.key);
  }
  if (put.size === 0) return;
  for (const write of writes) {
    if (write.kind === "put") continue;
    const clash =
      write.kind === "delete"
        ? put.has(write.key)
        : [...put].some((key) => key.startsWith(write.prefix));
    assert(!clash, `one transaction puts and deletes the same key [L8]`);
  }
}

/** What a transaction is judged against. */
export interface LedgerState {
  readonly revision: Revision;
  get(key: string): Entry | null;
  /** In any order. */
  keysUnder(prefix: string): Iterable<string>;
  hasLease(lease: LeaseId): boolean;
}

export type PlannedChange = { readonly change: Change; readonly lease: LeaseId | null };

export type Judgement =
  | { readonly kind: "failed"; readonly failed: readonly number[] }
  | { readonly kind: "leaseGone"; readonly lease: LeaseId }
  /** In key order; none: the transaction is applied and writes nothing. */
  | { readonly kind: "changes"; readonly changes: readonly PlannedChange[] };

/** Judges a transaction and says what it changes, as of revision `state.revision + 1`. */
export function judge(transaction: Transaction, state: LedgerState): Judgement {
  const failed: number[] = [];
  for (const [index, condition] of transaction.conditions.entries()) {
    if (!holds(condition, state)) failed.push(index);
  }
  if (failed.length > 0) return { kind: "failed", failed };
  const revision = state.revision + 1;
  const changes = new Map<string, PlannedChange>();
  const remove = (key: string): void => {
    changes.set(key, { change: { kind: "delete", key, modRevision: revision }, lease: null });
  };
  for (const write of transaction.writes) {
    if (write.kind === "put") {
      const lease = write.lease ?? null;
      if (lease !== null && !state.hasLease(lease)) return { kind: "leaseGone", lease };
      const createRevision = state.get(write.key)?.createRevision ?? revision;
      const entry = { key: write.key, value: write.value, createRevision, modRevision: revision };
      changes.set(write.key, { change: { kind: "put", entry }, lease });
    } else if (write.kind === "delete") {
      if (state.get(write.key) !== null) remove(write.key);
    } else {
      for (const key of state.keysUnder(write.prefix)) remove(key);
    }
  }
  const sorted = [...changes.entries()].sort(([left], [right]) => (left < right ? -1 : 1));
  return { kind: "changes", changes: sorted.map(([, planned]) => planned) };
}

function holds(condition: Condition, state: LedgerState): boolean {
  const entry = state.get(condition.key);
  if (condition.kind === "absent") return entry === null;
  if (condition.kind === "present") return entry !== null;
  return entry?.modRevision === condition.modRevision;
}

export function changedKey(change: Change): string {
  return change.kind === "put" ? change.entry.key : change.key;
}

export function leaseGone(lease: LeaseId): LedgerError {
  return { code: "leaseGone", message: `lease ${lease} has expired or was revoked` };
}

export const ledgerClosed: LedgerError = { code: "closed", message: "the ledger is closed" };

export function compactedError(after: Revision, compacted: Revision): LedgerError {
  const message =
    `changes after revision ${after} are no longer kept (the oldest kept is ` +
    `${compacted + 1}): list again and watch from there`;
  return { code: "compacted", message };
}
