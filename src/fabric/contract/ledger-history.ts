import { expect } from "bun:test";
import fastCheck from "fast-check";
import type { Condition, Ledger, Transaction, Write } from "../ledger.ts";
import { type LedgerFixture, must, put, remove, removeAll, take } from "./ledger-case.ts";
import { NaiveLedger } from "./ledger-twin.ts";

const keyArbitrary = fastCheck.constantFrom("/a", "/a/1", "/a/2", "/ab", "/b/1", "/b/2", "/c");
const prefixArbitrary = fastCheck.constantFrom("", "/a", "/a/", "/b", "/c", "/none");
const writeArbitrary: fastCheck.Arbitrary<Write> = fastCheck.oneof(
  { weight: 3, arbitrary: fastCheck.tuple(keyArbitrary, fastCheck.string()).map(toPut) },
  keyArbitrary.map(remove),
  prefixArbitrary.map(removeAll),
);
const conditionArbitrary: fastCheck.Arbitrary<Condition> = fastCheck.oneof(
  fastCheck.record({ kind: fastCheck.constantFrom("absent", "present"), key: keyArbitrary }),
  fastCheck.record({
    kind: fastCheck.constant("unchanged" as const),
    key: keyArbitrary,
    modRevision: fastCheck.nat(20),
  }),
);
const transactionArbitrary: fastCheck.Arbitrary<Transaction> = fastCheck.record({
  conditions: fastCheck.array(conditionArbitrary, { maxLength: 2 }),
  writes: fastCheck.array(writeArbitrary, { maxLength: 4 }).map(withoutClashes),
});

function toPut([key, value]: [string, string]): Write {
  return put(key, value);
}

function withoutClashes(writes: readonly Write[]): Write[] {
  const kept: Write[] = [];
  for (const write of writes) {
    const prefix = write.kind === "deletePrefix" ? write.prefix : write.key;
    const clash = kept.some((other) => {
      const otherPrefix = other.kind === "deletePrefix" ? other.prefix : other.key;
      return prefix.startsWith(otherPrefix) || otherPrefix.startsWith(prefix);
    });
    if (!clash) kept.push(write);
  }
  return kept;
}

/** Any history of transactions, against the naive twin. */
export async function checkHistories(open: () => Promise<LedgerFixture>): Promise<void> {
  let applied = 0;
  const property = fastCheck.asyncProperty(
    fastCheck.array(transactionArbitrary, { minLength: 1, maxLength: 40, size: "max" }),
    prefixArbitrary,
    async (history, prefix) => {
      const fixture = await open();
      try {
        applied += await checkHistory(fixture.ledger, history, prefix);
      } finally {
        await fixture.dispose();
      }
    },
  );
  await fastCheck.assert(property, { numRuns: 50, seed: 1 });
  expect(applied).toBeGreaterThan(200);
}

async function checkHistory(
  ledger: Ledger,
  history: readonly Transaction[],
  prefix: string,
): Promise<number> {
  const naive = new NaiveLedger();
  const expected = history.map((transaction) => naive.transact(transaction));
  const outcomes = history.map((transaction) => ledger.transact(transaction));
  expect((await Promise.all(outcomes)).map(must)).toEqual(expected);
  expect(must(await ledger.list(prefix))).toEqual(naive.list(prefix));
  const batches = naive.batches(prefix);
  const watch = must(await ledger.watch(prefix, 0));
  expect(await take(watch, batches.length)).toEqual([...batches]);
  return naive.revision;
}
