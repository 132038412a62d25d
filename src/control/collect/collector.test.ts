import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { helloFiles, World } from "../../../sim/world.ts";
import type { Random } from "../../base/time.ts";
import { seededRandom, VirtualClock } from "../../base/virtual.ts";
import type { Blobs } from "../../fabric/blobs.ts";
import type { Ledger } from "../../fabric/ledger.ts";
import { createMemoryBlobs } from "../../fabric/memory/blobs.ts";
import { createMemoryLedger } from "../../fabric/memory/ledger.ts";
import { createMemoryWire } from "../../fabric/memory/wire.ts";
import { keys } from "../../model/keys.ts";
import type { AppName, ProjectName } from "../../model/names.ts";
import { blobSpareMs, Collector } from "./collector.ts";

const hourMs = 3_600_000;
const actor = { id: "tester" };
let world: World | null = null;

afterEach(async () => {
  await world?.close();
  world = null;
});

function must<Value, Failure>(
  result: { readonly ok: true; readonly value: Value } | { readonly ok: false; error: Failure },
): Value {
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
}

async function stored(blobs: Blobs): Promise<string[]> {
  const digests: string[] = [];
  for await (const digest of blobs.list()) digests.push(digest);
  return digests.sort();
}

/** All that the releases in the ledger refer to. */
async function neededBy(ledger: Ledger, blobs: Blobs): Promise<string[]> {
  const needed = new Set<string>();
  for (const { value } of must(await ledger.list(keys.releases)).entries) {
    const { manifest } = JSON.parse(value) as { manifest: string };
    const text = new TextDecoder().decode(must(await blobs.read(manifest)));
    const { entries } = JSON.parse(text) as { entries: { digest: string }[] };
    for (const digest of [manifest, ...entries.map((entry) => entry.digest)]) needed.add(digest);
  }
  return [...needed].sort();
}

test("old releases go with their files, the kept ones can be rolled back to", async () => {
  world = new World({ releasesKept: 2 });
  await world.start();
  const { operations } = world.control;
  const ref = world.ref("hello");
  for (let number = 1; number <= 5; number += 1) {
    must(await world.deploy("hello", { ...helloFiles, "only.txt": `of v${number}` }));
    await world.until(
      "it serves",
      async () => must(await operations.getApp(ref)).serving === number,
    );
  }
  await world.clock.run(60_000);
  const kept = must(await operations.listReleases(ref, { after: null, limit: 10 })).items;
  expect(kept.map(({ release }) => release.number)).toEqual([5, 4, 3]);
  const gone = await operations.rollback(ref, 1, actor);
  expect(gone.ok ? null : gone.error).toEqual({
    code: "notFound",
    message: "v1 of hello is no longer kept: the cloud keeps the present release and 2 before it",
    remedy: "see lode releases --app hello",
    at: null,
  });
  const before = await stored(world.blobs);
  expect(before.length).toBeGreaterThan((await neededBy(world.ledger, world.blobs)).length);
  await world.clock.run(blobSpareMs - 2 * 60_000);
  expect(await stored(world.blobs)).toEqual(before);
  await world.clock.run(2 * hourMs);
  expect(await stored(world.blobs)).toEqual(await neededBy(world.ledger, world.blobs));
  const status = must(await operations.status());
  // Of v1 and v2 the file of their own, and the manifest.
  expect(status).toMatchObject({ releasesKept: 2, collected: { blobs: 4 } });
  expect(status.collected.blobBytes).toBeGreaterThan(100);
  must(await operations.rollback(ref, 3, actor));
  await world.until("v6 serves", async () => must(await operations.getApp(ref)).serving === 6);
  expect(world.problems).toEqual([]);
});

test("what was uploaded for nothing goes; what is asked for again stays", async () => {
  world = new World();
  await world.start();
  const { operations } = world.control;
  const digests = ["left", "wanted"].map((text) => createHash("sha256").update(text).digest("hex"));
  for (const [index, text] of ["left", "wanted"].entries()) {
    must(await world.blobs.put(digests[index] as string, new TextEncoder().encode(text)));
  }
  for (let hour = 0; hour < 9; hour += 1) {
    must(await operations.missingBlobs([digests[1] as never]));
    await world.clock.run(hourMs);
  }
  expect(await stored(world.blobs)).toEqual([digests[1] as string]);
});

test("a deploy whose files were asked for too long ago is refused, not recorded", async () => {
  const waits: { until: Promise<void> | null } = { until: null };
  world = new World({
    ledgerOf: (ledger) => ({
      ...bound(ledger),
      get: async (key) => {
        if (key === keys.uidCounter) await waits.until;
        return ledger.get(key);
      },
    }),
  });
  await world.start();
  const manifest = await world.upload(helloFiles);
  const { clock, control } = world;
  waits.until = new Promise((resolve) => clock.after(4 * hourMs, resolve));
  const deploying = control.operations.deploy(world.ref("late"), { manifest }, actor);
  await clock.run(4 * hourMs + 1000);
  const deployed = await deploying;
  expect(deployed.ok ? null : deployed.error.message).toBe("recording late took too long");
  expect(must(await world.ledger.list(keys.releases)).entries).toEqual([]);
});

function bound(ledger: Ledger): Ledger {
  return {
    get: (key) => ledger.get(key),
    list: (prefix, options) => ledger.list(prefix, options),
    transact: (transaction) => ledger.transact(transaction),
    watch: (prefix, after) => ledger.watch(prefix, after),
    grantLease: (ttlMs) => ledger.grantLease(ttlMs),
    close: () => ledger.close(),
  };
}

