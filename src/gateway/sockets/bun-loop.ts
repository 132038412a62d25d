import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Epoll sets of this process, and how many descriptors each of them watches. */
function epollSets(): Map<number, number> {
  const sets = new Map<number, number>();
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`) !== "anon_inode:[eventpoll]") continue;
      const facts = readFileSync(`/proc/self/fdinfo/${name}`, "latin1");
      sets.set(Number(name), facts.split("\ntfd:").length - 1);
    } catch {
      // The descriptor that read the folder is gone.
    }
  }
  return sets;
}

/**
 * The descriptor on which Bun's event loop of this thread sleeps: the epoll set that grows when
 * Bun listens. Bun does not tell it; other threads of its have sets too.
 *
 * @throws when there is none: this Bun waits in some other way.
 */
export function findBunLoop(): number {
  const before = epollSets();
  const name = `\0lode-gateway-${process.pid}-${randomBytes(6).toString("hex")}`;
  const listener = Bun.listen({ unix: name, socket: { data() {} } });
  const after = epollSets();
  listener.stop(true);
  const grown = [...after].filter(([descriptor, count]) => count > (before.get(descriptor) ?? 0));
  const [found] = grown;
  if (found === undefined || grown.length > 1) {
    throw new Error(`cannot find Bun's event loop among ${after.size} epoll sets of this process`);
  }
  return found[0];
}
