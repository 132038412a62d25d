import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Limits } from "../model/limits.ts";
import type { InstanceId } from "../model/names.ts";
import type { Credit } from "./decide/credit.ts";
import type { InstanceState } from "./decide/state.ts";
import type { Held } from "./drivers/process.ts";

/** All that the next lode must know of an instance. */
export interface InstanceFile {
  readonly instance: InstanceId;
  readonly state: InstanceState;
  readonly credit: Credit;
  /** Those that the credit was earned under. */
  readonly limits: Limits;
  readonly held: Held;
}

/** One file an instance, replaced in one rename: a reader finds the old one or the new one. */
export interface InstanceFiles {
  write(file: InstanceFile): void;
  remove(instance: InstanceId): void;
  readAll(): { readonly file: InstanceFile; readonly sameBoot: boolean }[];
}

interface Stored extends InstanceFile {
  readonly format: 1;
  /** Kernel's id of the boot in which it was written: pids and namespaces are of that boot. */
  readonly boot: string;
}

export function createInstanceFiles(directory: string): InstanceFiles {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const pathOf = (instance: InstanceId) => join(directory, `${instance}.json`);

  function read(name: string): Stored | null {
    try {
      const stored = JSON.parse(readFileSync(join(directory, name), "utf8")) as Stored;
      return stored.format === 1 ? stored : null;
    } catch {
      return null;
    }
  }

  return {
    // Not synced: what it describes does not outlive a crash of the machine either, and what
    // a power cut leaves torn is read as nothing.
    write(file) {
      const stored: Stored = { format: 1, boot, ...file };
      const path = pathOf(file.instance);
      writeFileSync(`${path}.new`, JSON.stringify(stored), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
    remove(instance) {
      rmSync(pathOf(instance), { force: true });
    },
    readAll() {
      const names = readdirSync(directory).filter((name) => name.endsWith(".json"));
      return names.flatMap((name) => {
        const stored = read(name);
        return stored === null ? [] : [{ file: stored, sameBoot: stored.boot === boot }];
      });
    },
  };
}
