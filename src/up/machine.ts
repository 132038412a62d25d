import { err, ok, type Result } from "../base/result.ts";
import type { Clock } from "../base/time.ts";
import type { CgroupTree } from "../node/cgroup/cgroup.ts";
import { openCgroupTree } from "../node/cgroup/detect.ts";
import { createExitWatcher } from "../node/linux/exit-watcher.ts";
import { openKernelEvents } from "../node/linux/kernel-events.ts";
import type { ExitWatcher } from "../node/linux/processes.ts";
import type { Network } from "../node/network/network.ts";
import { openNetwork } from "../node/network/open.ts";
import type { CloudPaths } from "../node/paths.ts";
import { makeRunDirectory, removeRunDirectory } from "../node/run-directory.ts";
import { openSandbox } from "../node/sandbox/open.ts";
import type { Sandbox } from "../node/sandbox/sandbox.ts";
import { closeDisk } from "../node/volume/disk.ts";

/** What Lode uses of this machine's kernel. */
export interface Machine {
  readonly cgroups: CgroupTree;
  readonly network: Network;
  readonly sandbox: Sandbox;
  readonly exits: ExitWatcher;
  /** Removes everything of the cloud from the machine; the data directory stays. */
  destroy(): Promise<void>;
  close(): Promise<void>;
}

/**
 * @param poolSize network slots kept ready; 0 to only take things down.
 * @param thawUid who besides root may thaw what is frozen; null: nobody.
 */
export async function openMachine(
  paths: CloudPaths,
  clock: Clock,
  poolSize: number,
  thawUid: number | null,
): Promise<Result<Machine, string>> {
  const events = openKernelEvents();
  if (!events.ok) return events;
  const runDirectory = paths.run;
  const made = makeRunDirectory(paths);
  if (!made.ok) return made;
  const cgroups = openCgroupTree({
    ...{ cloud: paths.cloud, runDirectory, clock, events: events.value },
    thawUid,
  });
  if (!cgroups.ok) return cgroups;
  const opened = await openNetwork({ cloud: paths.cloud, runDirectory, poolSize, clock });
  if (!opened.ok) return opened;
  const { network, nameServers } = opened.value;
  const sandbox = openSandbox({
    ...{ runDirectory, shown: [paths.data], nameServers, cgroups: cgroups.value, network, clock },
  });
  if (!sandbox.ok) return err(sandbox.error);
  return ok({
    cgroups: cgroups.value,
    network,
    sandbox: sandbox.value,
    exits: createExitWatcher(events.value),
    async destroy() {
      sandbox.value.close();
      await cgroups.value.destroy();
      await network.destroy();
      await closeDisk(paths);
      removeRunDirectory(paths);
    },
    async close() {
      sandbox.value.close();
      await network.close();
      events.value.close();
    },
  });
}
