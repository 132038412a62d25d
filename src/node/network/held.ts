import { closeSync, openSync, readdirSync, readlinkSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { inNetworkNamespace } from "../linux/namespaces.ts";

/**
 * Network namespaces that processes of this machine live in, by the IPv4 address of their
 * eth0, as open descriptors. Slots of an earlier lode are found so: their instances hold them.
 */
export function findHeldNamespaces(isOurs: (address: string) => boolean): Map<string, number> {
  const found = new Map<string, number>();
  const seen = new Set([namespaceOf("self")]);
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const namespace = namespaceOf(pid);
    if (namespace === null || seen.has(namespace)) continue;
    seen.add(namespace);
    const held = openHeld(`/proc/${pid}/ns/net`);
    if (held === null) continue;
    if (isOurs(held.address) && !found.has(held.address)) found.set(held.address, held.descriptor);
    else closeSync(held.descriptor);
  }
  return found;
}

/** Null when the process has ended meanwhile. */
function openHeld(path: string): { descriptor: number; address: string } | null {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    return null;
  }
  const interfaces = inNetworkNamespace(`/proc/self/fd/${descriptor}`, networkInterfaces);
  const ipv4 = interfaces["eth0"]?.find(({ family }) => family === "IPv4");
  return { descriptor, address: ipv4?.address ?? "" };
}

function namespaceOf(pid: string): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return null;
  }
}
