import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";

/** The executable that runs apps and gateways: Bun in a clone, Lode itself when compiled. */
export interface Runtime {
  /** A copy that every uid can reach. */
  readonly binary: string;
  /** A compiled Lode acts as Bun with BUN_BE_BUN=1. */
  readonly compiled: boolean;
}

/** Bun's virtual root of the files inside a compiled executable. */
export function isCompiled(): boolean {
  return import.meta.path.startsWith("/$bunfs/");
}

/**
 * Copies the running executable below the data directory, once for each version of it: a clone
 * often lies in a home directory that apps' uids cannot enter.
 */
export function installRuntime(nodeDirectory: string): Runtime {
  const source = process.execPath;
  const { size, mtimeMs } = statSync(source);
  const directory = join(nodeDirectory, "bin");
  const binary = join(directory, `${Bun.version}-${size.toString(36)}-${mtimeMs.toString(36)}`);
  if (!existsSync(binary)) {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    copyFileSync(source, `${binary}.new`);
    chmodSync(`${binary}.new`, 0o755);
    renameSync(`${binary}.new`, binary);
  }
  return { binary, compiled: isCompiled() };
}
