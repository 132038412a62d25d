import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { InstanceStatus } from "../model/instance.ts";
import type { Limits } from "../model/limits.ts";
import type { InstanceId } from "../model/names.ts";
import type { Credit } from "./decide/credit.ts";
import type { InstanceState } from "./decide/state.ts";
import type { Held } from "./drivers/process.ts";
import { rests } from "./phases.ts";

/** All that the next lode must know of an instance. */
export interface InstanceFile {
  readonly instance: InstanceId;
  readonly state: InstanceState;
  readonly credit: Credit;
  /** Those that the credit was earned under. */
  readonly limits: Limits;
  readonly held: Held;
}

/**
 * One file an instance. Each state is a line at its end, and the last line that is whole counts,
 * so a write that is cut short costs that state alone. A wake waits for five of these writes:
 * appending takes 0.01 ms, where replacing a file takes up to 1 ms, as ext4 sends a file's
 * blocks to the disk when it is renamed over another.
 *
 * One that has slept for a while is put to bed: its file lies in a folder of such files, and
 * nothing else of it is kept.
 */
export interface InstanceFiles {
  write(file: InstanceFile): void;
  remove(instance: InstanceId): void;
  /** Of the instances that were not put to bed. */
  readAll(): { readonly file: InstanceFile; readonly sameBoot: boolean }[];
  /** From now on the instance is in no memory: the file is all that tells of it. */
  putToBed(file: InstanceFile, status: InstanceStatus): void;
  /** Null: it is not in bed. Unreadable: it is, but its file is damaged. */
  sleeper(instance: InstanceId): Sleeper | "unreadable" | null;
  /** It is in memory, and written, again. */
  rise(instance: InstanceId): void;
  sleepers(): Promise<Set<InstanceId>>;
}

/** An instance that sleeps, as it was put to bed. */
export interface Sleeper {
  readonly file: InstanceFile;
  readonly sameBoot: boolean;
  readonly status: InstanceStatus;
}

/** A file that would grow longer begins anew: rather when nobody waits for it. */
const bytesMax = 65_536;
const restingBytesMax = 8192;

interface Stored extends InstanceFile {
  readonly format: 1;
  /** Kernel's id of the boot in which it was written: pids and namespaces are of that boot. */
  readonly boot: string;
}

/** @param beds the folder of those that were put to bed. */
export function createInstanceFiles(directory: string, beds: string): InstanceFiles {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  mkdirSync(beds, { recursive: true, mode: 0o700 });
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const pathOf = (instance: InstanceId) => join(directory, `${instance}.json`);
  const bedOf = (instance: InstanceId) => join(beds, `${instance}.json`);

  function read(name: string): Stored | null {
    const lines = readFileSync(join(directory, name), "utf8").split("\n");
    for (const line of lines.reverse()) {
      const stored = parse(line);
      if (stored?.format === 1) return stored;
    }
    return null;
  }

  return {
    // Not synced: what it describes does not outlive a crash of the machine either, and what
    // a power cut leaves torn is read as nothing.
    write(file) {
      const stored: Stored = { format: 1, boot, ...file };
      const path = pathOf(file.instance);
      // A line of its own, also after one that was cut short.
      const line = `\n${JSON.stringify(stored)}\n`;
      if (append(path, line, isQuiet(file) ? restingBytesMax : bytesMax)) return;
      writeFileSync(`${path}.new`, line, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
    remove(instance) {
      rmSync(pathOf(instance), { force: true });
      rmSync(bedOf(instance), { force: true });
    },
    readAll() {
      const names = readdirSync(directory).filter((name) => name.endsWith(".json"));
      return names.flatMap((name) => {
        const stored = read(name);
        return stored === null ? [] : [{ file: stored, sameBoot: stored.boot === boot }];
      });
    },
    // The other file goes last: cut short in between, it is as if nothing had been done.
    putToBed(file, status) {
      const stored: Stored & Pick<Sleeper, "status"> = { format: 1, boot, ...file, status };
      writeFileSync(bedOf(file.instance), JSON.stringify(stored), { mode: 0o600 });
      rmSync(pathOf(file.instance), { force: true });
    },
    sleeper(instance) {
      if (!existsSync(bedOf(instance))) return null;
      const stored = parse(readFileSync(bedOf(instance), "utf8"));
      if (stored?.format !== 1) return "unreadable";
      const { status } = stored as Stored & Pick<Sleeper, "status">;
      return { file: stored, sameBoot: stored.boot === boot, status };
    },
    rise(instance) {
      rmSync(bedOf(instance), { force: true });
    },
    async sleepers() {
      const names = await readdir(beds);
      return new Set(names.map((name) => name.slice(0, -".json".length) as InstanceId));
    },
  };
}

/** A request that comes for it should find room in its file. */
function isQuiet({ state: { situation } }: InstanceFile): boolean {
  return rests(situation) || situation.state === "frozen";
}

function parse(line: string): Stored | null {
  try {
    return JSON.parse(line) as Stored;
  } catch {
    return null;
  }
}

/** False: the file would become too long. */
function append(path: string, text: string, bytesMax: number): boolean {
  const descriptor = openSync(path, "a", 0o600);
  try {
    if (fstatSync(descriptor).size + text.length > bytesMax) return false;
    appendFileSync(descriptor, text);
    return true;
  } finally {
    closeSync(descriptor);
  }
}
