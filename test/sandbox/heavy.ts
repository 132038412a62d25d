// What else the machine does must not weigh on a measurement: whoever measures, and the cloud
// that is measured, get a weight beside which all others have next to none. Inside the cloud
// nothing changes: a bomb competes with the neighbour as ever.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { detectCgroups } from "../../src/node/cgroup/detect.ts";

const prefix = "lode-measures-";

export interface Heavy {
  /** The cloud has been started. */
  raise(cloud: string): void;
  /** What this process has started must have ended. */
  close(): void;
}

/** Moves this process, and with it what it starts from now on. */
export function becomeHeavy(): Heavy {
  const layout = detectCgroups(readFileSync("/proc/self/mountinfo", "utf8"), null);
  if (!layout.ok) throw new Error(layout.error);
  const isOld = layout.value.version === 1;
  const root = layout.value.version === 1 ? layout.value.mounts.cpu : layout.value.parent;
  const [file, most] = isOld ? ["cpu.shares", "262144"] : ["cpu.weight", "10000"];
  const own = join(root, `${prefix}${process.pid}`);
  const from = join(root, cgroupOfSelf(isOld));
  removeLeft(root);
  mkdirSync(own);
  writeFileSync(join(own, file), most);
  takeRealTime(join(own, "cpu.rt_runtime_us"));
  writeFileSync(join(own, "cgroup.procs"), String(process.pid));
  return {
    raise: (cloud) => writeFileSync(join(root, `lode-${cloud}`, file), most),
    close() {
      for (const pid of readFileSync(join(own, "cgroup.procs"), "utf8").trim().split("\n")) {
        writeFileSync(join(from, "cgroup.procs"), pid);
      }
      rmdirSync(own);
    },
  };
}

/** Of those that were killed: a group that nobody is in holds its real time all the same. */
function removeLeft(root: string): void {
  for (const name of readdirSync(root).filter((each) => each.startsWith(prefix))) {
    const isHeld = existsSync(`/proc/${name.slice(prefix.length)}`);
    if (isHeld || readFileSync(join(root, name, "cgroup.procs"), "utf8") !== "") continue;
    rmdirSync(join(root, name));
  }
}

/**
 * For the visitors, µs of a second. All groups together may have 950,000, and others may measure
 * at the same time. v2, and a kernel without real time for groups, have no such file.
 */
function takeRealTime(file: string): void {
  if (!existsSync(file)) return;
  for (let runtimeUs = 500_000; ; runtimeUs /= 2) {
    try {
      writeFileSync(file, String(runtimeUs));
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EINVAL" || runtimeUs < 50_000) throw cause;
    }
  }
}

/** In the hierarchy of the cpu controller. */
function cgroupOfSelf(isOld: boolean): string {
  const lines = readFileSync("/proc/self/cgroup", "utf8").split("\n");
  const line = lines.find((one) => (isOld ? /:(.*,)?cpu(,.*)?:/.test(one) : one.startsWith("0::")));
  return line?.split(":").slice(2).join(":") ?? "/";
}
