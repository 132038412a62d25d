import { closeSync, openSync } from "node:fs";
import { attempt, describe, libc, must } from "./libc.ts";

const networkNamespace = 0x4000_0000;
const ownNamespace = "/proc/thread-self/ns/net";

/**
 * Runs `action`, which must be synchronous, with this thread in another network namespace:
 * a process that it spawns is born there, a file of /proc/sys/net that it writes is that
 * namespace's. If the way back failed, lode itself would be cut off: it crashes.
 */
export function inNetworkNamespace<Value>(path: string, action: () => Value): Value {
  const away = openSync(path, "r");
  try {
    return withReturn(() => {
      must(`setns to ${path}`, libc.setns(away, networkNamespace));
      return action();
    });
  } finally {
    closeSync(away);
  }
}

/**
 * A new network namespace, held by the descriptor given back and by whatever process is put
 * into it: it and its interfaces go with the last of them, also when lode is killed.
 */
export function makeNetworkNamespace(): number {
  return withReturn(() => {
    must("unshare", libc.unshare(networkNamespace));
    return openSync(ownNamespace, "r");
  });
}

function withReturn<Value>(action: () => Value): Value {
  const home = openSync(ownNamespace, "r");
  try {
    return action();
  } finally {
    const back = attempt("setns", libc.setns(home, networkNamespace));
    closeSync(home);
    if (!back.ok) {
      process.stderr.write(`lode: cannot leave a network namespace: ${describe(back.error)}\n`);
      process.abort();
    }
  }
}
