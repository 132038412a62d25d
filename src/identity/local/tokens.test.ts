import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Result } from "../../base/result.ts";
import { VirtualClock } from "../../base/virtual.ts";
import type { Ledger } from "../../fabric/ledger.ts";
import { createMemoryLedger } from "../../fabric/memory/ledger.ts";
import { keys } from "../../model/keys.ts";
import { openTokens } from "./tokens.ts";

const directories: string[] = [];

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

function must<Value, Failure>(result: Result<Value, Failure>): Value {
  if (!result.ok) throw new Error(`expected a value, got ${JSON.stringify(result.error)}`);
  return result.value;
}

async function fresh() {
  const clock = new VirtualClock();
  const ledger = createMemoryLedger({ clock });
  return { clock, ledger, tokens: must(await openTokens({ ledger, clock })) };
}

const member = { name: "ci", roles: ["member"], expiresAt: null } as const;

async function textOf(ledger: Ledger): Promise<string> {
  return JSON.stringify(must(await ledger.list("")).entries);
}

test("a created token is its bearer's until it is revoked; only its hash is kept", async () => {
  const { clock, ledger, tokens } = await fresh();
  const { token, view } = must(await tokens.create(member));
  expect(token).toMatch(/^lode_[A-Za-z0-9_-]{43}$/);
  expect(view).toEqual({ id: view.id, ...member, createdAt: clock.now() });
  const principal = { id: `token:${view.id}`, name: "ci", roles: ["member"] } as const;
  expect(await tokens.authenticate(token)).toEqual(principal);
  expect(await textOf(ledger)).not.toContain(token.slice(5));
  expect(must(await tokens.list())).toEqual([view]);
  must(await tokens.revoke(view.id));
  expect(await tokens.authenticate(token)).toBeNull();
  expect(must(await tokens.list())).toEqual([]);
});

test("what is not quite the token is nobody's", async () => {
  const { ledger, tokens } = await fresh();
  const { token } = must(await tokens.create(member));
  const other = token.endsWith("A") ? "B" : "A";
  const wrong = ["", "lode_", token.slice(0, -1), `${token}A`, `${token}\n`, ` ${token}`];
  for (const text of [...wrong, `${token.slice(0, -1)}${other}`, token.toUpperCase(), "../x"]) {
    expect(await tokens.authenticate(text)).toBeNull();
  }
  const [entry] = must(await ledger.list(keys.tokens)).entries;
  const record = JSON.parse(entry?.value ?? "") as { hash: string };
  const forged = {
    ...record,
    hash: record.hash.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
  };
  const writes = [{ kind: "put", key: entry?.key ?? "", value: JSON.stringify(forged) }] as const;
  must(await ledger.transact({ conditions: [], writes }));
  await Bun.sleep(0);
  expect(await tokens.authenticate(token)).toBeNull();
});

test("a token expires at its time", async () => {
  const { clock, tokens } = await fresh();
  const expiresAt = clock.now() + 1000;
  const { token } = must(await tokens.create({ ...member, expiresAt }));
  clock.advance(999);
  expect(await tokens.authenticate(token)).not.toBeNull();
  clock.advance(1);
  expect(await tokens.authenticate(token)).toBeNull();
});

test("bad names, roles and ids are refused", async () => {
  const { tokens } = await fresh();
  for (const name of ["", "  ", "x".repeat(129), "a\nb"]) {
    const result = await tokens.create({ ...member, name });
    expect(result.ok ? "made" : result.error.code).toBe("invalid");
  }
  const roleless = await tokens.create({ ...member, roles: [] });
  expect(roleless.ok ? "made" : roleless.error.code).toBe("invalid");
  for (const id of ["", "0123456789abcdef", "../../apps", "no such token"]) {
    const result = await tokens.revoke(id);
    expect(result.ok ? "revoked" : result.error.code).toBe("notFound");
  }
});

