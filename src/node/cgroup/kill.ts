import type { Clock } from "../../base/time.ts";
import { pause } from "../linux/time.ts";
import { codeOf } from "./control-files.ts";

/** What killing needs of a cgroup. */
export interface Killable {
  readonly name: string;
  pids(): readonly number[];
  /** Every process stopped, so that none can fork while the list is walked. */
  stop(): Promise<void>;
  /** SIGKILL takes effect in a stopped process only now. */
  go(): void;
  /** The kernel's own kill of all at once; false when it has none. */
  killAtOnce(): boolean;
}

/**
 * Kills until empty: stop, SIGKILL all, go. A fork bomb loses because its processes cannot
 * run between being listed and being killed; whatever was forked in the instant before the
 * stop is in the next round's list.
 */
export async function killUntilEmpty(group: Killable, clock: Clock): Promise<void> {
  const rounds = 2000;
  for (let round = 0; round < rounds; round++) {
    if (group.pids().length === 0) return;
    if (!group.killAtOnce()) {
      await group.stop();
      for (const pid of group.pids()) kill(pid);
      group.go();
    }
    await pause(clock, Math.min(1 + round, 10));
  }
  const left = group.pids().join(", ");
  throw new Error(`cgroup ${group.name}: processes ${left} did not die of SIGKILL`);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (codeOf(error) !== "ESRCH") throw error;
  }
}
