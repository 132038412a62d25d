import type { Clock, Timer } from "../../base/time.ts";
import type { Condition, Lease, Ledger } from "../../fabric/ledger.ts";
import { keys } from "../../model/keys.ts";
import type { HardState } from "./hard-state.ts";

const leaseTtlMs = 6_000;
const retryMs = 1_000;

/**
 * Which replica plans.
 *
 *   following → bidding → leading
 *       └─────────┴─────────┘ the record went, is another's, or the lease was lost
 *
 * The record's revision is the fencing token: every planned transaction is conditional on it,
 * so that a leader which does not know yet that it was replaced writes nothing. A record of
 * this replica's own name that was there when this life began is from an earlier life, which
 * cannot be alive any more: it is taken over at once, so that a restart does not wait for a
 * lease to run out.
 */
export class Leadership {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #replica: string;
  readonly #state: HardState;
  readonly #onChange: () => void;
  #lease: Lease | null = null;
  #token: number | null = null;
  /** The ledger's revision when this life began. */
  #bornAt: number | null = null;
  #bidding = false;
  #retry: Timer | null = null;
  #renewal: Timer | null = null;
  #closed = false;

  constructor(
    ledger: Ledger,
    clock: Clock,
    replica: string,
    state: HardState,
    onChange: () => void,
  ) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#replica = replica;
    this.#state = state;
    this.#onChange = onChange;
  }

  /** Null: this replica does not plan. */
  get fence(): Condition | null {
    if (this.#token === null) return null;
    return { kind: "unchanged", key: keys.leader, modRevision: this.#token };
  }

  /** To be called when the leader's record changed. */
  async review(): Promise<void> {
    const record = this.#state.snapshot.leader;
    if (this.#token !== null && record?.modRevision !== this.#token) {
      const isBehind = this.#state.snapshot.revision < this.#token;
      if (!isBehind) this.#stepDown();
    }
    if (this.#token !== null || this.#bidding || this.#closed) return;
    this.#bornAt ??= this.#state.snapshot.revision;
    const isFromEarlierLife =
      record !== null && record.value === this.#replica && record.modRevision <= this.#bornAt;
    if (record !== null && !isFromEarlierLife) return;
    this.#bidding = true;
    await this.#bid(
      record === null
        ? { kind: "absent", key: keys.leader }
        : { kind: "unchanged", key: keys.leader, modRevision: record.modRevision },
    );
    this.#bidding = false;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    this.#renewal?.cancel();
    this.#token = null;
    await this.#lease?.revoke();
  }

  async #bid(condition: Condition): Promise<void> {
    const lease = await this.#ledger.grantLease(leaseTtlMs);
    if (!lease.ok) {
      this.#later();
      return;
    }
    const outcome = await this.#ledger.transact({
      conditions: [condition],
      writes: [
        {
          kind: "put",
          key: keys.leader,
          value: JSON.stringify(this.#replica),
          lease: lease.value.id,
        },
      ],
    });
    if (!outcome.ok || !outcome.value.applied || this.#closed) {
      await lease.value.revoke();
      this.#later();
      return;
    }
    this.#lease = lease.value;
    this.#token = outcome.value.revision;
    this.#renewal = this.#clock.every(leaseTtlMs / 3, () => void this.#renew());
    await this.#state.reached(outcome.value.revision);
    this.#onChange();
  }

  async #renew(): Promise<void> {
    const isHeld = await this.#lease?.keepAlive();
    if (isHeld === false && this.#token !== null) {
      this.#stepDown();
      this.#later();
    }
  }

  #stepDown(): void {
    this.#renewal?.cancel();
    this.#token = null;
    this.#lease = null;
    this.#onChange();
  }

  /** The record may be unchanged when the reason to wait is over: look again. */
  #later(): void {
    if (this.#closed) return;
    this.#retry?.cancel();
    this.#retry = this.#clock.after(retryMs, () => void this.review());
  }
}
