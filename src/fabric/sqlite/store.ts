import type { Database, Statement } from "bun:sqlite";
import { assert } from "../../base/assert.ts";
import type { Change, ChangeBatch, Entry, LeaseId, Revision } from "../ledger.ts";
import { changedKey, type LedgerState, type PlannedChange, prefixEnd } from "../transaction.ts";

export interface HistoryBounds {
  readonly revisions: number;
  readonly bytes: number;
}

/** The bounds may be passed by an eighth, so that the history is not trimmed at each commit. */
const slack = 9 / 8;

/** What a rollback goes back to; trimming leaves the array as it is and makes a new one. */
interface Before {
  readonly revision: Revision;
  readonly compacted: Revision;
  readonly historyBytes: number[];
  readonly historyLength: number;
}

type EntryRow = [key: string, value: string, createRevision: number, modRevision: number];
type ChangeRow = [revision: number, key: string, value: string | null, createRevision: number];

/**
 * The ledger's tables. Between `begin` and `commit` or `rollback` it shows what is being
 * written; nothing else may run in between.
 */
export class SqliteStore implements LedgerState {
  revision: Revision;
  compacted: Revision;
  readonly hasLease: (lease: LeaseId) => boolean;
  readonly #database: Database;
  readonly #bounds: HistoryBounds;
  readonly #statements: ReturnType<typeof prepare>;
  /** Bytes of the changes of each revision from `compacted + 1` on. */
  #historyBytes: number[];
  #historyBytesSum: number;
  #before: Before | null = null;

