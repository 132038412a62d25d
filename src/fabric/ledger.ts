import type { Result } from "../base/result.ts";

/** Counts acknowledged transactions that wrote something; starts at 0 in an empty ledger. */
export type Revision = number;

export interface Entry {
  readonly key: string;
  /** Text, by convention JSON. */
  readonly value: string;
  readonly createRevision: Revision;
  readonly modRevision: Revision;
}

/** All must hold for a transaction to be applied. */
export type Condition =
  | { readonly kind: "absent"; readonly key: string }
  | { readonly kind: "present"; readonly key: string }
  /** The key exists and was last written at this revision. */
  | { readonly kind: "unchanged"; readonly key: string; readonly modRevision: Revision };

export type Write =
  /** With a lease, the key goes when the lease does. */
  | {
      readonly kind: "put";
      readonly key: string;
      readonly value: string;
      readonly lease?: LeaseId;
    }
  | { readonly kind: "delete"; readonly key: string }
  | { readonly kind: "deletePrefix"; readonly prefix: string };

export interface Transaction {
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
}

export type TransactionOutcome =
  | { readonly applied: true; readonly revision: Revision }
  /** `failed` indexes `conditions`; nothing was written. */
  | { readonly applied: false; readonly revision: Revision; readonly failed: readonly number[] };

export type Change =
  | { readonly kind: "put"; readonly entry: Entry }
  | { readonly kind: "delete"; readonly key: string; readonly modRevision: Revision };

/** All changes of one revision under the watched prefix, in key order. */
export interface ChangeBatch {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/**
 * The iteration ends when cancelled, when the ledger closes, and when the reader fell so far
 * behind that the history is gone: who did not cancel lists again and watches from there.
 */
export interface Watch extends AsyncIterable<ChangeBatch> {
  /** Ends the iteration. */
  cancel(): void;
}

export type LeaseId = string;

export interface Lease {
  readonly id: LeaseId;
  readonly ttlMs: number;
  /** Resolves false when the lease is already gone. */
  keepAlive(): Promise<boolean>;
  /** Deletes the keys bound to it, as one revision. */
  revoke(): Promise<void>;
}

export type LedgerError = {
  /** `leaseGone`: a put names a lease that ended. `tooLarge`: more than a transaction takes. */
  readonly code:
    | "unavailable"
    | "corrupt"
    | "full"
    | "compacted"
    | "leaseGone"
    | "tooLarge"
    | "closed";
  readonly message: string;
};

/**
 * Hard state: ordered keys, one revision counter, compare-and-swap over several keys, watch
 * from a revision, leases. An acknowledged write has been fsynced. `ledger.SPEC.md` numbers
 * the rules; `ledger.contract.ts` checks them on every implementation.
 */
export interface Ledger {
  get(key: string): Promise<Result<Entry | null, LedgerError>>;
  /** Entries whose key begins with `prefix`, in key order, at one revision. */
  list(
    prefix: string,
    options?: { readonly after?: string; readonly limit?: number },
  ): Promise<Result<{ entries: readonly Entry[]; revision: Revision }, LedgerError>>;
  transact(transaction: Transaction): Promise<Result<TransactionOutcome, LedgerError>>;
  /** Every change after revision `after`, without gap or repetition, in order. */
  watch(prefix: string, after: Revision): Promise<Result<Watch, LedgerError>>;
  grantLease(ttlMs: number): Promise<Result<Lease, LedgerError>>;
  close(): Promise<void>;
}
