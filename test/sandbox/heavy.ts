// What else the machine does must not weigh on a measurement: whoever measures, and the cloud
// that is measured, get a weight beside which all others have next to none. Inside the cloud
// nothing changes: a bomb competes with the neighbour as ever.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { detectCgroups } from "../../src/node/cgroup/detect.ts";

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
  const own = join(root, `lode-measures-${process.pid}`);
  const from = join(root, cgroupOfSelf(isOld));
  mkdirSync(own);
  writeFileSync(join(own, file), most);
  // Real time for the visitors; v2, and a kernel without it for groups, have no such file.
  if (existsSync(join(own, "cpu.rt_runtime_us"))) {
    writeFileSync(join(own, "cpu.rt_runtime_us"), "500000");
  }
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

/** In the hierarchy of the cpu controller. */
function cgroupOfSelf(isOld: boolean): string {
  const lines = readFileSync("/proc/self/cgroup", "utf8").split("\n");
  const line = lines.find((one) => (isOld ? /:(.*,)?cpu(,.*)?:/.test(one) : one.startsWith("0::")));
  return line?.split(":").slice(2).join(":") ?? "/";
}
