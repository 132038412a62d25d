import { expect } from "bun:test";
import type { Condition } from "../ledger.ts";
import {
  ends,
  keysOf,
  type LedgerCase,
  must,
  put,
  remove,
  removeAll,
  take,
  write,
} from "./ledger-case.ts";

/** Rules [L11] to [L18]. */
export const timeCases: readonly LedgerCase[] = [
  {
    name: "[L11] past and coming changes, batched by revision, in key order",
    run: async ({ ledger }) => {
      await write(ledger, put("/a/2", "old"), put("/a/1", "old"), put("/b"));
      await write(ledger, put("/b"));
      const watch = must(await ledger.watch("/a/", 0));
      const taken = take(watch, 3);
      await write(ledger, put("/b"));
      await write(ledger, put("/a/1", "new"), remove("/a/2"), put("/a/0", "new"));
      await write(ledger, removeAll("/a/"));
      const entry = (key: string, value: string, createRevision: number, modRevision: number) =>
        ({ kind: "put", entry: { key, value, createRevision, modRevision } }) as const;
      const gone = (key: string, modRevision: number) =>
        ({ kind: "delete", key, modRevision }) as const;
      expect(await taken).toEqual([
        { revision: 1, changes: [entry("/a/1", "old", 1, 1), entry("/a/2", "old", 1, 1)] },
        {
          revision: 4,
          changes: [entry("/a/0", "new", 4, 4), entry("/a/1", "new", 1, 4), gone("/a/2", 4)],
        },
        { revision: 5, changes: [gone("/a/0", 5), gone("/a/1", 5)] },
      ]);
    },
  },
  {
    name: "[L11] after the newest revision, or one yet to come",
    run: async ({ ledger }) => {
      await write(ledger, put("/a"));
      const now = must(await ledger.watch("", 1));
      const later = must(await ledger.watch("", 3));
      for (let round = 0; round < 3; round++) await write(ledger, put("/a", String(round)));
      expect((await take(now, 3)).map(({ revision }) => revision)).toEqual([2, 3, 4]);
      expect((await take(later, 1)).map(({ revision }) => revision)).toEqual([4]);
    },
  },
  {
    name: "[L11] list then watch misses nothing while others write",
    run: async ({ ledger }) => {
      const writer = (async () => {
        for (let round = 0; round < 200; round++) {
          const key = `/a/${round % 7}`;
          await write(ledger, round % 3 === 0 ? remove(key) : put(key, String(round)), put("/end"));
        }
      })();
      await write(ledger, put("/other"));
      const listed = must(await ledger.list("/a/"));
      const state = new Map(listed.entries.map((entry) => [entry.key, entry.value]));
      const watch = must(await ledger.watch("/", listed.revision));
      await writer;
      const { revision } = must(await ledger.list(""));
      for await (const batch of watch) {
        for (const change of batch.changes) {
          if (change.kind === "delete") state.delete(change.key);
          else if (change.entry.key.startsWith("/a/"))
            state.set(change.entry.key, change.entry.value);
        }
        if (batch.revision === revision) break;
      }
      const final = must(await ledger.list("/a/")).entries;
      expect([...state].sort()).toEqual(final.map((entry) => [entry.key, entry.value]));
    },
  },
  {
    name: "[L11] a thousand revisions behind, none is lost or repeated",
    run: async ({ ledger }) => {
      const watch = must(await ledger.watch("/a", 0));
      const rare = must(await ledger.watch("/rare", 0));
      for (let round = 0; round < 10; round++) {
        await Promise.all(Array.from({ length: 100 }, () => write(ledger, put("/a"))));
      }
      await write(ledger, put("/rare"));
      const revisions = (await take(watch, 1000)).map(({ revision }) => revision);
      expect(revisions).toEqual(Array.from({ length: 1000 }, (_, index) => index + 1));
      expect((await take(rare, 1)).map(({ revision }) => revision)).toEqual([1001]);
    },
  },
  {
    name: "[L12] a watch from before what is kept is refused",
    run: async ({ ledger, forget }) => {
      await write(ledger, put("/a"));
      await forget();
      const result = await ledger.watch("", 0);
      expect(result.ok ? "a watch" : result.error.code).toBe("compacted");
      const { revision } = must(await ledger.list(""));
      const watch = must(await ledger.watch("", revision));
      await write(ledger, put("/a"));
      expect((await take(watch, 1))[0]?.revision).toBe(revision + 1);
    },
  },
  {
    name: "[L13] cancelling, closing and falling behind end the iteration",
    run: async ({ ledger, forget }) => {
      const cancelled = must(await ledger.watch("", 0));
      const closed = must(await ledger.watch("/none", 0));
      const broken = must(await ledger.watch("", 0));
      const behind = must(await ledger.watch("", 0));
      const waiting = ends(cancelled);
      cancelled.cancel();
      expect(await waiting).toBe(true);
      expect(await ends(cancelled)).toBe(true);
      const waitingForClose = ends(closed);
      await write(ledger, put("/a"));
      for await (const batch of broken) {
        expect(batch.revision).toBe(1);
        break;
      }
      expect(await ends(broken)).toBe(true);
      await forget();
      expect(await ends(behind)).toBe(true);
      await ledger.close();
      expect(await waitingForClose).toBe(true);
    },
  },
  {
    name: "[L14] a lease that is not kept alive takes its keys with it, as one revision",
    run: async ({ ledger, elapse }) => {
      const lease = must(await ledger.grantLease(2000));
      const other = must(await ledger.grantLease(60_000));
      const empty = must(await ledger.grantLease(2000));
      expect(lease.ttlMs).toBe(2000);
      await write(ledger, put("/l/b", "v", lease.id), put("/l/a", "v", lease.id), put("/keep"));
      await write(ledger, put("/other", "v", other.id));
      const watch = must(await ledger.watch("", 2));
      await elapse(1500);
      expect(await lease.keepAlive()).toBe(true);
      await elapse(1500);
      expect(await keysOf(ledger, "/l/")).toEqual(["/l/a", "/l/b"]);
      await elapse(1000);
      expect(await take(watch, 1)).toEqual([
        {
          revision: 3,
          changes: [
            { kind: "delete", key: "/l/a", modRevision: 3 },
            { kind: "delete", key: "/l/b", modRevision: 3 },
          ],
        },
      ]);
      expect(await keysOf(ledger)).toEqual(["/keep", "/other"]);
      expect(await empty.keepAlive()).toBe(false);
      expect(must(await ledger.list("")).revision).toBe(3);
    },
  },
  {
    name: "[L14] revoking ends a lease at once",
    run: async ({ ledger }) => {
      const lease = must(await ledger.grantLease(60_000));
      await write(ledger, put("/a", "v", lease.id), put("/b", "v", lease.id));
      await lease.revoke();
      expect(must(await ledger.list(""))).toEqual({ entries: [], revision: 2 });
      await lease.revoke();
      expect(must(await ledger.list("")).revision).toBe(2);
    },
  },
  {
    name: "[L15] only the last put of a key binds it",
    run: async ({ ledger }) => {
      const first = must(await ledger.grantLease(60_000));
      const second = must(await ledger.grantLease(60_000));
      const keys = ["/freed", "/moved", "/reborn", "/bound"];
      await write(ledger, ...keys.map((key) => put(key, "v", first.id)));
      await write(ledger, put("/freed"), put("/moved", "v", second.id), remove("/reborn"));
      await write(ledger, put("/reborn"));
      await first.revoke();
      expect(await keysOf(ledger)).toEqual(["/freed", "/moved", "/reborn"]);
      await second.revoke();
      expect(await keysOf(ledger)).toEqual(["/freed", "/reborn"]);
    },
  },
  {
    name: "[L16] nothing revives a lease that ended, nothing is put with it",
    run: async ({ ledger, elapse }) => {
      const lease = must(await ledger.grantLease(2000));
      await write(ledger, put("/leader", "me", lease.id));
      await elapse(3000);
      expect(await lease.keepAlive()).toBe(false);
      const writes = [put("/a"), put("/b", "v", lease.id)];
      const result = await ledger.transact({ conditions: [], writes });
      expect(result.ok ? "applied" : result.error.code).toBe("leaseGone");
      const conditions: Condition[] = [{ kind: "present", key: "/leader" }];
      const fenced = must(await ledger.transact({ conditions, writes }));
      expect(fenced).toEqual({ applied: false, revision: 2, failed: [0] });
      expect(await keysOf(ledger)).toEqual([]);
      const next = must(await ledger.grantLease(2000));
      expect(next.id).not.toBe(lease.id);
      expect(await next.keepAlive()).toBe(true);
    },
  },
  {
    name: "[L18] close waits for what was begun, then every call answers closed",
    run: async ({ ledger }) => {
      const lease = must(await ledger.grantLease(60_000));
      const begun = ledger.transact({ conditions: [], writes: [put("/a", "v", lease.id)] });
      await ledger.close();
      expect(must(await begun).applied).toBe(true);
      const results = await Promise.all([
        ledger.get("/a"),
        ledger.list(""),
        ledger.transact({ conditions: [], writes: [put("/a")] }),
        ledger.watch("", 0),
        ledger.grantLease(1000),
      ]);
      for (const result of results) expect(result.ok ? "open" : result.error.code).toBe("closed");
      expect(await lease.keepAlive()).toBe(false);
      await lease.revoke();
      await ledger.close();
    },
  },
];
