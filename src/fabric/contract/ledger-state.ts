import { expect } from "bun:test";
import type { Condition, Transaction, Write } from "../ledger.ts";
import { keysOf, type LedgerCase, must, put, remove, removeAll, write } from "./ledger-case.ts";

/** Rules [L1] to [L9]. */
export const stateCases: readonly LedgerCase[] = [
  {
    name: "[L1] keys sort by bytes; values are kept exactly",
    run: async ({ ledger }) => {
      const keys = ["/a/~", "/a/!", "/A/z", "/a", "/a/10", "/a/9", "~", "!"];
      for (const key of keys) await write(ledger, put(key));
      expect(await keysOf(ledger)).toEqual([...keys].sort());
      for (const value of ["", "\0", "a\0b", "ü€😀", '{"a":"\\u0000"}', "x".repeat(100_000)]) {
        await write(ledger, put("/v", value));
        expect(must(await ledger.get("/v"))?.value).toBe(value);
      }
    },
  },
  {
    name: "[L1] what is not a key, a prefix or text rejects",
    run: async ({ ledger }) => {
      for (const key of ["", "a b", "ü", "\n", "x".repeat(513)]) {
        await expect(ledger.get(key)).rejects.toThrow("[L1]");
        await expect(ledger.transact({ conditions: [], writes: [put(key)] })).rejects.toThrow(
          "[L1]",
        );
        const conditions: Condition[] = [{ kind: "absent", key }];
        await expect(ledger.transact({ conditions, writes: [] })).rejects.toThrow("[L1]");
      }
      await expect(ledger.list("a b")).rejects.toThrow("[L1]");
      await expect(ledger.watch("a b", 0)).rejects.toThrow("[L1]");
      const writes = [put("/a", "\ud800")];
      await expect(ledger.transact({ conditions: [], writes })).rejects.toThrow("Unicode");
      await write(ledger, put("x".repeat(512)));
    },
  },
  {
    name: "[L2] one transaction, one revision; nothing written, none",
    run: async ({ ledger }) => {
      expect(must(await ledger.list("")).revision).toBe(0);
      expect(await write(ledger, put("/a"), put("/b"), put("/c"))).toBe(1);
      expect(await write(ledger)).toBe(1);
      expect(await write(ledger, remove("/none"))).toBe(1);
      expect(await write(ledger, removeAll("/none"))).toBe(1);
      const conditions: Condition[] = [{ kind: "absent", key: "/a" }];
      const refused = await ledger.transact({ conditions, writes: [put("/d")] });
      expect(must(refused).revision).toBe(1);
      expect(await write(ledger, removeAll("/"))).toBe(2);
      expect(must(await ledger.list("")).revision).toBe(2);
    },
  },
  {
    name: "[L3] createRevision and modRevision",
    run: async ({ ledger }) => {
      expect(must(await ledger.get("/a"))).toBeNull();
      await write(ledger, put("/a", "1"));
      await write(ledger, put("/a", "1"));
      const entry = { key: "/a", value: "1", createRevision: 1, modRevision: 2 };
      expect(must(await ledger.get("/a"))).toEqual(entry);
      await write(ledger, remove("/a"));
      expect(must(await ledger.get("/a"))).toBeNull();
      await write(ledger, put("/a", "2"));
      const again = { key: "/a", value: "2", createRevision: 4, modRevision: 4 };
      expect(must(await ledger.get("/a"))).toEqual(again);
    },
  },
  {
    name: "[L4] list: prefix, after, limit, revision",
    run: async ({ ledger }) => {
      await write(ledger, ...["/a/1", "/a/2", "/a/3", "/a", "/ab", "/b/1"].map((key) => put(key)));
      expect(await keysOf(ledger, "/a/")).toEqual(["/a/1", "/a/2", "/a/3"]);
      expect(await keysOf(ledger, "/a")).toEqual(["/a", "/a/1", "/a/2", "/a/3", "/ab"]);
      expect(await keysOf(ledger, "/c")).toEqual([]);
      const page = async (after: string, limit: number) =>
        must(await ledger.list("/a/", { after, limit })).entries.map((entry) => entry.key);
      expect(await page("", 2)).toEqual(["/a/1", "/a/2"]);
      expect(await page("/a/2", 2)).toEqual(["/a/3"]);
      expect(await page("/a/11", 1)).toEqual(["/a/2"]);
      expect(await page("/a/3", 2)).toEqual([]);
      expect(await page("/z", 2)).toEqual([]);
      expect(await page("", 0)).toEqual([]);
      const all = must(await ledger.list("/b/"));
      expect(all).toEqual({
        entries: [{ key: "/b/1", value: "v", createRevision: 1, modRevision: 1 }],
        revision: 1,
      });
    },
  },
  {
    name: "[L5] what was acknowledged is seen at once",
    run: async ({ ledger }) => {
      for (let round = 1; round <= 20; round++) {
        const revision = await write(ledger, put("/a", String(round)));
        expect(must(await ledger.get("/a"))?.modRevision).toBe(revision);
        expect(must(await ledger.list("/")).revision).toBe(revision);
      }
    },
  },
  {
    name: "[L6] concurrent transactions: in order, each sees the one before",
    run: async ({ ledger }) => {
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          ledger.transact({
            conditions: [{ kind: "absent", key: `/slot/${index >> 1}` }],
            writes: [put(`/slot/${index >> 1}`, String(index))],
          }),
        ),
      );
      outcomes.map(must).forEach((outcome, index) => {
        expect(outcome.applied).toBe(index % 2 === 0);
        expect(outcome.revision).toBe((index >> 1) + 1);
      });
    },
  },
  {
    name: "[L6] fifty counters raced by compare-and-swap lose no increment",
    run: async ({ ledger }) => {
      await write(ledger, put("/n", "0"));
      const increment = async (): Promise<void> => {
        for (;;) {
          const entry = must(await ledger.get("/n"));
          if (entry === null) throw new Error("the counter is gone");
          const outcome = await ledger.transact({
            conditions: [{ kind: "unchanged", key: "/n", modRevision: entry.modRevision }],
            writes: [put("/n", String(Number(entry.value) + 1))],
          });
          if (must(outcome).applied) return;
        }
      };
      await Promise.all(Array.from({ length: 50 }, increment));
      expect(must(await ledger.get("/n"))?.value).toBe("50");
    },
  },
  {
    name: "[L7] all conditions or nothing; every failed one is named",
    run: async ({ ledger }) => {
      await write(ledger, put("/a"), put("/b"));
      await write(ledger, put("/b"));
      const outcome = await ledger.transact({
        conditions: [
          { kind: "present", key: "/a" },
          { kind: "absent", key: "/a" },
          { kind: "unchanged", key: "/b", modRevision: 1 },
          { kind: "unchanged", key: "/a", modRevision: 1 },
          { kind: "present", key: "/c" },
          { kind: "unchanged", key: "/c", modRevision: 0 },
        ],
        writes: [put("/c"), remove("/a")],
      });
      expect(must(outcome)).toEqual({ applied: false, revision: 2, failed: [1, 2, 4, 5] });
      expect(await keysOf(ledger)).toEqual(["/a", "/b"]);
    },
  },
  {
    name: "[L8] deletes, and writes that overlap",
    run: async ({ ledger }) => {
      await write(ledger, put("/a/1"), put("/a/2"), put("/b"));
      await write(ledger, removeAll("/a/"), remove("/a/1"), put("/c"));
      expect(await keysOf(ledger)).toEqual(["/b", "/c"]);
      const clashes: Write[][] = [
        [put("/x"), put("/x")],
        [put("/x"), remove("/x")],
        [removeAll("/x"), put("/x/1")],
        [removeAll(""), put("/x")],
      ];
      for (const writes of clashes) {
        await expect(ledger.transact({ conditions: [], writes })).rejects.toThrow("[L8]");
      }
      expect(must(await ledger.list("")).revision).toBe(2);
    },
  },
  {
    name: "[L9] the bounds of a transaction",
    run: async ({ ledger }) => {
      const many = (count: number) => Array.from({ length: count }, (_, index) => put(`/${index}`));
      const codeOf = async (transaction: Transaction) => {
        const result = await ledger.transact(transaction);
        return result.ok ? "ok" : result.error.code;
      };
      expect(await codeOf({ conditions: [], writes: many(128) })).toBe("ok");
      expect(await codeOf({ conditions: [], writes: many(129) })).toBe("tooLarge");
      const conditions = Array.from({ length: 129 }, (_, index): Condition => {
        return { kind: "absent", key: `/none/${index}` };
      });
      expect(await codeOf({ conditions: conditions.slice(1), writes: [] })).toBe("ok");
      expect(await codeOf({ conditions, writes: [] })).toBe("tooLarge");
      const large = put("/large", "é".repeat(512 * 1024 - 3));
      expect(await codeOf({ conditions: [], writes: [large] })).toBe("ok");
      expect(await codeOf({ conditions: [], writes: [large, put("/b")] })).toBe("tooLarge");
      expect(await codeOf({ conditions: [], writes: [removeAll("")] })).toBe("ok");
      expect(must(await ledger.list("")).revision).toBe(3);
    },
  },
];
