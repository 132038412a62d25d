import type { ChangeBatch, Revision, Watch } from "./ledger.ts";

/** The kept changes of a ledger. */
export interface History {
  /** The newest revision. */
  readonly revision: Revision;
  /** Changes up to and including this revision are no longer kept. */
  readonly compacted: Revision;
  /** Batches under `prefix` with `after` < revision ≤ `through`, in order; null: unreadable. */
  read(prefix: string, after: Revision, through: Revision): readonly ChangeBatch[] | null;
}

/** Revisions read at one time. */
const windowRevisions = 256;

/**
 * Watches as cursors into one history: a slow reader costs no memory, and one that falls behind
 * what is kept is ended.
 *
 *   reading ⇄ waiting (cursor at the newest revision) → ended
 */
export class Watches {
  readonly #history: History;
  readonly #open = new Set<Cursor>();

  constructor(history: History) {
    this.#history = history;
  }

  open(prefix: string, after: Revision): Watch {
    const cursor = new Cursor(this.#history, prefix, after, () => this.#open.delete(cursor));
    this.#open.add(cursor);
    return cursor;
  }

  /** To be called after `revision`, which changed `keys`, was committed. */
  committed(revision: Revision, keys: readonly string[]): void {
    for (const cursor of this.#open) cursor.committed(revision, keys);
  }

  close(): void {
    for (const cursor of this.#open) cursor.cancel();
  }
}

type Step = IteratorResult<ChangeBatch, undefined>;
const end: Step = { done: true, value: undefined };

class Cursor implements Watch, AsyncIterator<ChangeBatch, undefined> {
  readonly #history: History;
  readonly #prefix: string;
  #after: Revision;
  readonly #forget: () => void;
  #ready: ChangeBatch[] = [];
  #waiting: ((step: Step) => void)[] = [];
  #ended = false;

  constructor(history: History, prefix: string, after: Revision, forget: () => void) {
    this.#history = history;
    this.#prefix = prefix;
    this.#after = after;
    this.#forget = forget;
  }

  [Symbol.asyncIterator](): AsyncIterator<ChangeBatch, undefined> {
    return this;
  }

  next(): Promise<Step> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#pump();
    });
  }

  async return(): Promise<Step> {
    this.cancel();
    return end;
  }

  cancel(): void {
    this.#ended = true;
    this.#ready = [];
    this.#forget();
    for (const resolve of this.#waiting.splice(0)) resolve(end);
  }

  committed(revision: Revision, keys: readonly string[]): void {
    const caughtUp = this.#after === revision - 1 && this.#ready.length === 0;
    if (caughtUp && !keys.some((key) => key.startsWith(this.#prefix))) this.#after = revision;
    this.#pump();
  }

  #pump(): void {
    while (this.#waiting.length > 0 && !this.#ended) {
      const batch = this.#ready.shift() ?? this.#read();
      if (batch === null) return;
      this.#waiting.shift()?.({ done: false, value: batch });
    }
    if (this.#ended) this.cancel();
  }

  /** The next batch; null when there is none yet, or none any more. */
  #read(): ChangeBatch | null {
    const { revision, compacted } = this.#history;
    while (this.#after < revision) {
      const through = Math.min(revision, this.#after + windowRevisions);
      const isKept = this.#after >= compacted;
      const batches = isKept ? this.#history.read(this.#prefix, this.#after, through) : null;
      if (batches === null) {
        this.cancel();
        return null;
      }
      this.#ready = [...batches];
      this.#after = through;
      const batch = this.#ready.shift();
      if (batch !== undefined) return batch;
    }
    return null;
  }
}
