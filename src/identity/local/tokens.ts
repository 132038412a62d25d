import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timestamp } from "../../base/time.ts";
import type { Change, Ledger, LedgerError, Revision, Watch } from "../../fabric/ledger.ts";
import { keys } from "../../model/keys.ts";
import type { Authenticator, IdentityError, Principal, Role, TokenRecord } from "../identity.ts";
import { readSecret, writeSecret } from "./secret-file.ts";

export interface LocalTokensOptions {
  readonly ledger: Ledger;
  readonly clock: Clock;
}

export interface TokenRequest {
  /** For people to read: 1 to 128 characters. */
  readonly name: string;
  /** At least one. */
  readonly roles: readonly Role[];
  /** Null: never. */
  readonly expiresAt: Timestamp | null;
}

/** A token as it may be shown: without its hash. */
export type TokenView = Omit<TokenRecord, "hash">;

export interface LocalTokens extends Authenticator {
  /** The only time that the token is seen. */
  create(
    request: TokenRequest,
  ): Promise<Result<{ readonly token: string; readonly view: TokenView }, IdentityError>>;
  /** In the order of their ids, expired ones too. */
  list(): Promise<Result<readonly TokenView[], IdentityError>>;
  /** Once it answers, this replica takes the token no more; the others within their watch. */
  revoke(id: string): Promise<Result<void, IdentityError>>;
  /**
   * Sees to it that the file, mode 0600, holds an admin's token: the way in for the first user,
   * and for root when all tokens are lost (remove the file and start again).
   */
  ensureAdminToken(tokenFile: string): Promise<Result<{ readonly created: boolean }, string>>;
}

const tokenPattern = /^lode_[A-Za-z0-9_-]{43}$/;
const idPattern = /^[0-9a-f]{16}$/;
const nameLengthMax = 128;
const adminRequest: TokenRequest = { name: "first admin", roles: ["admin"], expiresAt: null };
/** How long a lost watch waits before the next attempt. */
const retryMs = 1000;

/** Opens the tokens kept, as hashes, in the ledger; they are followed until it closes. */
export async function openTokens(
  options: LocalTokensOptions,
): Promise<Result<LocalTokens, string>> {
  const tokens = new LedgerTokens(options);
  const problem = await tokens.load();
  return problem === null ? ok(tokens) : err(`reading the tokens: ${problem.message}`);
}

/**
 *   loading → following (the cache answers) ⇄ lost (the ledger is asked each time)
 */
class LedgerTokens implements LocalTokens {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  /** By ledger key; null while nothing keeps it fresh. */
  #cache: Map<string, TokenRecord> | null = null;
  /** The newest revision in the cache, and who waits for one to come. */
  #revision: Revision = 0;
  #waiting: { readonly revision: Revision; readonly resolve: () => void }[] = [];

  constructor({ ledger, clock }: LocalTokensOptions) {
    this.#ledger = ledger;
    this.#clock = clock;
  }

  async load(): Promise<LedgerError | null> {
    const listed = await this.#ledger.list(keys.tokens);
    if (!listed.ok) return listed.error;
    const { entries, revision } = listed.value;
    const watched = await this.#ledger.watch(keys.tokens, revision);
    if (!watched.ok) return watched.error;
    this.#cache = new Map(entries.map((entry) => [entry.key, parse(entry.value)]));
    this.#reached(revision);
    void this.#follow(watched.value, this.#cache);
    return null;
  }

  async authenticate(bearerToken: string): Promise<Principal | null> {
    if (!tokenPattern.test(bearerToken)) return null;
    const hash = hashOf(bearerToken);
    const record = await this.#find(keys.token(idOf(hash)));
    if (record === null) return null;
    const isSame = timingSafeEqual(Buffer.from(record.hash), Buffer.from(hash));
    const isLive = record.expiresAt === null || this.#clock.now() < record.expiresAt;
    if (!isSame || !isLive) return null;
    return { id: `token:${record.id}`, name: record.name, roles: record.roles };
  }

  async create(
    request: TokenRequest,
  ): Promise<Result<{ readonly token: string; readonly view: TokenView }, IdentityError>> {
    const { name, roles } = request;
    if (name.trim() === "" || name.length > nameLengthMax || /\p{Cc}/u.test(name)) {
      const message = `a token's name has 1 to ${nameLengthMax} characters, none of control`;
      return err({ code: "invalid", message });
    }
    if (roles.length === 0) return err({ code: "invalid", message: "a token without a role" });
    const token = newToken();
    const recorded = await this.#record(token, request);
    return recorded.ok ? ok({ token, view: recorded.value }) : recorded;
  }

