import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Change, Ledger, LedgerError, Revision, Watch } from "../../fabric/ledger.ts";
import { type Applied, applyChanges, type RecordChange } from "../../scheduler/apply.ts";
import { emptySnapshot, type Snapshot } from "../../scheduler/snapshot.ts";

/** What became different, in the terms of `Applied`. */
export type SnapshotChange = Omit<Applied, "snapshot">;

const reloadDelayMs = 500;

/**
 * All hard state in memory, as the newest snapshot.
 *
 *   loading → following (watch) → closed
 *      └──────────┘ the history was compacted, or the ledger failed: load again
 */
export class HardState {
  snapshot: Snapshot = emptySnapshot;
  /** Counts the times that apps came or went. */
  generation = 0;
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #onChange: (change: SnapshotChange) => void;
  #watch: Watch | null = null;
  #closed = false;
  #waiting: { readonly revision: Revision; readonly resolve: () => void }[] = [];

  constructor(ledger: Ledger, clock: Clock, onChange: (change: SnapshotChange) => void) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#onChange = onChange;
  }

  async start(): Promise<Result<void, LedgerError>> {
    const loaded = await this.#load();
    if (loaded.ok) void this.#follow(loaded.value);
    return loaded.ok ? ok(undefined) : loaded;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Resolves when the snapshot holds what was written at this revision, or it is closed. */
  reached(revision: Revision): Promise<void> {
    if (this.snapshot.revision >= revision || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ revision, resolve }));
  }

  close(): void {
    this.#closed = true;
    this.#watch?.cancel();
    this.#release();
  }

  async #load(): Promise<Result<Watch, LedgerError>> {
    const listed = await this.#ledger.list("");
    if (!listed.ok) return err(within("reading all hard state", listed.error));
    const { entries, revision } = listed.value;
    const before = this.snapshot;
    const applied = applyChanges(emptySnapshot, revision, entries);
    const watch = await this.#ledger.watch("", revision);
    if (!watch.ok) return err(within("watching hard state", watch.error));
    this.#take(applied.snapshot, {
      apps: new Set([...applied.apps, ...[...before.apps.entries()].map(([key]) => key)]),
      nodesChanged: true,
      certificatesChanged: true,
      leaderChanged: true,
    });
    return watch;
  }

  async #follow(first: Watch): Promise<void> {
    let watch: Watch | null = first;
    while (!this.#closed) {
      if (watch !== null) {
        this.#watch = watch;
        for await (const { revision, changes } of watch) {
          const { snapshot, ...change } = applyChanges(
            this.snapshot,
            revision,
            changes.map(toRecordChange),
          );
          this.#take(snapshot, change);
        }
      }
      if (this.#closed) return;
      const loaded = await this.#load();
      watch = loaded.ok ? loaded.value : null;
      if (!loaded.ok) {
        await new Promise<void>((resolve) => this.#clock.after(reloadDelayMs, resolve));
      }
    }
  }

  #take(snapshot: Snapshot, change: SnapshotChange): void {
    const before = this.snapshot;
    for (const key of change.apps) {
      const wasThere = (before.apps.get(key)?.app ?? null) !== null;
      if (wasThere === ((snapshot.apps.get(key)?.app ?? null) !== null)) continue;
      this.generation += 1;
      break;
    }
    this.snapshot = snapshot;
    this.#onChange(change);
    if (this.#waiting.length > 0) this.#release();
  }

  #release(): void {
    const { revision } = this.snapshot;
    const due = this.#waiting.filter((waiter) => this.#closed || waiter.revision <= revision);
    this.#waiting = this.#waiting.filter((waiter) => !due.includes(waiter));
    for (const { resolve } of due) resolve();
  }
}

function toRecordChange(change: Change): RecordChange {
  return change.kind === "put"
    ? change.entry
    : { key: change.key, value: null, modRevision: change.modRevision };
}

function within(doing: string, error: LedgerError): LedgerError {
  return { ...error, message: `${doing}: ${error.message}` };
}
