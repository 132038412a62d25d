import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Egress } from "../../model/release.ts";

/**
 * Egress of the slots whose egress is not simply public, in the run directory: the kernel's
 * rules hold while lode is dead, this file lets the next lode know and, should another
 * program flush them, restore them.
 */
export function readExceptions(runDirectory: string): Map<string, Egress> {
  const path = fileIn(runDirectory);
  if (!existsSync(path)) return new Map();
  return new Map(JSON.parse(readFileSync(path, "utf8")) as [string, Egress][]);
}

export function writeExceptions(
  runDirectory: string,
  exceptions: ReadonlyMap<string, Egress>,
): void {
  const path = fileIn(runDirectory);
  writeFileSync(`${path}.part`, JSON.stringify([...exceptions]), { mode: 0o600 });
  renameSync(`${path}.part`, path);
}

function fileIn(runDirectory: string): string {
  return `${runDirectory}/egress.json`;
}
