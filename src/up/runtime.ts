import { join } from "node:path";

/** True inside `dist/lode`: Bun's virtual root holds the files of a compiled executable. */
export function isCompiled(): boolean {
  return Bun.main.startsWith("/$bunfs/");
}

/** How this program is called again, by a systemd unit. */
export function ownCommand(): string {
  return isCompiled() ? process.execPath : join(import.meta.dir, "..", "..", "lode");
}
