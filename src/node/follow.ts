import type { Clock } from "../base/time.ts";
import type { Change, Entry, Ledger, Watch } from "../fabric/ledger.ts";

const retryMs = 500;

export interface Follower {
  /** Everything under the prefix: at the beginning, and again after a gap. */
  snapshot(entries: readonly Entry[]): void;
  change(change: Change): void;
}

/**
 * Follows a prefix of the ledger for ever: lists it, watches from there, and lists again
 * whenever the watch ends. Resolves when the first snapshot was handed over; rejects when the
 * first listing fails.
 */
export async function follow(
  ledger: Ledger,
  prefix: string,
  clock: Clock,
  follower: Follower,
): Promise<{ cancel(): void }> {
  let watch: Watch | null = null;
  let cancelled = false;

  async function begin(): Promise<Watch | string> {
    const listed = await ledger.list(prefix);
    if (!listed.ok) return listed.error.message;
    const { entries, revision } = listed.value;
    const watching = await ledger.watch(prefix, revision);
    if (!watching.ok) return watching.error.message;
    follower.snapshot(entries);
    return watching.value;
  }

  async function run(first: Watch): Promise<void> {
    watch = first;
    while (!cancelled) {
      if (watch !== null) {
        for await (const batch of watch)
          for (const change of batch.changes) follower.change(change);
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
