import { err } from "../src/base/result.ts";
import type { Random } from "../src/base/time.ts";
import type { Ledger } from "../src/fabric/ledger.ts";
import type { Wire } from "../src/fabric/wire.ts";

/** Shares of calls that go wrong; all 0 once the world heals. */
export interface Faults {
  /** Messages of nodes that control does not get. */
  lostMessages: number;
  /** Requests of control that nobody answers. */
  lostRequests: number;
  /** Transactions that fail, half of them after they were applied. */
  failedTransactions: number;
}

export function lossyWire(wire: Wire, faults: Faults, random: Random): Wire {
  return {
    publish: (subject, payload) => wire.publish(subject, payload),
    subscribe: (subject, handler) =>
      wire.subscribe(subject, (message) => {
        if (random.next() >= faults.lostMessages) handler(message);
      }),
    async request(subject, payload, options) {
      if (random.next() >= faults.lostRequests) return wire.request(subject, payload, options);
      return err({ code: "timeout", message: "a simulated loss" });
    },
    respond: (subject, handler) => wire.respond(subject, handler),
    onConnection: (callback) => wire.onConnection(callback),
    close: () => wire.close(),
  };
}

export function flakyLedger(ledger: Ledger, faults: Faults, random: Random): Ledger {
  return {
    get: (key) => ledger.get(key),
    list: (prefix, options) => ledger.list(prefix, options),
    async transact(transaction) {
      const luck = random.next();
      const unavailable = { code: "unavailable", message: "a simulated fault" } as const;
      if (luck < faults.failedTransactions / 2) return err(unavailable);
      const outcome = await ledger.transact(transaction);
      return luck < faults.failedTransactions ? err(unavailable) : outcome;
    },
    watch: (prefix, after) => ledger.watch(prefix, after),
    grantLease: (ttlMs) => ledger.grantLease(ttlMs),
    close: () => ledger.close(),
  };
}
