import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Random } from "../../base/time.ts";
import { Leases } from "../leases.ts";
import type {
  ChangeBatch,
  Entry,
  Lease,
  LeaseId,
  Ledger,
  LedgerError,
  Revision,
  Transaction,
  TransactionOutcome,
  Watch,
} from "../ledger.ts";
import {
  assertKey,
  assertPrefix,
  changedKey,
  compactedError,
  judge,
  type LedgerState,
  leaseGone,
  ledgerClosed,
  type PlannedChange,
  transactionRefusal,
} from "../transaction.ts";
import { type History, Watches } from "../watches.ts";

export interface MemoryLedgerOptions {
  readonly clock: Clock;
  /** Makes lease ids; without it they are counted. */
  readonly random?: Random;
  /** Revisions whose changes are kept for watches. */
  readonly historyRevisions?: number;
}

/** A ledger that lives as long as its process: for tests and the simulation. */
export function createMemoryLedger(options: MemoryLedgerOptions): Ledger {
  return new MemoryLedger(options);
}

class MemoryLedger implements Ledger {
  readonly #store: Store;
  readonly #watches: Watches;
  readonly #leases: Leases;
  readonly #random: Random | null;
  #leasesGranted = 0;
  #closed = false;

  constructor({ clock, random, historyRevisions = 10_000 }: MemoryLedgerOptions) {
    this.#leases = new Leases(clock, async (lease) => {
      this.#commit(this.#store.planDropOf(lease));
    });
    this.#store = new Store(historyRevisions, (lease) => this.#leases.has(lease));
    this.#watches = new Watches(this.#store);
    this.#random = random ?? null;
  }

  async get(key: string): Promise<Result<Entry | null, LedgerError>> {
    assertKey(key);
    return this.#closed ? err(ledgerClosed) : ok(this.#store.get(key));
  }

  async list(
    prefix: string,
    options: { readonly after?: string; readonly limit?: number } = {},
  ): Promise<Result<{ entries: readonly Entry[]; revision: Revision }, LedgerError>> {
    assertPrefix(prefix);
    if (this.#closed) return err(ledgerClosed);
    const { revision } = this.#store;
    return ok({ entries: this.#store.list(prefix, options.after, options.limit), revision });
  }

  async transact(transaction: Transaction): Promise<Result<TransactionOutcome, LedgerError>> {
    const refusal = this.#closed ? ledgerClosed : transactionRefusal(transaction);
    if (refusal !== null) return err(refusal);
    const judgement = judge(transaction, this.#store);
    if (judgement.kind === "leaseGone") return err(leaseGone(judgement.lease));
    if (judgement.kind === "failed") {
      const { revision } = this.#store;
      return ok({ applied: false, revision, failed: judgement.failed });
    }
    this.#commit(judgement.changes);
    return ok({ applied: true, revision: this.#store.revision });
  }

  async watch(prefix: string, after: Revision): Promise<Result<Watch, LedgerError>> {
    assertPrefix(prefix);
    if (this.#closed) return err(ledgerClosed);
    const { compacted } = this.#store;
    if (after < compacted) return err(compactedError(after, compacted));
    return ok(this.#watches.open(prefix, after));
  }

  async grantLease(ttlMs: number): Promise<Result<Lease, LedgerError>> {
    if (this.#closed) return err(ledgerClosed);
    const id = `lease-${this.#random?.token(12) ?? ++this.#leasesGranted}`;
    return ok(this.#leases.grant(id, ttlMs));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#leases.close();
    this.#watches.close();
  }

  #commit(changes: readonly PlannedChange[]): void {
    if (this.#closed || changes.length === 0) return;
    this.#store.apply(changes);
    this.#watches.committed(
      this.#store.revision,
      changes.map(({ change }) => changedKey(change)),
    );
  }
}

class Store implements LedgerState, History {
  revision: Revision = 0;
  compacted: Revision = 0;
  readonly hasLease: (lease: LeaseId) => boolean;
  readonly #entries = new Map<string, Entry>();
  /** The keys of `#entries`, in order. */
  readonly #keys: string[] = [];
  readonly #leaseOf = new Map<string, LeaseId>();
  readonly #historyRevisions: number;
  /** One batch a revision, from `compacted + 1` on. */
  #history: ChangeBatch[] = [];

  constructor(historyRevisions: number, hasLease: (lease: LeaseId) => boolean) {
    assert(historyRevisions > 0, "a history without revisions");
    this.#historyRevisions = historyRevisions;
    this.hasLease = hasLease;
  }

  get(key: string): Entry | null {
    return this.#entries.get(key) ?? null;
  }

  *keysUnder(prefix: string, after = ""): Generator<string> {
    const start = after > prefix ? after : prefix;
    for (let index = this.#position(start); index < this.#keys.length; index++) {
      const key = this.#keys[index] as string;
      if (key === after) continue;
      if (!key.startsWith(prefix)) return;
      yield key;
    }
  }

  list(prefix: string, after = "", limit = Number.POSITIVE_INFINITY): readonly Entry[] {
    const entries: Entry[] = [];
    for (const key of this.keysUnder(prefix, after)) {
      if (entries.length >= limit) break;
      entries.push(this.#entries.get(key) as Entry);
    }
    return entries;
  }

  planDropOf(lease: LeaseId): readonly PlannedChange[] {
    const modRevision = this.revision + 1;
    return [...this.#leaseOf]
      .filter(([, bound]) => bound === lease)
      .map(([key]) => key)
      .sort()
      .map((key) => ({ change: { kind: "delete", key, modRevision }, lease: null }));
  }

  apply(changes: readonly PlannedChange[]): void {
    this.revision++;
    for (const { change, lease } of changes) {
      const key = changedKey(change);
      if (change.kind === "delete") {
        this.#entries.delete(key);
        this.#keys.splice(this.#position(key), 1);
      } else {
        if (!this.#entries.has(key)) this.#keys.splice(this.#position(key), 0, key);
        this.#entries.set(key, change.entry);
      }
      if (lease === null) this.#leaseOf.delete(key);
      else this.#leaseOf.set(key, lease);
    }
    this.#history.push({
      revision: this.revision,
      changes: changes.map(({ change }) => change),
    });
    if (this.#history.length >= 2 * this.#historyRevisions) {
      this.#history = this.#history.slice(-this.#historyRevisions);
      this.compacted = this.revision - this.#historyRevisions;
    }
  }

  read(prefix: string, after: Revision, through: Revision): readonly ChangeBatch[] {
    return this.#history
      .slice(after - this.compacted, through - this.compacted)
      .map(({ revision, changes }) => ({
        revision,
        changes: changes.filter((change) => changedKey(change).startsWith(prefix)),
      }))
      .filter(({ changes }) => changes.length > 0);
  }

  /** Where `key` is, or would be, in `#keys`. */
  #position(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#keys[middle] as string) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
