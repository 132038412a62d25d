import { expect, test } from "bun:test";
import { VirtualClock } from "../../base/virtual.ts";
import { createIdempotencyCache, type StoredResponse } from "./idempotency.ts";

const limits = { entriesMax: 3, keptMs: 1000, bodyCharactersMax: 10 };

function setUp() {
  const clock = new VirtualClock();
  const cache = createIdempotencyCache(clock, limits);
  let executed = 0;
  const execute = (status = 200, body = "b") => {
    return async (): Promise<StoredResponse> => {
      executed += 1;
      return { status, headers: {}, body };
    };
  };
  return { clock, cache, execute, executed: () => executed };
}

test("a key is done once, also while it is being done", async () => {
  const { cache, execute, executed } = setUp();
  const first = cache.run("k", "f", execute());
  const second = cache.run("k", "f", execute());
  expect((await first)?.replayed).toBe(false);
  expect((await second)?.replayed).toBe(true);
  expect((await cache.run("k", "f", execute()))?.replayed).toBe(true);
  expect(executed()).toBe(1);
});

test("another fingerprint is refused and not run", async () => {
  const { cache, execute, executed } = setUp();
  await cache.run("k", "f", execute());
  expect(await cache.run("k", "other", execute())).toBeNull();
  expect(executed()).toBe(1);
});

test("the oldest of too many, and those too old, are forgotten", async () => {
  const { clock, cache, execute } = setUp();
  for (const key of ["a", "b", "c", "d"]) await cache.run(key, "f", execute());
  expect((await cache.run("d", "f", execute()))?.replayed).toBe(true);
  expect((await cache.run("a", "f", execute()))?.replayed).toBe(false);
  clock.advance(1001);
  expect((await cache.run("d", "f", execute()))?.replayed).toBe(false);
});

test("failures of ours, large answers and exceptions are not kept", async () => {
  const { cache, execute } = setUp();
  await cache.run("failed", "f", execute(503));
  expect((await cache.run("failed", "f", execute()))?.replayed).toBe(false);
  await cache.run("large", "f", execute(200, "x".repeat(11)));
  expect((await cache.run("large", "f", execute()))?.replayed).toBe(false);
  const broken = cache.run("broken", "f", () => Promise.reject(new Error("no")));
  await expect(broken).rejects.toThrow("no");
  expect((await cache.run("broken", "f", execute()))?.replayed).toBe(false);
});
