import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom, VirtualClock } from "../../base/virtual.ts";
import { ends, keysOf, must, put, take, write } from "../contract/ledger-case.ts";
import { onSmallDisk } from "../contract/small-disk.ts";
import { ledgerContract } from "../ledger.contract.ts";
import type { Ledger } from "../ledger.ts";
import { createSqliteLedger, type SqliteLedgerOptions } from "./ledger.ts";

const clock = new VirtualClock();
const directories: string[] = [];
const opened: Ledger[] = [];

function freshPath(): string {
  const directory = mkdtempSync(join(tmpdir(), "lode-ledger-"));
  directories.push(directory);
  return join(directory, "ledger.sqlite");
}

async function open(path: string, options: Partial<SqliteLedgerOptions> = {}): Promise<Ledger> {
  const ledger = must(await createSqliteLedger({ path, clock, ...options }));
  opened.push(ledger);
  return ledger;
}

async function refusalOf(path: string): Promise<{ code: string; message: string }> {
  const result = await createSqliteLedger({ path, clock });
  if (!result.ok) return result.error;
  await result.value.close();
  throw new Error("the ledger opened");
}

afterEach(async () => {
  for (const ledger of opened.splice(0)) await ledger.close();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

ledgerContract("sqlite", async () => {
  const time = new VirtualClock();
  const ledger = await open(freshPath(), { clock: time, historyRevisions: 2000 });
  return {
    ledger,
    elapse: (durationMs) => time.run(durationMs),
    forget: async () => {
      await Promise.all(Array.from({ length: 5000 }, () => write(ledger, put("/filler"))));
    },
    dispose: () => ledger.close(),
  };
});

/** The number of commits in SQLite's write-ahead log. Source: sqlite.org/fileformat2.html 4.1. */
function commitsInLog(path: string): number {
  const log = readFileSync(`${path}-wal`);
  const pageBytes = log.readUInt32BE(8);
  let commits = 0;
  for (let at = 32; at + 24 + pageBytes <= log.length; at += 24 + pageBytes) {
    if (log.readUInt32BE(at + 4) > 0) commits++;
  }
  return commits;
}

describe("sqlite ledger", () => {
  test("[L10] transactions of one turn share one commit", async () => {
    const path = freshPath();
    const ledger = await open(path);
    const before = commitsInLog(path);
    const revisions = await Promise.all(
      Array.from({ length: 100 }, (_, index) => write(ledger, put(`/${index}`))),
    );
    expect(revisions).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
    expect(commitsInLog(path) - before).toBe(1);
    await write(ledger, put("/next"));
    expect(commitsInLog(path) - before).toBe(2);
    await write(ledger);
    expect(commitsInLog(path) - before).toBe(2);
  });

  test("[L10][L11] reopened: entries, revision and history are there", async () => {
    const path = freshPath();
    const first = await open(path);
    await write(first, put("/a", "1"), put("/b", "1"));
    await write(first, put("/a", "2"));
    const listed = must(await first.list(""));
    const history = await take(must(await first.watch("", 0)), 2);
    await first.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const second = await open(path);
    expect(must(await second.list(""))).toEqual(listed);
    expect(await take(must(await second.watch("", 0)), 2)).toEqual(history);
    expect(await write(second, put("/c"))).toBe(3);
  });

  test("[L12] history is bounded by bytes too, also after reopening", async () => {
    const path = freshPath();
    const ledger = await open(path, { historyBytes: 100_000 });
    for (let round = 0; round < 50; round++) await write(ledger, put("/a", "x".repeat(10_000)));
    const refused = await ledger.watch("", 38);
    expect(refused.ok ? "a watch" : refused.error.code).toBe("compacted");
    await take(must(await ledger.watch("", 41)), 9);
    await ledger.close();
    const again = await open(path, { historyBytes: 20_000 });
    await write(again, put("/a", "y"));
    const refusedAgain = await again.watch("", 48);
    expect(refusedAgain.ok ? "a watch" : refusedAgain.error.code).toBe("compacted");
    expect((await take(must(await again.watch("", 49)), 2)).length).toBe(2);
  });

  test("[L17] leases of a process that is gone end when the file is opened", async () => {
    const path = freshPath();
    const first = await open(path);
    for (const name of ["one", "two"]) {
      const lease = must(await first.grantLease(60_000));
      await write(first, put(`/${name}/a`, "v", lease.id), put(`/${name}/b`, "v", lease.id));
    }
    await write(first, put("/keep"));
    await first.close();
    const second = await open(path);
    expect(await keysOf(second)).toEqual(["/keep"]);
    expect(must(await second.list("")).revision).toBe(5);
    expect(
      (await take(must(await second.watch("", 3)), 2)).map((batch) => batch.changes.length),
    ).toEqual([2, 2]);
  });

  test("[L19] damaged, cut, foreign and newer files are refused by name", async () => {
    const path = freshPath();
    const ledger = await open(path);
    for (let index = 0; index < 200; index++)
      await write(ledger, put(`/${index}`, "x".repeat(500)));
    await ledger.close();
    const whole = readFileSync(path);

    const damaged = Buffer.from(whole);
    damaged.fill(0xaa, 4096, 3 * 4096);
    writeFileSync(path, damaged);
    expect(await refusalOf(path)).toMatchObject({ code: "corrupt" });
    expect((await refusalOf(path)).message).toContain(path);

    writeFileSync(path, whole);
    truncateSync(path, whole.length / 2);
    expect((await refusalOf(path)).code).toBe("corrupt");

    writeFileSync(path, "this is no database at all, but some text that was put here".repeat(99));
    expect((await refusalOf(path)).code).toBe("corrupt");

    rmSync(path);
    const foreign = new Database(path);
    foreign.run("CREATE TABLE songs (name TEXT)");
    foreign.close();
    expect((await refusalOf(path)).message).toContain("not a ledger of Lode's");

    writeFileSync(path, whole);
    const newer = new Database(path);
    newer.run("PRAGMA user_version = 2");
    newer.close();
    const refusal = await refusalOf(path);
    expect(refusal.code).toBe("unavailable");
    expect(refusal.message).toContain("start that one");

    expect((await refusalOf("/nonexistent/ledger.sqlite")).message).toContain("no such file");
  });

  test("[L13][L19] damaged while open: every call says so, and watches end", async () => {
    const path = freshPath();
    const first = await open(path);
    for (let round = 0; round < 60; round++) {
      await write(first, put(`/${round}`, "x".repeat(100_000)));
    }
    await first.close();
    const ledger = await open(path);
    const watch = must(await ledger.watch("", 0));
    const whole = readFileSync(path);
    writeFileSync(path, whole.fill(0xaa, 8 * 4096), { flag: "r+" });
    const results = [
      await ledger.list(""),
      await ledger.get("/1"),
      await ledger.grantLease(1000),
      await ledger.transact({ conditions: [], writes: [put("/a")] }),
    ];
    for (const result of results) expect(result.ok ? "fine" : result.error.code).toBe("corrupt");
    expect(await ends(watch)).toBe(true);
  });

  test("[L19] a file that another process holds is refused, and free once that one died", async () => {
    const path = freshPath();
    const holder = startWriter(path, 0);
    await holder.line();
    const refusal = await refusalOf(path);
    expect(refusal.code).toBe("unavailable");
    expect(refusal.message).toContain("in use by another process");
    await holder.kill();
    await open(path);
  });

  test("[L19] held twice in one process: refused too", async () => {
    const path = freshPath();
    const ledger = await open(path);
    expect((await refusalOf(path)).message).toContain("in use");
    await ledger.close();
    await open(path);
  });

  onSmallDisk("[L19] a full disk loses nothing acknowledged, and room mends it", async (disk) => {
    const filler = join(disk, "filler");
    const ledger = await open(join(disk, "ledger.sqlite"));
    const lease = must(await ledger.grantLease(10_000));
    await write(ledger, put("/leased", "v", lease.id));
    writeFileSync(filler, Buffer.alloc(256 * 1024));
    const acknowledged: string[] = [];
    let refusal: { code: string; message: string } | null = null;
    for (let index = 0; refusal === null; index++) {
      const key = `/a/${String(index).padStart(5, "0")}`;
      const writes = [put(key, "x".repeat(20_000))];
      const result = await ledger.transact({ conditions: [], writes });
      if (result.ok) acknowledged.push(key);
      else refusal = result.error;
    }
    expect(refusal.code).toBe("full");
    expect(refusal.message).toContain(disk);
    expect(acknowledged.length).toBeGreaterThan(10);
    expect(await keysOf(ledger, "/a/")).toEqual(acknowledged);
    clock.advance(10_000);
    rmSync(filler);
    clock.advance(1000);
    const revision = await write(ledger, put("/b"));
    expect(await keysOf(ledger)).toEqual([...acknowledged, "/b"]);
    expect(revision).toBe(acknowledged.length + 3);
    await ledger.close();
    expect(await keysOf(await open(join(disk, "ledger.sqlite")))).toEqual([...acknowledged, "/b"]);
  });

  test("[L10] killed at any moment: nothing acknowledged is lost, nothing is half there", async () => {
    const path = freshPath();
    const random = seededRandom(20);
    const acknowledged = new Set<number>();
    for (let round = 0; round < 8; round++) {
      const writer = startWriter(path, round * 1_000_000);
      await writer.line();
      await writer.line();
      await Bun.sleep(random.next() * 60);
      for (const number of await writer.kill()) acknowledged.add(number);
      const ledger = await open(path);
      const left = (await keysOf(ledger, "/left/")).map((key) => Number(key.slice(6)));
      const right = (await keysOf(ledger, "/right/")).map((key) => Number(key.slice(7)));
      expect(left).toEqual(right);
      const stored = new Set(left);
      expect([...acknowledged].filter((number) => !stored.has(number))).toEqual([]);
      const { revision } = must(await ledger.list(""));
      expect(revision).toBe(stored.size);
      await ledger.close();
    }
    expect(acknowledged.size).toBeGreaterThan(80);
  });
});

/** Starts `ledger.crash.ts`; `kill` gives the numbers it had acknowledged until then. */
function startWriter(path: string, first: number) {
  const script = join(import.meta.dir, "ledger.crash.ts");
  const child = Bun.spawn([process.execPath, script, path, String(first)], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  let text = "";
  const readMore = async (): Promise<boolean> => {
    const { done, value } = await reader.read();
    if (!done) text += Buffer.from(value).toString();
    return !done;
  };
  let linesSeen = 0;
  return {
    line: async () => {
      linesSeen++;
      while (text.split("\n").length <= linesSeen) {
        if (!(await readMore())) throw new Error("the writer ended");
      }
    },
    kill: async () => {
      child.kill("SIGKILL");
      while (await readMore());
      await child.exited;
      return text.split("\n").slice(1, -1).map(Number);
    },
  };
}
