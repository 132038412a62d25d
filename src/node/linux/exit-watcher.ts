import { closeSync } from "node:fs";
import { openPidDescriptor } from "./identity.ts";
import type { KernelEvents } from "./kernel-events.ts";
import type { ExitWatcher, ProcessIdentity } from "./processes.ts";

/** One pidfd per waited-for process, all in the epoll set of `events`. */
export function createExitWatcher(events: KernelEvents): ExitWatcher {
  const open = new Set<() => void>();
  return {
    ended(identity: ProcessIdentity): Promise<void> {
      const descriptor = openPidDescriptor(identity);
      if (descriptor === null) return Promise.resolve();
      return new Promise((resolve) => {
        const stop = (): void => {
          open.delete(stop);
          watching.cancel();
          closeSync(descriptor);
        };
        const watching = events.watch(descriptor, "readable", () => {
          stop();
          resolve();
        });
        open.add(stop);
      });
    },
    close(): void {
      for (const stop of [...open]) stop();
    },
  };
}
