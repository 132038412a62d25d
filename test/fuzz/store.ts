import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "../harness/cloud.ts";
import type { Slice, SliceStore } from "./memory.ts";

/** Names what was fuzzed, and by what: any change of either makes another name. */
function fingerprint(): string {
  const hash = createHash("sha256");
  for (const folder of ["src/gateway", "test/fuzz"]) {
    const files = readdirSync(join(repository, folder), { recursive: true, withFileTypes: true });
    const paths = files
      .filter(
        (file) =>
          file.isFile() && !/(?:proof|sockets|servers|store)\.ts$|\.test\.ts/.test(file.name),
      )
      .map((file) => join(file.parentPath, file.name));
    for (const path of paths.sort()) hash.update(path).update(readFileSync(path));
  }
  return hash.digest("hex").slice(0, 16);
}

/** Slices done by earlier runs of the same code; each new one is kept at once. */
export function openStore(): SliceStore {
  const folder = join(repository, ".build");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `fuzz-${fingerprint()}.json`);
  const read = (): Record<string, Slice> =>
    existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const slices = new Map<string, Slice>(Object.entries(read()));
  return {
    get: (key) => slices.get(key),
    set(key, slice) {
      slices.set(key, slice);
      // Another part may have been added by a run beside this one.
      writeFileSync(file, JSON.stringify({ ...read(), [key]: slice }));
    },
  };
}
