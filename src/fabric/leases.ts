import { assert } from "../base/assert.ts";
import type { Clock, Timer, Timestamp } from "../base/time.ts";
import type { Lease, LeaseId } from "./ledger.ts";

interface Holding {
  deadline: Timestamp;
  timer: Timer;
}

/**
 * The leases granted by one ledger in this process.
 *
 *   granted ⇄ kept alive → gone (deadline passed, revoked, or the ledger closed)
 *
 * A lease is gone before its keys are: nobody can put with it while they are being deleted.
 */
export class Leases {
  readonly #clock: Clock;
  readonly #dropKeys: (lease: LeaseId) => Promise<void>;
  readonly #held = new Map<LeaseId, Holding>();

  /** `dropKeys` deletes the keys bound to a lease as one revision. */
  constructor(clock: Clock, dropKeys: (lease: LeaseId) => Promise<void>) {
    this.#clock = clock;
    this.#dropKeys = dropKeys;
  }

  has(id: LeaseId): boolean {
    const holding = this.#held.get(id);
    return holding !== undefined && this.#clock.now() < holding.deadline;
  }

  grant(id: LeaseId, ttlMs: number): Lease {
    assert(ttlMs > 0, `a lease of ${ttlMs} ms`);
    assert(!this.#held.has(id), `lease ${id} granted twice`);
    const arm = (): Holding => ({
      deadline: this.#clock.now() + ttlMs,
      timer: this.#clock.after(ttlMs, () => void this.#end(id)),
    });
    this.#held.set(id, arm());
    return {
      id,
      ttlMs,
      keepAlive: async () => {
        if (!this.has(id)) return false;
        this.#held.get(id)?.timer.cancel();
        this.#held.set(id, arm());
        return true;
      },
      revoke: () => this.#end(id),
    };
  }

  close(): void {
    for (const holding of this.#held.values()) holding.timer.cancel();
    this.#held.clear();
  }

  async #end(id: LeaseId): Promise<void> {
    const holding = this.#held.get(id);
    if (holding === undefined) return;
    holding.timer.cancel();
    this.#held.delete(id);
    await this.#dropKeys(id);
  }
}
