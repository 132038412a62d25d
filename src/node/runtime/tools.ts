import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import type { HostTools } from "../drivers/specification.ts";
import { installRuntime } from "./install.ts";

const caBundle = "/etc/ssl/certs/ca-certificates.crt";

/**
 * Puts what sandboxes share under `directory`: Lode's programs and Bun. Bun is this process's
 * own executable: Bun itself, or lode built as one file, which acts as Bun when told to. It is
 * linked (or copied) here, since apps could not enter the folder where it may lie.
 */
export function installTools(directory: string): HostTools {
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o755);
  const programs = join(directory, "programs");
  installRuntime(programs);
  const isCompiled = Bun.main.startsWith("/$bunfs/");
  return {
    bun: installBun(directory, realpathSync(process.execPath)),
    bunEnv: isCompiled ? { BUN_BE_BUN: "1" } : {},
    runtime: programs,
    caBundle: existsSync(caBundle) ? caBundle : null,
  };
}

/** Named by what it is, as running sandboxes go on with the one that they began with. */
function installBun(directory: string, executable: string): string {
  const { size, mtimeMs } = statSync(executable);
  const name = `bun-${size}-${Math.trunc(mtimeMs)}`;
  const path = join(directory, name);
  if (!existsSync(path)) {
    rmSync(`${path}.new`, { force: true });
    try {
      linkSync(executable, `${path}.new`);
    } catch {
      // On another file system.
      copyFileSync(executable, `${path}.new`);
      chmodSync(`${path}.new`, 0o755);
    }
    renameSync(`${path}.new`, path);
  }
  for (const other of readdirSync(directory)) {
    if (other.startsWith("bun-") && other !== name) rmSync(join(directory, other));
  }
  return path;
}
