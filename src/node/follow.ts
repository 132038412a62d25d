import type { Clock } from "../base/time.ts";
import type { Change, Entry, Ledger, Revision, Watch } from "../fabric/ledger.ts";

const retryMs = 500;
/** Entries listed at one time; between two lots others get their turn. */
const lotSize = 1000;

export interface Follower {
  /** Everything under the prefix follows, lot by lot: at the beginning, and after a gap. */
  begin(): void;
  listed(entries: readonly Entry[]): void;
  /** That was everything. */
  end(): void;
  change(change: Change): void;
}

/** Up to this key the listing is as of this revision. */
interface Lot {
  readonly lastKey: string | null;
  readonly revision: Revision;
}

/**
 * Follows a prefix of the ledger for ever: watches it, lists it, and does both again whenever the
 * watch ends. Each change is handed over once: in the listing, or after it. Resolves when the
 * first listing was handed over; rejects when it fails.
 */
export async function follow(
  ledger: Ledger,
  prefix: string,
  clock: Clock,
  follower: Follower,
): Promise<{ cancel(): void }> {
  let watch: Watch | null = null;
  let lots: readonly Lot[] = [];
  let cancelled = false;

  async function begin(): Promise<Watch | string> {
    const first = await ledger.list(prefix, { limit: lotSize });
    if (!first.ok) return first.error.message;
    const watching = await ledger.watch(prefix, first.value.revision);
    if (!watching.ok) return watching.error.message;
    const problem = await list(first.value);
    if (problem === null) return watching.value;
    watching.value.cancel();
    return problem;
  }

  /** Null: all of it was handed over. */
  async function list(first: {
    readonly entries: readonly Entry[];
    readonly revision: Revision;
  }): Promise<string | null> {
    const taken: Lot[] = [];
    follower.begin();
    for (let lot = first; ; ) {
      follower.listed(lot.entries);
      const last = lot.entries.at(-1);
      const isLast = last === undefined || lot.entries.length < lotSize;
      taken.push({ lastKey: isLast ? null : last.key, revision: lot.revision });
      if (isLast) break;
      await new Promise<void>((resolve) => clock.after(0, resolve));
      if (cancelled) return "cancelled";
      const next = await ledger.list(prefix, { after: last.key, limit: lotSize });
      if (!next.ok) return next.error.message;
      lot = next.value;
    }
    lots = taken;
    follower.end();
    return null;
  }

  function isListed(change: Change): boolean {
    const [key, revision] =
      change.kind === "put"
        ? [change.entry.key, change.entry.modRevision]
        : [change.key, change.modRevision];
    if (revision > (lots.at(-1)?.revision ?? 0)) return false;
    const lot = lots.find(({ lastKey }) => lastKey === null || key <= lastKey);
    return lot !== undefined && revision <= lot.revision;
  }

  async function run(first: Watch): Promise<void> {
    watch = first;
    while (!cancelled) {
      if (watch !== null) {
        for await (const { changes } of watch) {
          for (const change of changes) if (!isListed(change)) follower.change(change);
        }
      }
      if (cancelled) return;
      await new Promise<void>((resolve) => clock.after(retryMs, resolve));
      const next: Watch | string = cancelled ? "cancelled" : await begin();
      watch = typeof next === "string" ? null : next;
    }
    watch?.cancel();
  }

  const first = await begin();
  if (typeof first === "string") throw new Error(`reading ${prefix} from the ledger: ${first}`);
  void run(first);
  return {
    cancel() {
      cancelled = true;
      watch?.cancel();
    },
  };
}
