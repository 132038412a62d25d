import { expect, test } from "bun:test";
import { seededRandom, VirtualClock } from "../base/virtual.ts";
import type { Write } from "../fabric/ledger.ts";
import { createMemoryLedger } from "../fabric/memory/ledger.ts";
import { follow } from "./follow.ts";

const prefix = "/things/";
const keyOf = (number: number) => `${prefix}${String(number).padStart(6, "0")}`;

/** Each change once, the newest last: a follower that counts on it is right in the end. */
test("a long listing and the changes during it make what the ledger holds", async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const clock = new VirtualClock();
    const random = seededRandom(seed);
    const ledger = createMemoryLedger({ clock, historyRevisions: 200 });
    const write = (writes: readonly Write[]) => ledger.transact({ conditions: [], writes });
    for (let from = 0; from < 3200; from += 100) {
      const value = String(from);
      await write(
        Array.from({ length: 100 }, (_, index) => ({
          ...{ kind: "put", key: keyOf(from + index), value },
        })),
      );
    }
    const held = new Map<string, string>();
    let faults = 0;
    let lots = 0;
    let before = new Map<string, string>();
    const spoil = async (count: number) => {
      for (let index = 0; index < count; index += 1) {
        const key = keyOf(Math.floor(random.next() * 3300));
        if (random.next() < 0.5) await write([{ kind: "delete", key }]);
        else await write([{ kind: "put", key, value: `new ${index}` }]);
      }
    };
    const following = follow(ledger, prefix, clock, {
      begin() {
        before = new Map(held);
        held.clear();
      },
      listed(entries) {
        lots += 1;
        for (const { key, value } of entries) held.set(key, value);
      },
      end() {
        before.clear();
      },
      change(change) {
        if (change.kind === "put") held.set(change.entry.key, change.entry.value);
        // What is deleted was there: a deletion that the listing has is not told again.
        else if (!held.delete(change.key)) faults += 1;
      },
    });
    for (let turn = 0; turn < 4; turn += 1) {
      await spoil(25);
      await clock.run(1);
    }
    const subscription = await following;
    await spoil(50);
    await clock.run(2000);
    const listed = await ledger.list(prefix);
    if (!listed.ok) throw new Error(listed.error.message);
    expect(Object.fromEntries([...held].sort())).toEqual(
      Object.fromEntries(listed.value.entries.map(({ key, value }) => [key, value])),
    );
    expect(faults).toBe(0);
    expect(before.size).toBe(0);
    expect(lots).toBeGreaterThan(3);
    subscription.cancel();
    await ledger.close();
  }
});
