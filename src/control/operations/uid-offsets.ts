import { ok, type Result } from "../../base/result.ts";
import type { Ledger, LedgerError } from "../../fabric/ledger.ts";
import { keys } from "../../model/keys.ts";

/** Taken from the counter at once, so that apps made at the same time do not wait in line. */
const blockSize = 16;

/**
 * Numbers for new apps, never given twice in the pool. What is left of a block when control
 * ends stays unused.
 */
export class UidOffsets {
  readonly #ledger: Ledger;
  readonly #free: number[] = [];
  #refill: Promise<Result<void, LedgerError>> | null = null;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  async take(): Promise<Result<number, LedgerError>> {
    while (true) {
      const offset = this.#free.shift();
      if (offset !== undefined) return ok(offset);
      this.#refill ??= this.#reserve();
      const refilled = await this.#refill;
      this.#refill = null;
      if (!refilled.ok) return refilled;
    }
  }

  /** An offset that no app got after all. */
  giveBack(offset: number): void {
    this.#free.unshift(offset);
  }

  async #reserve(): Promise<Result<void, LedgerError>> {
    const key = keys.uidCounter;
    while (true) {
      const entry = await this.#ledger.get(key);
      if (!entry.ok) return entry;
      const first = entry.value === null ? 1 : (JSON.parse(entry.value.value) as number);
      const outcome = await this.#ledger.transact({
        conditions: [
          entry.value === null
            ? { kind: "absent", key }
            : { kind: "unchanged", key, modRevision: entry.value.modRevision },
        ],
        writes: [{ kind: "put", key, value: JSON.stringify(first + blockSize) }],
      });
      if (!outcome.ok) return outcome;
      if (!outcome.value.applied) continue;
      for (let offset = first; offset < first + blockSize; offset += 1) this.#free.push(offset);
      return ok(undefined);
    }
  }
}
