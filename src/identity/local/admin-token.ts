import { chmod, open, readFile, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Ledger } from "../../fabric/ledger.ts";
import { keys } from "../../model/keys.ts";
import type { IdentityError, TokenRecord } from "../identity.ts";
import { newToken, principalOf, tokenKey, unavailable } from "./tokens.ts";

export interface AdminTokenOptions {
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** Its directory exists. */
  readonly tokenFile: string;
}

/**
 * Sees to it that the file, mode 0600, holds a token that is an admin's: the way in for the
 * first user, and for root if all tokens are lost (remove the file and start again). Says
 * whether a new token was made.
 */
export async function ensureAdminToken(
  options: AdminTokenOptions,
): Promise<Result<{ readonly created: boolean }, IdentityError>> {
  const { ledger, clock, tokenFile } = options;
  const valid = await holdsAdminToken(options);
  if (!valid.ok || valid.value) return valid.ok ? ok({ created: false }) : valid;
  const request = { name: `admin (${tokenFile})`.slice(0, 100), expiresAt: null };
  const { token, record } = newToken({ ...request, roles: ["admin"] }, clock.now());
  try {
    // The file first: one that the ledger does not know is found out, and made anew, next time.
    await writeDurably(tokenFile, `${token}\n`);
  } catch (error) {
    return err(fileProblem(`writing the admin token to ${tokenFile}`, error));
  }
  const key = keys.token(record.id);
  const outcome = await ledger.transact({
    conditions: [{ kind: "absent", key }],
    writes: [{ kind: "put", key, value: JSON.stringify(record) }],
  });
  if (!outcome.ok) return err(unavailable("recording the admin token", outcome.error));
  return ok({ created: true });
}

async function holdsAdminToken({
  ledger,
  clock,
  tokenFile,
}: AdminTokenOptions): Promise<Result<boolean, IdentityError>> {
  let token: string;
  try {
    token = (await readFile(tokenFile, "utf8")).trim();
    await chmod(tokenFile, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return ok(false);
    return err(fileProblem(`reading the admin token from ${tokenFile}`, error));
  }
  const key = tokenKey(token);
  if (key === null) return ok(false);
  const entry = await ledger.get(key);
  if (!entry.ok) return err(unavailable("looking the admin token up", entry.error));
  if (entry.value === null) return ok(false);
  const record = JSON.parse(entry.value.value) as TokenRecord;
  return ok(principalOf(record, token, clock.now())?.roles.includes("admin") ?? false);
}

async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  await unlink(temporary).catch(() => {});
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function fileProblem(doing: string, error: unknown): IdentityError {
  const cause = error instanceof Error ? error.message : String(error);
  return { code: "unavailable", message: `${doing}: ${cause}` };
}
