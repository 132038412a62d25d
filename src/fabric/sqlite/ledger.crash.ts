/**
 * The writing process of the crash test: takes a ledger's path, writes pairs of keys as fast as
 * it can, several at a time, and prints a pair's number once it was acknowledged.
 */
import { writeSync } from "node:fs";
import { must } from "../contract/ledger-case.ts";
import { systemClock } from "../system.ts";
import { createSqliteLedger } from "./ledger.ts";

const [path, first] = process.argv.slice(2) as [string, string];
const ledger = must(await createSqliteLedger({ path, clock: systemClock }));
let next = Number(first);

async function writePairs(): Promise<never> {
  for (;;) {
    const number = next++;
    const value = String(number);
    const outcome = await ledger.transact({
      conditions: [{ kind: "absent", key: `/left/${number}` }],
      writes: [
        { kind: "put", key: `/left/${number}`, value },
        { kind: "put", key: `/right/${number}`, value },
        { kind: "put", key: "/last", value },
      ],
    });
    if (must(outcome).applied) writeSync(1, `${number}\n`);
  }
}

writeSync(1, "open\n");
await Promise.all(Array.from({ length: 8 }, writePairs));
