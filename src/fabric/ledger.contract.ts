import { afterEach, describe, test } from "bun:test";
import type { LedgerFixture } from "./contract/ledger-case.ts";
import { checkHistories } from "./contract/ledger-history.ts";
import { stateCases } from "./contract/ledger-state.ts";
import { timeCases } from "./contract/ledger-time.ts";

/** Checks the rules of `ledger.SPEC.md` on one implementation; `open` gives an empty ledger. */
export function ledgerContract(name: string, open: () => Promise<LedgerFixture>): void {
  const opened: LedgerFixture[] = [];
  const fresh = async (): Promise<LedgerFixture> => {
    const fixture = await open();
    opened.push(fixture);
    return fixture;
  };
  afterEach(async () => {
    for (const fixture of opened.splice(0)) await fixture.dispose();
  });
  describe(`ledger contract: ${name}`, () => {
    for (const { name, run } of [...stateCases, ...timeCases]) {
      test(name, async () => run(await fresh()));
    }
    test("[L2][L3][L4][L6][L7][L11] agrees with a naive twin on any history", async () => {
      await checkHistories(open);
    });
  });
}