  constructor(database: Database, bounds: HistoryBounds, hasLease: (lease: LeaseId) => boolean) {
    this.#database = database;
    this.#bounds = bounds;
    this.hasLease = hasLease;
    this.#statements = prepare(database);
    const [state] = this.#statements.state.values();
    [this.revision, this.compacted] = state as [number, number];
    this.#historyBytes = this.#statements.historyBytes.values().map(([bytes]) => Number(bytes));
    this.#historyBytesSum = this.#historyBytes.reduce((sum, bytes) => sum + bytes, 0);
    const kept = this.revision - this.compacted;
    assert(this.#historyBytes.length === kept, `${kept} revisions of history`);
  }

  /** Lets go of the file, which SQLite keeps while a statement lives. */
  close(): void {
    for (const statement of Object.values(this.#statements)) statement.finalize();
    this.#database.close(true);
  }

  begin(): void {
    const { revision, compacted } = this;
    const historyBytes = this.#historyBytes;
    this.#before = { revision, compacted, historyBytes, historyLength: historyBytes.length };
    this.#database.run("BEGIN IMMEDIATE");
  }

  commit(): void {
    if (this.revision !== this.#before?.revision) {
      this.#trim();
      this.#statements.setState.run(this.revision, this.compacted);
    }
    this.#database.run("COMMIT");
    this.#before = null;
  }

  rollback(): void {
    assert(this.#before !== null, "rollback outside a transaction");
    this.revision = this.#before.revision;
    this.compacted = this.#before.compacted;
    this.#historyBytes = this.#before.historyBytes;
    this.#historyBytes.length = this.#before.historyLength;
    this.#historyBytesSum = this.#historyBytes.reduce((sum, bytes) => sum + bytes, 0);
    this.#before = null;
    // SQLite has ended the transaction by itself after some errors.
    if (this.#database.inTransaction) this.#database.run("ROLLBACK");
  }

  get(key: string): Entry | null {
    const [row] = this.#statements.get.values(key);
    return row === undefined ? null : toEntry(row as EntryRow);
  }

  list(prefix: string, after: string, limit: number): readonly Entry[] {
    // "!" is the first character a key can have, so this is the first key after `after`.
    const from = after >= prefix && after !== "" ? `${after}!` : prefix;
    const rows = this.#statements.list.values(from, prefixEnd(prefix), limit);
    return (rows as EntryRow[]).map(toEntry);
  }

  keysUnder(prefix: string): readonly string[] {
    const rows = this.#statements.keysUnder.values(prefix, prefixEnd(prefix));
    return rows.map(([key]) => key as string);
  }

  planDropOf(lease: LeaseId): readonly PlannedChange[] {
    const modRevision = this.revision + 1;
    return this.#statements.keysOfLease.values(lease).map(([key]) => ({
      change: { kind: "delete", key: key as string, modRevision },
      lease: null,
    }));
  }

  leases(): readonly LeaseId[] {
    return this.#statements.leases.values().map(([lease]) => lease as LeaseId);
  }

  apply(changes: readonly PlannedChange[]): void {
    this.revision++;
    let bytes = 0;
    for (const { change, lease } of changes) {
      const key = changedKey(change);
      if (change.kind === "delete") {
        this.#statements.remove.run(key);
        this.#statements.record.run(this.revision, key, null, 0);
        bytes += key.length;
      } else {
        const { value, createRevision, modRevision } = change.entry;
        this.#statements.put.run(key, value, createRevision, modRevision, lease);
        this.#statements.record.run(this.revision, key, value, createRevision);
        bytes += key.length + Buffer.byteLength(value);
      }
    }
    this.#historyBytes.push(bytes);
    this.#historyBytesSum += bytes;
  }

  read(prefix: string, after: Revision, through: Revision): readonly ChangeBatch[] {
    const rows = this.#statements.read.values(after, through, prefix, prefixEnd(prefix));
    const batches: { revision: Revision; changes: Change[] }[] = [];
    for (const row of rows as ChangeRow[]) {
      const [revision] = row;
      const last = batches.at(-1);
      if (last?.revision === revision) last.changes.push(toChange(row));
      else batches.push({ revision, changes: [toChange(row)] });
    }
    return batches;
  }

  #trim(): void {
    const { revisions, bytes } = this.#bounds;
    const kept = this.#historyBytes;
    const isWithin = (factor: number, count: number, sum: number) =>
      count <= revisions * factor && sum <= bytes * factor;
    if (isWithin(slack, kept.length, this.#historyBytesSum)) return;
    let gone = 0;
    let sum = this.#historyBytesSum;
    while (!isWithin(1, kept.length - gone, sum)) sum -= kept[gone++] as number;
    this.#historyBytes = kept.slice(gone);
    this.#historyBytesSum = sum;
    this.compacted += gone;
    this.#statements.forget.run(this.compacted);
  }
}

function prepare(database: Database) {
  const statement = (sql: string): Statement => database.prepare(sql);
  const columns = "key, value, create_revision, mod_revision";
  return {
    get: statement(`SELECT ${columns} FROM entries WHERE key = ?`),
    list: statement(
      `SELECT ${columns} FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
    ),
    keysUnder: statement("SELECT key FROM entries WHERE key >= ? AND key < ?"),
    keysOfLease: statement("SELECT key FROM entries WHERE lease = ? ORDER BY key"),
    leases: statement("SELECT DISTINCT lease FROM entries WHERE lease IS NOT NULL ORDER BY lease"),
    put: statement(`INSERT OR REPLACE INTO entries (${columns}, lease) VALUES (?, ?, ?, ?, ?)`),
    remove: statement("DELETE FROM entries WHERE key = ?"),
    record: statement(
      "INSERT INTO changes (revision, key, value, create_revision) VALUES (?, ?, ?, ?)",
    ),
    read: statement(
      `SELECT revision, key, value, create_revision FROM changes
       WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision, key`,
    ),
    forget: statement("DELETE FROM changes WHERE revision <= ?"),
    historyBytes: statement(
      `SELECT sum(octet_length(key) + ifnull(octet_length(value), 0))
       FROM changes GROUP BY revision ORDER BY revision`,
    ),
    state: statement("SELECT revision, compacted FROM state"),
    setState: statement("UPDATE state SET revision = ?, compacted = ?"),
  };
}

function toEntry([key, value, createRevision, modRevision]: EntryRow): Entry {
  return { key, value, createRevision, modRevision };
}

function toChange([revision, key, value, createRevision]: ChangeRow): Change {
  if (value === null) return { kind: "delete", key, modRevision: revision };
  return { kind: "put", entry: { key, value, createRevision, modRevision: revision } };
}
