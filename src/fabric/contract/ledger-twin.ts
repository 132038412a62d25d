import type {
  Change,
  ChangeBatch,
  Entry,
  Revision,
  Transaction,
  TransactionOutcome,
} from "../ledger.ts";

/** The ledger's rules written down as simply as can be, to compare implementations with. */
export class NaiveLedger {
  revision: Revision = 0;
  #entries: readonly Entry[] = [];
  readonly #batches: ChangeBatch[] = [];

  transact({ conditions, writes }: Transaction): TransactionOutcome {
    const find = (key: string) => this.#entries.find((entry) => entry.key === key);
    const failed = conditions.flatMap((condition, index) => {
      const entry = find(condition.key);
      if (condition.kind === "absent") return entry === undefined ? [] : [index];
      if (condition.kind === "present") return entry === undefined ? [index] : [];
      return entry?.modRevision === condition.modRevision ? [] : [index];
    });
    if (failed.length > 0) return { applied: false, revision: this.revision, failed };
    const modRevision = this.revision + 1;
    const changes: Change[] = [];
    for (const write of writes) {
      const gone = this.#entries.filter(({ key }) =>
        write.kind === "deletePrefix" ? key.startsWith(write.prefix) : key === write.key,
      );
      if (write.kind === "put") {
        const createRevision = gone[0]?.createRevision ?? modRevision;
        const entry = { key: write.key, value: write.value, createRevision, modRevision };
        changes.push({ kind: "put", entry });
        this.#entries = [...this.#entries.filter((other) => !gone.includes(other)), entry];
      } else {
        for (const { key } of gone) changes.push({ kind: "delete", key, modRevision });
        this.#entries = this.#entries.filter((other) => !gone.includes(other));
      }
    }
    if (changes.length > 0) {
      this.revision = modRevision;
      this.#batches.push({ revision: modRevision, changes: changes.sort(byKey) });
    }
    return { applied: true, revision: this.revision };
  }

  list(prefix: string): { entries: readonly Entry[]; revision: Revision } {
    const entries = this.#entries
      .filter((entry) => entry.key.startsWith(prefix))
      .sort((left, right) => (left.key < right.key ? -1 : 1));
    return { entries, revision: this.revision };
  }

  batches(prefix: string): readonly ChangeBatch[] {
    return this.#batches
      .map((batch) => ({
        ...batch,
        changes: batch.changes.filter((change) => keyOf(change).startsWith(prefix)),
      }))
      .filter((batch) => batch.changes.length > 0);
  }
}

function keyOf(change: Change): string {
  return change.kind === "put" ? change.entry.key : change.key;
}

function byKey(left: Change, right: Change): number {
  return keyOf(left) < keyOf(right) ? -1 : 1;
}
