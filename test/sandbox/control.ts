// The control run of a probe: the same program without a sandbox, where it must succeed. It
// runs as root in namespaces and a cgroup of its own, on a root whose /tmp, /mnt and /dev/shm
// are its own too, and touches nothing that outlives it.

import { rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "../../src/fabric/system.ts";
import { openCgroupTree } from "../../src/node/cgroup/detect.ts";
import { openKernelEvents } from "../../src/node/linux/kernel-events.ts";
import { repository, run } from "../harness/cloud.ts";
import { type Probe, type Surroundings, withinSeconds } from "./probes.ts";

const timeoutMs = 40_000;
const mebibyte = 1024 ** 2;
/** Slaves of the host's mounts, so that what is unmounted there does not stay for our sake. */
const namespaces = "--mount --propagation slave --pid --fork --mount-proc --uts --ipc".split(" ");

/** A cgroup that bounds what control runs take; gone with `close`. */
export async function openControls(program: string) {
  const events = openKernelEvents();
  if (!events.ok) throw new Error(events.error);
  const cloud = `c${systemRandom.token(5)}`;
  const runDirectory = `/run/lode-${cloud}`;
  const tree = openCgroupTree({ cloud, runDirectory, clock: systemClock, events: events.value });
  if (!tree.ok) throw new Error(tree.error);
  const cgroup = await tree.value.create("controls");
  await cgroup.setLimits({
    ...{ cpuMaxCores: null, memoryMinBytes: null, memoryHighBytes: null },
    ...{ memoryMaxBytes: 2048 * mebibyte, pidsMax: 8000 },
  });
  cgroup.setCpuWeight(availableParallelism());
  return {
    async run(probe: Probe, around: Surroundings): Promise<string> {
      const join = cgroup.joinPaths.map((path) => `echo $$ > ${path}`).join("; ");
      const own = probe.control.network === "host" ? [] : ["--net"];
      const shown = ["unshare", ...namespaces, ...own, "--kill-child", "sh", "-c"];
      const script = ["sh", "-c", `${join}; exec "$@"`, "control"];
      const argv = [...script, ...shown, controlScript(probe, around)];
      const env = { PROGRAM: program, ARCHIVE: archiveScript };
      const done = await run(argv, { env, timeoutMs });
      await cgroup.kill();
      return `${done.stdout}${done.stderr}`;
    },
    async close(): Promise<void> {
      await tree.value.destroy();
      rmSync(runDirectory, { recursive: true, force: true });
      events.value.close();
    },
  };
}

export const archiveScript = join(repository, "test/sandbox/archive.py");

function controlScript({ id, control, arguments: given }: Probe, around: Surroundings): string {
  const mount = "mount -t tmpfs -o size=900M,mode=1777 tmpfs";
  const own = (control.arguments ?? given)?.(around);
  const words = Object.entries({ ...own, within: withinSeconds });
  const quoted = words.map(([name, value]) => `'${name}=${value}'`).join(" ");
  return [
    "mount -t tmpfs tmpfs /mnt; cp $PROGRAM /mnt/probe; cp $ARCHIVE /mnt/archive.py",
    `PROBE=/mnt/probe; ARCHIVE=/mnt/archive.py; ${mount} /tmp; ${mount} /dev/shm; cd /tmp`,
    "ip link set lo up 2> /dev/null",
    control.before ?? ":",
    control.instead ?? `$PROBE run ${id} ${quoted}`,
  ].join("\n");
}