test("replicas follow each other through the ledger", async () => {
  const { clock, ledger, tokens } = await fresh();
  const replica = must(await openTokens({ ledger, clock }));
  const { token, view } = must(await tokens.create(member));
  await clock.run(0);
  expect(await replica.authenticate(token)).not.toBeNull();
  must(await replica.revoke(view.id));
  await clock.run(0);
  expect(await tokens.authenticate(token)).toBeNull();
});

test("a lost watch: the ledger is asked each time, until the cache is back", async () => {
  const clock = new VirtualClock();
  const inner = createMemoryLedger({ clock, historyRevisions: 4 });
  let asked = 0;
  const ledger: Ledger = {
    get: (key) => {
      asked++;
      return inner.get(key);
    },
    list: (prefix, options) => inner.list(prefix, options),
    transact: (transaction) => inner.transact(transaction),
    watch: (prefix, after) => inner.watch(prefix, after),
    grantLease: (ttlMs) => inner.grantLease(ttlMs),
    close: () => inner.close(),
  };
  const tokens = must(await openTokens({ ledger, clock }));
  // In one go, so that the watch's reader falls behind the four revisions kept.
  const made = [tokens.create(member), tokens.create(member)];
  const filler = { kind: "put", key: "/filler", value: "" } as const;
  for (let round = 0; round < 100; round++) {
    void inner.transact({ conditions: [], writes: [filler] });
  }
  const [first, second] = (await Promise.all(made)).map(must);
  if (first === undefined || second === undefined) throw new Error("two tokens were made");
  const write = { kind: "delete", key: keys.token(first.view.id) } as const;
  must(await inner.transact({ conditions: [], writes: [write] }));
  expect(await tokens.authenticate(first.token)).toBeNull();
  expect(await tokens.authenticate(second.token)).not.toBeNull();
  expect(asked).toBe(2);
  await clock.run(1000);
  expect(await tokens.authenticate(first.token)).toBeNull();
  expect(await tokens.authenticate(second.token)).not.toBeNull();
  expect(asked).toBe(2);
});

test("a closed ledger is an error, not a crash", async () => {
  const { clock, ledger, tokens } = await fresh();
  const { token, view } = must(await tokens.create(member));
  await ledger.close();
  await clock.run(5000);
  expect(await tokens.authenticate(token)).toBeNull();
  for (const result of [
    await tokens.create(member),
    await tokens.list(),
    await tokens.revoke(view.id),
  ]) {
    expect(result.ok ? "done" : result.error.code).toBe("unavailable");
  }
  const again = await openTokens({ ledger, clock });
  expect(again.ok ? "made" : again.error).toContain("closed");
});

test("the admin token: made once, kept while valid, made anew when it is not", async () => {
  const { tokens } = await fresh();
  const directory = mkdtempSync(join(tmpdir(), "lode-identity-"));
  directories.push(directory);
  const tokenFile = join(directory, "admin.token");
  const ensure = async () => must(await tokens.ensureAdminToken(tokenFile));
  const read = () => readFileSync(tokenFile, "utf8").trim();
  expect(await ensure()).toEqual({ created: true });
  const first = read();
  expect(statSync(tokenFile).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory)).toEqual(["admin.token"]);
  expect((await tokens.authenticate(first))?.roles).toEqual(["admin"]);
  chmodSync(tokenFile, 0o644);
  expect(await ensure()).toEqual({ created: false });
  expect(read()).toBe(first);
  expect(statSync(tokenFile).mode & 0o777).toBe(0o600);

  const [view] = must(await tokens.list());
  must(await tokens.revoke(view?.id ?? ""));
  expect(await ensure()).toEqual({ created: true });
  const second = read();
  expect(second).not.toBe(first);

  rmSync(tokenFile);
  expect(await ensure()).toEqual({ created: true });
  const byMember = must(await tokens.create(member)).token;
  for (const text of ["", "damaged", byMember, first]) {
    writeFileSync(tokenFile, text);
    expect(await ensure()).toEqual({ created: true });
    expect((await tokens.authenticate(read()))?.roles).toEqual(["admin"]);
  }
  const missing = join(directory, "none", "admin.token");
  const result = await tokens.ensureAdminToken(missing);
  expect(result.ok ? "made" : result.error).toContain(missing);
});
