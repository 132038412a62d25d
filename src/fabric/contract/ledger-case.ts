import { expect } from "bun:test";
import type { Result } from "../../base/result.ts";
import type { ChangeBatch, Ledger, Watch, Write } from "../ledger.ts";

/** An empty ledger and the power over its surroundings that the tests need. */
export interface LedgerFixture {
  readonly ledger: Ledger;
  /** Lets time pass for leases. */
  elapse(durationMs: number): Promise<void>;
  /** Makes the ledger forget the changes up to now, as it does by itself in time. */
  forget(): Promise<void>;
  dispose(): Promise<void>;
}

/** A rule's check, run on an empty ledger of its own. */
export interface LedgerCase {
  readonly name: string;
  run(fixture: LedgerFixture): Promise<void>;
}

/** The value, or a failed test. */
export function must<Value, Failure>(result: Result<Value, Failure>): Value {
  if (!result.ok) throw new Error(`expected a value, got ${JSON.stringify(result.error)}`);
  return result.value;
}

export const put = (key: string, value = "v", lease?: string): Write =>
  lease === undefined ? { kind: "put", key, value } : { kind: "put", key, value, lease };
export const remove = (key: string): Write => ({ kind: "delete", key });
export const removeAll = (prefix: string): Write => ({ kind: "deletePrefix", prefix });

export async function write(ledger: Ledger, ...writes: Write[]): Promise<number> {
  const outcome = must(await ledger.transact({ conditions: [], writes }));
  expect(outcome.applied).toBe(true);
  return outcome.revision;
}

export async function keysOf(ledger: Ledger, prefix = ""): Promise<string[]> {
  return must(await ledger.list(prefix)).entries.map((entry) => entry.key);
}

export async function take(watch: Watch, count: number): Promise<ChangeBatch[]> {
  const batches: ChangeBatch[] = [];
  const iterator = watch[Symbol.asyncIterator]();
  while (batches.length < count) {
    const step = await iterator.next();
    if (step.done) throw new Error(`the watch ended after ${batches.length} batches`);
    batches.push(step.value);
  }
  return batches;
}

export async function ends(watch: Watch): Promise<boolean> {
  return (await watch[Symbol.asyncIterator]().next()).done === true;
}
