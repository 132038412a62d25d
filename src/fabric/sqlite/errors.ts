import { SQLiteError } from "bun:sqlite";
import type { LedgerError } from "../ledger.ts";

/** What an SQLite error means for the ledger. Others than SQLite's are broken invariants. */
export function ledgerError(doing: string, path: string, error: unknown): LedgerError {
  if (!(error instanceof SQLiteError)) throw error;
  const code = error.code ?? "";
  const cause = `${error.message} (${code === "" ? error.errno : code})`;
  if (code === "SQLITE_FULL") {
    const message = `${doing}: the disk that holds ${path} is full; make room on it`;
    return { code: "full", message };
  }
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) {
    const message = `${doing}: ${path} is in use by another process; stop that one first`;
    return { code: "unavailable", message };
  }
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(code)) {
    const message = `${doing}: ${path} is damaged: ${cause}; restore it from a backup`;
    return { code: "corrupt", message };
  }
  return { code: "unavailable", message: `${doing}: ${path}: ${cause}` };
}
