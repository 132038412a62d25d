import { VirtualClock } from "../../base/virtual.ts";
import { ledgerContract } from "../ledger.contract.ts";
import { createMemoryLedger } from "./ledger.ts";

ledgerContract("memory", async () => {
  const clock = new VirtualClock();
  const ledger = createMemoryLedger({ clock, historyRevisions: 2000 });
  return {
    ledger,
    elapse: (durationMs) => clock.run(durationMs),
    forget: async () => {
      for (let round = 0; round < 5000; round++) {
        await ledger.transact({
          conditions: [],
          writes: [{ kind: "put", key: "/filler", value: "" }],
        });
      }
    },
    dispose: () => ledger.close(),
  };
});
