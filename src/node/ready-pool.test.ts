import { expect, test } from "bun:test";
import fc from "fast-check";
import { VirtualClock } from "../base/virtual.ts";
import type { CgroupLimits } from "./cgroup/cgroup.ts";
import type { InstanceProcess, LaunchRequest, WaitingProcess } from "./drivers/process.ts";
import { ReadyPool } from "./ready-pool.ts";

// The pool's rules by themselves, with sandboxes that are only counted.

const request = {} as LaunchRequest;
const limits = {} as CgroupLimits;

class Sleeper {
  lastUsedAt: number;
  alive = 0;
  /** At one time: the same cgroup cannot be had twice. */
  aliveMax = 0;
  made = 0;
  gone = 0;

  constructor(lastUsedAt: number) {
    this.lastUsedAt = lastUsedAt;
  }

  async makeReady(): Promise<WaitingProcess | null> {
    this.made += 1;
    this.alive += 1;
    this.aliveMax = Math.max(this.alive, this.aliveMax);
    await turn();
    const end = Promise.withResolvers<void>();
    return {
      process: { ended: end.promise } as unknown as InstanceProcess,
      go: async () => {
        this.gone += 1;
        return true;
      },
      discard: async () => {
        await turn();
        this.alive -= 1;
        end.resolve();
        await turn();
      },
    };
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function settle(): Promise<void> {
  for (let turns = 0; turns < 60; turns++) await turn();
}

function poolOf(places: number) {
  const clock = new VirtualClock();
  const machine = { available: 0.9 };
  const pool = new ReadyPool(places, clock, () => machine.available);
  pool.begin();
  return { clock, machine, pool };
}

test("none are made where memory is short, and they go when it gets shorter", async () => {
  const { clock, machine, pool } = poolOf(2);
  const sleeper = new Sleeper(1);
  machine.available = 0.1;
  pool.offer(sleeper);
  await settle();
  expect(sleeper.made).toBe(0);
  machine.available = 0.2;
  clock.advance(5000);
  await settle();
  expect(sleeper.alive).toBe(1);
  machine.available = 0.1;
  clock.advance(5000);
  await settle();
  expect(sleeper.alive).toBe(1);
  machine.available = 0.05;
  clock.advance(5000);
  await settle();
  expect(sleeper.alive).toBe(0);
  await pool.close();
});

test("nobody gets one before all are known", async () => {
  const pool = new ReadyPool(1, new VirtualClock(), () => 1);
  const [early, late] = [new Sleeper(1), new Sleeper(2)];
  pool.offer(early);
  await settle();
  pool.offer(late);
  pool.begin();
  await settle();
  expect([early.made, late.made]).toEqual([0, 1]);
  await pool.close();
});

test("with no places there are none", async () => {
  const { pool } = poolOf(0);
  const sleeper = new Sleeper(1);
  pool.offer(sleeper);
  await settle();
  expect(await pool.claim(sleeper, request, limits)).toBeNull();
  expect(sleeper.made).toBe(0);
  await pool.close();
});

type Deed = { readonly who: number; readonly does: "offer" | "withdraw" | "claim" | "renew" };

const deeds: fc.Arbitrary<readonly Deed[]> = fc.array(
  fc.record({
    who: fc.integer({ min: 0, max: 6 }),
    does: fc.constantFrom("offer", "offer", "withdraw", "claim", "renew"),
  }),
  { maxLength: 40 },
);

test("whatever happens: one each, so many at most, the last used, and none in the end", async () => {
  let claimed = 0;
  const places = 3;
  const property = fc.asyncProperty(deeds, fc.boolean(), async (all, slowly) => {
    const { pool } = poolOf(places);
    const sleepers = Array.from({ length: 7 }, (_, at) => new Sleeper(at));
    const asleep = new Set<Sleeper>();
    for (const { who, does } of all) {
      const sleeper = sleepers[who];
      if (sleeper === undefined) continue;
      if (does === "offer") asleep.add(sleeper);
      else if (does !== "renew") asleep.delete(sleeper);
      const before = sleeper.gone;
      if (does === "offer") pool.offer(sleeper);
      else if (does === "withdraw") void pool.withdraw(sleeper);
      else if (does === "renew") pool.renew(sleeper);
      else if ((await pool.claim(sleeper, request, limits)) !== null) {
        // Let go: what it is from now on is no business of the pool's.
        expect(sleeper.gone).toBe(before + 1);
        sleeper.alive -= 1;
        claimed += 1;
      }
      if (slowly) await settle();
    }
    await settle();
    const wanted = [...asleep].sort((one, other) => other.lastUsedAt - one.lastUsedAt);
    const ready = sleepers.filter(({ alive }) => alive > 0);
    if (asleep.size <= 2 * places) {
      const chosen = wanted.slice(0, places).map(({ lastUsedAt }) => lastUsedAt);
      expect(ready.map(({ lastUsedAt }) => lastUsedAt).sort()).toEqual(chosen.sort());
    }
    for (const { aliveMax } of sleepers) expect(aliveMax).toBeLessThanOrEqual(1);
    await pool.close();
    for (const { alive } of sleepers) expect(alive).toBe(0);
  });
  await fc.assert(property, { numRuns: 1500, seed: 7 });
  expect(claimed).toBeGreaterThan(50);
}, 60_000);
