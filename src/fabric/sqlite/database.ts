import { Database } from "bun:sqlite";
import { closeSync, constants, fsyncSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { LedgerError } from "../ledger.ts";
import { ledgerError } from "./errors.ts";

/** "Lode" in ASCII: tells a ledger from other SQLite files. */
const applicationId = 0x4c6f6465;
const schemaVersion = 1;

const schema = `
  CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    compacted INTEGER NOT NULL
  ) STRICT;
  INSERT INTO state (id, revision, compacted) VALUES (1, 0, 0);
  CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    lease TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX entries_by_lease ON entries (lease) WHERE lease IS NOT NULL;
  -- A null value is a deletion; create_revision is then 0.
  CREATE TABLE changes (
    revision INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    create_revision INTEGER NOT NULL,
    PRIMARY KEY (revision, key)
  ) STRICT, WITHOUT ROWID;
`;

/** Opens or makes the ledger's file, held by this process alone until it is closed or dies. */
export function openDatabase(path: string): Result<Database, LedgerError> {
  const doing = "opening the ledger";
  try {
    createFile(path);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    const code = (error as NodeJS.ErrnoException).code === "ENOSPC" ? "full" : "unavailable";
    return err({ code, message: `${doing}: ${cause}` });
  }
  let database: Database | null = null;
  try {
    database = new Database(path, { readwrite: true, create: false, strict: true });
    // Exclusive, set before the first access, also does without the shared-memory file.
    database.run("PRAGMA locking_mode = EXCLUSIVE");
    database.run("PRAGMA trusted_schema = OFF");
    database.run("PRAGMA cell_size_check = ON");
    const refusal = refusalOf(database, path);
    if (refusal !== null) {
      database.close();
      return err(refusal);
    }
    database.run("PRAGMA journal_mode = WAL");
    // Bun's default too, but an acknowledged write hangs on it: one fsync of the log a commit.
    database.run("PRAGMA synchronous = FULL");
    database.run("PRAGMA journal_size_limit = 67108864");
    database.run("BEGIN IMMEDIATE");
    if (first(database, "PRAGMA user_version") === 0) {
      database.run(schema);
      database.run(`PRAGMA application_id = ${applicationId}`);
      database.run(`PRAGMA user_version = ${schemaVersion}`);
    }
    database.run("COMMIT");
    return ok(database);
  } catch (error) {
    database?.close();
    return err(ledgerError(doing, path, error));
  }
}

/** Its value may hold hashes of tokens: nobody else reads it. SQLite's log takes its mode. */
function createFile(path: string): void {
  closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600));
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function refusalOf(database: Database, path: string): LedgerError | null {
  const isNew = first(database, "SELECT count(*) FROM sqlite_schema") === 0;
  if (!isNew && first(database, "PRAGMA application_id") !== applicationId) {
    const message = `${path} is an SQLite file, but not a ledger of Lode's; move it away`;
    return { code: "corrupt", message };
  }
  const version = Number(first(database, "PRAGMA user_version"));
  if (version > schemaVersion) {
    const message =
      `${path} has schema ${version}, this lode knows ${schemaVersion}: ` +
      "it was written by a newer lode; start that one";
    return { code: "unavailable", message };
  }
  const check = first(database, "PRAGMA quick_check(1)");
  if (check === "ok") return null;
  return { code: "corrupt", message: `${path} is damaged: ${check}; restore it from a backup` };
}

function first(database: Database, sql: string): unknown {
  const statement = database.prepare(sql);
  try {
    return statement.values()[0]?.[0];
  } finally {
    statement.finalize();
  }
}
