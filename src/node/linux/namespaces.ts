import { closeSync, openSync } from "node:fs";
import { attempt, describe, libc, must } from "./libc.ts";

/**
 * Runs `action`, which must be synchronous, with this thread in another network namespace:
 * a process that it spawns is born there, a file of /proc/sys/net that it writes is that
 * namespace's. If the way back failed, lode itself would be cut off: it crashes.
 */
export function inNetworkNamespace<Value>(path: string, action: () => Value): Value {
  const networkNamespace = 0x4000_0000;
  const home = openSync("/proc/thread-self/ns/net", "r");
  try {
    const away = openSync(path, "r");
    const entered = libc.setns(away, networkNamespace);
    closeSync(away);
    must(`setns to ${path}`, entered);
    try {
      return action();
    } finally {
      const back = attempt("setns", libc.setns(home, networkNamespace));
      if (!back.ok) {
        process.stderr.write(`lode: cannot leave ${path}: ${describe(back.error)}\n`);
        process.abort();
      }
    }
  } finally {
    closeSync(home);
  }
}
