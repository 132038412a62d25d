import { closeSync } from "node:fs";
import type { Clock, Random, Timer } from "../../base/time.ts";
import type { CgroupTree } from "../cgroup/cgroup.ts";
import { makePipe } from "../linux/files.ts";
import { type CloudPaths, nodePaths } from "../paths.ts";
import { freeStepBytes, keptBytes } from "./instance-log.ts";

// Apps write to their logs whether lode lives or not, and somebody must keep these bounded. While
// lode lives it is lode (instance-log.ts); a small shell waits for its end and takes over:
//
//   waiting: reads a pipe whose other end is lode's ─lode ends→ keeping: looks once a second
//      └── and nothing runs: it ends            the next lode is there: it is killed ──┘
//
// It needs no list from anybody: nothing starts without lode, so what runs is what has an
// instance file at the moment of lode's end.

const cgroupPrefix = "log-keeper-";
/** Of a core: cutting must get on beside the flood that it cuts. */
const weightCores = 0.1;
const againMs = 5000;

export interface LogKeeper {
  /** Lode ends, what runs goes on: it takes over. */
  close(): void;
  /** Nothing runs any more. */
  stop(): Promise<void>;
}

/** Starts one, and ends those of earlier lodes. */
export async function startLogKeeper(
  paths: CloudPaths,
  cgroups: CgroupTree,
  clock: Clock,
  random: Random,
): Promise<LogKeeper> {
  const keeper = new Keeper(paths, cgroups, clock, random);
  await keeper.begin();
  return keeper;
}

class Keeper implements LogKeeper {
  readonly #paths: CloudPaths;
  readonly #cgroups: CgroupTree;
  readonly #clock: Clock;
  readonly #random: Random;
  #pipe: number | null = null;
  #again: Timer | null = null;
  #closed = false;

  constructor(paths: CloudPaths, cgroups: CgroupTree, clock: Clock, random: Random) {
    this.#paths = paths;
    this.#cgroups = cgroups;
    this.#clock = clock;
    this.#random = random;
  }

  async begin(): Promise<void> {
    const cgroup = await this.#cgroups.create(`${cgroupPrefix}${this.#random.token(6)}`);
    cgroup.setCpuWeight(weightCores);
    if (!this.#closed) this.#spawn(cgroup.joinPaths);
    await this.#endOthers(cgroup.name);
  }

  close(): void {
    this.#closed = true;
    this.#again?.cancel();
    this.#letGo();
  }

  async stop(): Promise<void> {
    this.close();
    await this.#endOthers(null);
  }

  #spawn(joinPaths: readonly string[]): void {
    const { read, write } = makePipe();
    this.#pipe = write;
    const folders = [nodePaths.logs(this.#paths), nodePaths.instances(this.#paths)];
    try {
      const child = Bun.spawn(["/bin/sh", "-c", script, "lode", ...folders, ...joinPaths], {
        stdio: [read, "ignore", "ignore"],
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
        cwd: "/",
        detached: true,
      });
      child.unref();
      void child.exited.then(() => {
        if (this.#pipe === write) this.#beginAgain();
      });
    } finally {
      closeSync(read);
    }
  }

  /** It ended though lode lives, or could not be started. */
  #beginAgain(): void {
    this.#letGo();
    if (this.#closed) return;
    this.#again = this.#clock.after(againMs, () => {
      this.begin().catch(() => this.#beginAgain());
    });
  }

  #letGo(): void {
    if (this.#pipe !== null) closeSync(this.#pipe);
    this.#pipe = null;
  }

  async #endOthers(own: string | null): Promise<void> {
    for (const name of await this.#cgroups.list()) {
      if (!name.startsWith(cgroupPrefix) || name === own) continue;
      const cgroup = await this.#cgroups.open(name);
      await cgroup?.kill();
      await cgroup?.remove();
    }
  }
}

/**
 * Its arguments: the folder of logs, that of instance files, and the files by which it joins its
 * cgroup. The names below the folders are lode's own and hold no blanks.
 */
const script = `
logs=$1 instances=$2
shift 2
for file do echo $$ >"$file"; done
read -r line
cd "$logs" || exit 1
running=$(find . -mindepth 3 -maxdepth 3 -type d | while read -r folder; do
  name=\${folder##*/}
  if [ -e "$instances/\${name%%.*}.json" ]; then echo "$folder/out"; fi
done)
while [ -n "$running" ]; do
  echo "$running" | xargs stat --format '%b %s %n' | while read -r blocks size file; do
    if [ "$blocks" -gt ${(keptBytes + freeStepBytes) / 512} ]; then
      fallocate --punch-hole --offset 0 --length $((size - ${keptBytes})) "$file"
    fi
  done
  sleep 1
done
`;
