import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timer, Timestamp } from "../../base/time.ts";
import type { Change, Ledger, LedgerError, Revision, Watch } from "../../fabric/ledger.ts";
import { keys } from "../../model/keys.ts";
import type { Authenticator, IdentityError, Principal, Role, TokenRecord } from "../identity.ts";

export interface LocalTokensOptions {
  readonly ledger: Ledger;
  readonly clock: Clock;
}

export interface TokenRequest {
  /** For people to read: 1 to 100 characters. */
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
  close(): void;
}

const tokenPattern = /^lode_[A-Za-z0-9_-]{43}$/;
const idPattern = /^[0-9a-f]{16}$/;
/** How long a lost watch waits before the next attempt. */
const retryMs = 1000;

/** Tokens kept, as hashes, in the ledger. */
export async function createLocalTokens(
  options: LocalTokensOptions,
): Promise<Result<LocalTokens, IdentityError>> {
  const tokens = new LedgerTokens(options);
  const problem = await tokens.load();
  return problem === null ? ok(tokens) : err(unavailable("reading the tokens", problem));
}

/** A new token and what the ledger keeps of it. */
export function newToken(
  request: TokenRequest,
  now: Timestamp,
): { readonly token: string; readonly record: TokenRecord } {
  const token = `lode_${randomBytes(32).toString("base64url")}`;
  const hash = hashOf(token);
  const { name, roles, expiresAt } = request;
  return { token, record: { id: idOf(hash), name, roles, hash, createdAt: now, expiresAt } };
}

/** Whom a record lets in, if the token is its own and has not expired. */
export function principalOf(record: TokenRecord, token: string, now: Timestamp): Principal | null {
  const isSame = timingSafeEqual(Buffer.from(record.hash), Buffer.from(hashOf(token)));
  const isLive = record.expiresAt === null || now < record.expiresAt;
  if (!isSame || !isLive) return null;
  return { id: `token:${record.id}`, name: record.name, roles: record.roles };
}

/** The ledger key a token's record is under; null if the text cannot be a token. */
export function tokenKey(token: string): string | null {
  return tokenPattern.test(token) ? keys.token(idOf(hashOf(token))) : null;
}

export function unavailable(doing: string, cause: LedgerError): IdentityError {
  return { code: "unavailable", message: `${doing}: ${cause.message}` };
}

/**
 *   loading → following (the cache answers) ⇄ lost (the ledger is asked each time) → closed
 */
class LedgerTokens implements LocalTokens {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  /** By ledger key; null while nothing keeps it fresh. */
  #cache: Map<string, TokenRecord> | null = null;
  #watch: Watch | null = null;
  #retry: Timer | null = null;
  /** The newest revision in the cache, and who waits for one to come. */
  #revision: Revision = 0;
  #waiting: { readonly revision: Revision; readonly resolve: () => void }[] = [];
  #closed = false;

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
    if (this.#closed) watched.value.cancel();
    this.#watch = watched.value;
    this.#cache = new Map(entries.map((entry) => [entry.key, parse(entry.value)]));
    this.#reached(revision);
    void this.#follow(watched.value, this.#cache);
    return null;
  }

  async authenticate(bearerToken: string): Promise<Principal | null> {
    const key = tokenKey(bearerToken);
    if (key === null) return null;
    const record = await this.#find(key);
    return record === null ? null : principalOf(record, bearerToken, this.#clock.now());
  }

  async create(
    request: TokenRequest,
  ): Promise<Result<{ readonly token: string; readonly view: TokenView }, IdentityError>> {
    const { name, roles } = request;
    if (name.trim() === "" || name.length > 100 || /\p{Cc}/u.test(name)) {
      const message = "a token's name has 1 to 100 characters and no control characters";
      return err({ code: "invalid", message });
    }
    if (roles.length === 0) return err({ code: "invalid", message: "a token without a role" });
    const { token, record } = newToken(request, this.#clock.now());
    const key = keys.token(record.id);
    const outcome = await this.#ledger.transact({
      conditions: [{ kind: "absent", key }],
      writes: [{ kind: "put", key, value: JSON.stringify(record) }],
    });
    if (!outcome.ok) return err(unavailable("recording a token", outcome.error));
    if (!outcome.value.applied) return await this.create(request);
    await this.#caughtUp(outcome.value.revision);
    return ok({ token, view: viewOf(record) });
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

  close(): void {
    this.#closed = true;
    this.#retry?.cancel();
    this.#watch?.cancel();
    this.#lose();
  }

  async #find(key: string): Promise<TokenRecord | null> {
    if (this.#cache !== null) return this.#cache.get(key) ?? null;
    if (this.#closed) return null;
    const entry = await this.#ledger.get(key);
    return entry.ok && entry.value !== null ? parse(entry.value.value) : null;
  }

  async #follow(watch: Watch, cache: Map<string, TokenRecord>): Promise<void> {
    for await (const { revision, changes } of watch) {
      for (const change of changes) applyChange(cache, change);
      this.#reached(revision);
    }
    this.#lose();
    if (!this.#closed) this.#retry = this.#clock.after(retryMs, () => void this.#reload());
  }

  async #reload(): Promise<void> {
    const problem = await this.load();
    if (problem === null || problem.code === "closed" || this.#closed) return;
    this.#retry = this.#clock.after(retryMs, () => void this.#reload());
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
