import type { Clock, Timestamp } from "../../base/time.ts";

/** A response that can be given more than once. */
export interface StoredResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

interface Slot {
  readonly fingerprint: string;
  readonly since: Timestamp;
  readonly response: Promise<StoredResponse>;
}

export interface IdempotencyCache {
  /**
   * Runs `execute` once per key. A later or concurrent call with the same key gets the same
   * response; with the same key and another fingerprint it gets null and nothing is run.
   */
  run(
    key: string,
    fingerprint: string,
    execute: () => Promise<StoredResponse>,
  ): Promise<{ readonly response: StoredResponse; readonly replayed: boolean } | null>;
}

/**
 * Slots: absent → running → kept → absent (oldest of too many, or too old). A server error
 * (status ≥ 500) frees the slot at once, since trying again is what the key is for.
 */
export function createIdempotencyCache(
  clock: Clock,
  limits: {
    readonly entriesMax: number;
    readonly keptMs: number;
    readonly bodyCharactersMax: number;
  },
): IdempotencyCache {
  const slots = new Map<string, Slot>();

  function trim(): void {
    const oldest = clock.now() - limits.keptMs;
    for (const [key, slot] of slots) {
      if (slots.size < limits.entriesMax && slot.since >= oldest) return;
      slots.delete(key);
    }
  }

  function forget(key: string, slot: Slot): void {
    if (slots.get(key) === slot) slots.delete(key);
  }

  async function start(key: string, fingerprint: string, execute: () => Promise<StoredResponse>) {
    trim();
    const slot: Slot = { fingerprint, since: clock.now(), response: execute() };
    slots.set(key, slot);
    try {
      const response = await slot.response;
      if (response.status >= 500 || response.body.length > limits.bodyCharactersMax) {
        forget(key, slot);
      }
      return { response, replayed: false };
    } catch (cause) {
      forget(key, slot);
      throw cause;
    }
  }

  return {
    async run(key, fingerprint, execute) {
      const slot = slots.get(key);
      if (slot === undefined || clock.now() - slot.since > limits.keptMs) {
        return start(key, fingerprint, execute);
      }
      if (slot.fingerprint !== fingerprint) return null;
      return { response: await slot.response, replayed: true };
    },
  };
}
