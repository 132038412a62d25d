import type { Database } from "bun:sqlite";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import { Leases } from "../leases.ts";
import type {
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
  leaseGone,
  ledgerClosed,
  type PlannedChange,
  transactionRefusal,
} from "../transaction.ts";
import { Watches } from "../watches.ts";
import { openDatabase } from "./database.ts";
import { ledgerError } from "./errors.ts";
import { SqliteStore } from "./store.ts";

export interface SqliteLedgerOptions {
  /** The file; its directory exists. */
  readonly path: string;
  readonly clock: Clock;
  /** Revisions whose changes are kept for watches. */
  readonly historyRevisions?: number;
  /** Bytes of keys and values kept for watches. */
  readonly historyBytes?: number;
}

const writing = "writing to the ledger";

/** How long the deletion of an ended lease's keys waits for the next attempt. */
const leaseRetryMs = 1000;

/**
 * A ledger in one SQLite file, which this process holds alone. Transactions called for in one
 * turn of the event loop share one commit, and so one fsync.
 *
 *   open ⇄ full (each commit tries again) → broken (the file cannot be trusted) → closed
 *     └──────────────────────────────────────────────────────────────────────────→ closed
 */
export async function createSqliteLedger(
  options: SqliteLedgerOptions,
): Promise<Result<Ledger, LedgerError>> {
  const opened = openDatabase(options.path);
  if (!opened.ok) return opened;
  const ledger = new SqliteLedger(opened.value, options);
  const problem = ledger.endLeasesOfThePast();
  if (problem === null) return ok(ledger);
  await ledger.close();
  return err(problem);
}

interface Job {
  /** Judged when its turn comes. */
  readonly plan: () => Planned;
  readonly settle: (result: Result<TransactionOutcome, LedgerError>) => void;
}

type Planned =
  | { readonly kind: "changes"; readonly changes: readonly PlannedChange[] }
  | { readonly kind: "answer"; readonly answer: Result<TransactionOutcome, LedgerError> };

class SqliteLedger implements Ledger {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #store: SqliteStore;
  readonly #watches: Watches;
  readonly #leases: Leases;
  #queue: Job[] = [];
  #refusal: LedgerError | null = null;

