import { existsSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock, Random } from "../base/time.ts";
import { cloudPaths } from "../node/paths.ts";
import { openIdentity } from "./identity.ts";
import { lockDataDirectory, lockHolder } from "./lock.ts";
import { openMachine } from "./machine.ts";

export interface DownOptions {
  readonly dataDirectory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly say: (line: string) => void;
}

/** Apps get 10 s to end by themselves, and there may be hundreds. */
const stopTimeoutMs = 120_000;
const lockRetryMs = 50;

/**
 * Stops cloud and apps, whether lode runs or was killed; leaves no process, mount, interface or
 * cgroup of them. The data directory stays.
 */
export async function down(options: DownOptions): Promise<Result<void, string>> {
  if (process.getuid?.() !== 0) return err(`lode down needs root; run "sudo lode down"`);
  const { dataDirectory, clock, random, say } = options;
  if (!existsSync(join(dataDirectory, "cloud.json"))) {
    return err(`there is no cloud in ${dataDirectory}; name its place with --data-dir`);
  }
  let lock = lockDataDirectory(dataDirectory);
  if (!lock.ok) {
    const pid = lockHolder(dataDirectory);
    if (pid === null) return lock;
    say(`stopping lode with pid ${pid} and its apps`);
    process.kill(pid, "SIGINT");
    const deadline = clock.now() + stopTimeoutMs;
    while (!lock.ok && clock.now() < deadline) {
      await Bun.sleep(lockRetryMs);
      lock = lockDataDirectory(dataDirectory);
    }
    if (!lock.ok) return err(`lode with pid ${pid} did not stop within 2 minutes`);
  }
  try {
    const identity = openIdentity(dataDirectory, random);
    if (!identity.ok) return identity;
    // Also after a clean stop: what is gone already costs nothing to look for.
    const machine = await openMachine(
      cloudPaths(dataDirectory, identity.value.cloud),
      clock,
      0,
      null,
    );
    if (!machine.ok) return machine;
    await machine.value.destroy();
    await machine.value.close();
    return ok(undefined);
  } finally {
    lock.value.release();
  }
}