  async ensureAdminToken(
    tokenFile: string,
  ): Promise<Result<{ readonly created: boolean }, string>> {
    try {
      const present = await readSecret(tokenFile);
      const principal = present === null ? null : await this.authenticate(present);
      if (principal?.roles.includes("admin")) return ok({ created: false });
      // The file first: if the ledger does not come to know it, the next start makes another.
      const token = newToken();
      await writeSecret(tokenFile, token);
      const recorded = await this.#record(token, adminRequest);
      return recorded.ok ? ok({ created: true }) : err(recorded.error.message);
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      return err(`keeping the admin token in ${tokenFile}: ${cause}`);
    }
  }

  async list(): Promise<Result<readonly TokenView[], IdentityError>> {
    const listed = await this.#ledger.list(keys.tokens);
    if (!listed.ok) return err(unavailable("listing the tokens", listed.error));
    return ok(listed.value.entries.map((entry) => viewOf(parse(entry.value))));
  }

  async revoke(id: string): Promise<Result<void, IdentityError>> {
    const unknown = err({ code: "notFound", message: `there is no token ${id}` } as const);
    if (!idPattern.test(id)) return unknown;
    const key = keys.token(id);
    const outcome = await this.#ledger.transact({
      conditions: [{ kind: "present", key }],
      writes: [{ kind: "delete", key }],
    });
    if (!outcome.ok) return err(unavailable(`revoking token ${id}`, outcome.error));
    if (!outcome.value.applied) return unknown;
    await this.#caughtUp(outcome.value.revision);
    return ok(undefined);
  }

  async #record(token: string, request: TokenRequest): Promise<Result<TokenView, IdentityError>> {
    const { name, roles, expiresAt } = request;
    const hash = hashOf(token);
    const id = idOf(hash);
    const record: TokenRecord = {
      ...{ id, name, roles, hash, createdAt: this.#clock.now(), expiresAt },
    };
    const outcome = await this.#ledger.transact({
      conditions: [{ kind: "absent", key: keys.token(id) }],
      writes: [{ kind: "put", key: keys.token(id), value: JSON.stringify(record) }],
    });
    if (!outcome.ok) return err(unavailable("recording a token", outcome.error));
    assert(outcome.value.applied, "two random tokens with one id");
    await this.#caughtUp(outcome.value.revision);
    return ok(viewOf(record));
  }

  async #find(key: string): Promise<TokenRecord | null> {
    if (this.#cache !== null) return this.#cache.get(key) ?? null;
    const entry = await this.#ledger.get(key);
    return entry.ok && entry.value !== null ? parse(entry.value.value) : null;
  }

  async #follow(watch: Watch, cache: Map<string, TokenRecord>): Promise<void> {
    for await (const { revision, changes } of watch) {
      for (const change of changes) applyChange(cache, change);
      this.#reached(revision);
    }
    this.#lose();
    this.#clock.after(retryMs, () => void this.#reload());
  }

  async #reload(): Promise<void> {
    const problem = await this.load();
    if (problem === null || problem.code === "closed") return;
    this.#clock.after(retryMs, () => void this.#reload());
  }

  /** Without a cache nobody has to wait for it. */
  #lose(): void {
    this.#cache = null;
    for (const { resolve } of this.#waiting.splice(0)) resolve();
  }

  #reached(revision: Revision): void {
    this.#revision = revision;
    this.#waiting = this.#waiting.filter((waiter) => {
      if (waiter.revision > revision) return true;
      waiter.resolve();
      return false;
    });
  }

  async #caughtUp(revision: Revision): Promise<void> {
    if (this.#cache === null || this.#revision >= revision) return;
    await new Promise<void>((resolve) => this.#waiting.push({ revision, resolve }));
  }
}

function applyChange(cache: Map<string, TokenRecord>, change: Change): void {
  if (change.kind === "delete") cache.delete(change.key);
  else cache.set(change.entry.key, parse(change.entry.value));
}

function newToken(): string {
  return `lode_${randomBytes(32).toString("base64url")}`;
}

function unavailable(doing: string, cause: LedgerError): IdentityError {
  return { code: "unavailable", message: `${doing}: ${cause.message}` };
}

function parse(value: string): TokenRecord {
  return JSON.parse(value) as TokenRecord;
}

function viewOf({ id, name, roles, createdAt, expiresAt }: TokenRecord): TokenView {
  return { id, name, roles, createdAt, expiresAt };
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

function idOf(hash: string): string {
  return hash.slice(0, 16);
}