  constructor(database: Database, options: SqliteLedgerOptions) {
    const { path, clock, historyRevisions = 10_000, historyBytes = 64 * 1024 * 1024 } = options;
    assert(historyRevisions > 0 && historyBytes > 0, "a history without room");
    this.#path = path;
    this.#clock = clock;
    this.#leases = new Leases(clock, (lease) => this.#dropKeys(lease));
    const bounds = { revisions: historyRevisions, bytes: historyBytes };
    this.#store = new SqliteStore(database, bounds, (lease) => this.#leases.has(lease));
    const store = this.#store;
    this.#watches = new Watches({
      get revision() {
        return store.revision;
      },
      get compacted() {
        return store.compacted;
      },
      read: (prefix, after, through) => {
        const batches = this.#read("reading the history", () => store.read(prefix, after, through));
        return batches.ok ? batches.value : null;
      },
    });
  }

  /** The file was free, so whoever held a lease in it is dead. */
  endLeasesOfThePast(): LedgerError | null {
    try {
      this.#store.begin();
      for (const lease of this.#store.leases()) this.#store.apply(this.#store.planDropOf(lease));
      this.#store.commit();
      return null;
    } catch (error) {
      return ledgerError("ending the leases of the past", this.#path, error);
    }
  }

  async get(key: string): Promise<Result<Entry | null, LedgerError>> {
    assertKey(key);
    return this.#read(`reading ${key}`, () => this.#store.get(key));
  }

  async list(
    prefix: string,
    { after = "", limit = -1 }: { readonly after?: string; readonly limit?: number } = {},
  ): Promise<Result<{ entries: readonly Entry[]; revision: Revision }, LedgerError>> {
    assertPrefix(prefix);
    return this.#read(`listing ${prefix}`, () => ({
      entries: this.#store.list(prefix, after, limit),
      revision: this.#store.revision,
    }));
  }

  async transact(transaction: Transaction): Promise<Result<TransactionOutcome, LedgerError>> {
    const refusal = this.#refusal ?? transactionRefusal(transaction);
    if (refusal !== null) return err(refusal);
    return await this.#enqueue((): Planned => {
      const judgement = judge(transaction, this.#store);
      if (judgement.kind === "changes") return judgement;
      if (judgement.kind === "leaseGone") {
        return { kind: "answer", answer: err(leaseGone(judgement.lease)) };
      }
      const { revision } = this.#store;
      const answer = ok({ applied: false as const, revision, failed: judgement.failed });
      return { kind: "answer", answer };
    });
  }

  async watch(prefix: string, after: Revision): Promise<Result<Watch, LedgerError>> {
    assertPrefix(prefix);
    if (this.#refusal !== null) return err(this.#refusal);
    const { compacted } = this.#store;
    if (after < compacted) return err(compactedError(after, compacted));
    return ok(this.#watches.open(prefix, after));
  }

  async grantLease(ttlMs: number): Promise<Result<Lease, LedgerError>> {
    if (this.#refusal !== null) return err(this.#refusal);
    return ok(this.#leases.grant(`lease-${crypto.randomUUID()}`, ttlMs));
  }

  async close(): Promise<void> {
    if (this.#refusal === ledgerClosed) return;
    this.#flush();
    this.#refusal = ledgerClosed;
    this.#leases.close();
    this.#watches.close();
    this.#store.close();
  }

  #read<Value>(doing: string, read: () => Value): Result<Value, LedgerError> {
    if (this.#refusal !== null) return err(this.#refusal);
    try {
      return ok(read());
    } catch (error) {
      return err(this.#failed(ledgerError(doing, this.#path, error)));
    }
  }

  #enqueue(plan: () => Planned): Promise<Result<TransactionOutcome, LedgerError>> {
    return new Promise((settle) => {
      if (this.#queue.length === 0) setImmediate(() => this.#flush());
      this.#queue.push({ plan, settle });
    });
  }

  /** Judges and applies what is queued in one SQLite transaction; answers after its commit. */
  #flush(): void {
    const jobs = this.#queue;
    this.#queue = [];
    if (jobs.length === 0) return;
    const answers: Result<TransactionOutcome, LedgerError>[] = [];
    const committed: { readonly revision: Revision; readonly keys: readonly string[] }[] = [];
    if (this.#refusal !== null) {
      for (const { settle } of jobs) settle(err(this.#refusal));
      return;
    }
    try {
      this.#store.begin();
      for (const { plan } of jobs) {
        const planned = plan();
        if (planned.kind === "answer") {
          answers.push(planned.answer);
          continue;
        }
        const { changes } = planned;
        if (changes.length > 0) {
          this.#store.apply(changes);
          const keys = changes.map(({ change }) => changedKey(change));
          committed.push({ revision: this.#store.revision, keys });
        }
        answers.push(ok({ applied: true, revision: this.#store.revision }));
      }
      this.#store.commit();
    } catch (error) {
      this.#fail(jobs, error);
      return;
    }
    for (const { revision, keys } of committed) this.#watches.committed(revision, keys);
    for (const [index, { settle }] of jobs.entries()) {
      settle(answers[index] as Result<TransactionOutcome, LedgerError>);
    }
  }
  #fail(jobs: readonly Job[], error: unknown): void {
    const failure = this.#failed(ledgerError(writing, this.#path, error));
    try {
      this.#store.rollback();
    } catch (rollbackError) {
      this.#refusal ??= ledgerError(writing, this.#path, rollbackError);
    }
    for (const { settle } of jobs) settle(err(failure));
  }

  /** After anything but a full disk, what the file holds is uncertain: reopening finds out. */
  #failed(failure: LedgerError): LedgerError {
    if (failure.code !== "full") this.#refusal ??= failure;
    return failure;
  }

  async #dropKeys(lease: LeaseId): Promise<void> {
    const dropped = this.#enqueue(() => ({
      kind: "changes",
      changes: this.#store.planDropOf(lease),
    }));
    this.#flush();
    const result = await dropped;
    if (result.ok || this.#refusal !== null) return;
    this.#clock.after(leaseRetryMs, () => void this.#dropKeys(lease));
  }
}