/** Deploys, rollbacks and retirements of a few apps, as control writes them. */
class Writers {
  readonly #random: Random;
  readonly #clock: VirtualClock;
  readonly ledger: Ledger;
  readonly blobs: Blobs;
  recorded = 0;
  refused = 0;

  constructor(random: Random, clock: VirtualClock) {
    this.#random = random;
    this.#clock = clock;
    this.ledger = createMemoryLedger({ clock, random });
    this.blobs = createMemoryBlobs({ clock });
  }

  async act(): Promise<void> {
    const app = `app${Math.floor(this.#random.next() * 3)}` as AppName;
    const choice = this.#random.next();
    if (choice < 0.4) await this.#deploy(app);
    else if (choice < 0.7) await this.#rollback(app);
    else await this.#retire(app);
  }

  /** Asks what is missing, sends that over a slow line, asks again, records. */
  async #deploy(app: AppName): Promise<void> {
    const texts = Array.from({ length: 4 }, () => `${Math.floor(this.#random.next() * 30)}`);
    const entries = texts.sort().map((path) => ({ kind: "file", path, digest: digestOf(path) }));
    const text = JSON.stringify({ entries });
    const digests = entries.map(({ digest }) => digest);
    const missing = must(await this.blobs.missing(digests));
    for (const { path, digest } of entries) {
      if (!missing.includes(digest)) continue;
      await this.#pass(3 * hourMs);
      must(await this.blobs.put(digest, new TextEncoder().encode(path)));
    }
    const askedAt = this.#clock.now();
    if (must(await this.blobs.missing(digests)).length > 0) {
      this.refused += 1;
      return;
    }
    must(await this.blobs.put(digestOf(text), new TextEncoder().encode(text)));
    await this.#pass(4 * hourMs);
    if (this.#clock.now() - askedAt > blobSpareMs / 2) return;
    await this.#record(app, digestOf(text), null);
  }

  async #rollback(app: AppName): Promise<void> {
    const source = await this.#oneOf(app);
    if (source === null) return;
    await this.#pass(10 * hourMs);
    const { manifest } = JSON.parse(source.value) as { manifest: string };
    await this.#record(app, manifest, source);
  }

  async #retire(app: AppName): Promise<void> {
    const one = await this.#oneOf(app);
    if (one === null) return;
    must(
      await this.ledger.transact({ conditions: [], writes: [{ kind: "delete", key: one.key }] }),
    );
  }

  async #oneOf(app: AppName) {
    const prefix = keys.releasesOf("default" as ProjectName, app);
    const { entries } = must(await this.ledger.list(prefix));
    return entries[Math.floor(this.#random.next() * entries.length)] ?? null;
  }

  async #record(
    app: AppName,
    manifest: string,
    source: { readonly key: string; readonly modRevision: number } | null,
  ): Promise<void> {
    const project = "default" as ProjectName;
    const number = ++this.recorded;
    const value = JSON.stringify({ project, app, number, manifest });
    const condition = { kind: "unchanged" as const, ...source };
    must(
      await this.ledger.transact({
        conditions: source === null ? [] : [condition as never],
        writes: [{ kind: "put", key: keys.release(project, app, number), value }],
      }),
    );
  }

  #pass(mostMs: number): Promise<void> {
    const delayMs = this.#random.next() * mostMs;
    return new Promise((resolve) => void this.#clock.after(delayMs, resolve));
  }
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

test.each([1, 2, 3, 4, 5, 6])(
  "seed %d: no release ever lacks a file, whatever ends when",
  async (seed) => {
    const clock = new VirtualClock();
    const random = seededRandom(seed);
    const writers = new Writers(random, clock);
    const wire = createMemoryWire({ clock });
    const problems: string[] = [];
    let collected = 0;
    // Each step of the store takes its time, so that the writers come in between.
    const slow = async () =>
      new Promise<void>((resolve) => void clock.after(random.next() * 10 * 60_000, resolve));
    const begin = () => {
      const collector = new Collector({
        ledger: {
          ...bound(writers.ledger),
          list: async (prefix, options) => {
            await slow();
            return writers.ledger.list(prefix, { ...options, limit: 3 });
          },
        },
        blobs: {
          missing: (digests) => writers.blobs.missing(digests),
          put: (digest, content) => writers.blobs.put(digest, content),
          materialise: (digest, path, options) => writers.blobs.materialise(digest, path, options),
          list: () => writers.blobs.list(),
          read: async (digest) => {
            await slow();
            return writers.blobs.read(digest);
          },
          removeUnused: async (digest, before) => {
            await slow();
            return writers.blobs.removeUnused(digest, before);
          },
        },
        ...{ clock, wire },
        isLeading: () => true,
        onCollected: () => {},
        onProblem: (message) => problems.push(message),
      });
      collector.start();
      return collector;
    };
    let collector = begin();
    for (let turn = 0; turn < 200; turn += 1) {
      void writers.act();
      await clock.run(random.next() * hourMs);
      collector.changed();
      if (random.next() < 0.03) {
        collected += collector.collected.blobs;
        collector.close();
        collector = begin();
      }
      // Throws when a manifest is missing.
      const needed = await neededBy(writers.ledger, writers.blobs);
      const there = new Set(await stored(writers.blobs));
      expect(needed.filter((digest) => !there.has(digest))).toEqual([]);
    }
    await clock.run(24 * hourMs);
    collector.changed();
    await clock.run(48 * hourMs);
    expect(await stored(writers.blobs)).toEqual(await neededBy(writers.ledger, writers.blobs));
    collector.close();
    collected += collector.collected.blobs;
    expect(problems).toEqual([]);
    expect(writers.recorded).toBeGreaterThan(20);
    expect(collected).toBeGreaterThan(20);
  },
);
