import { existsSync, readFileSync, statSync } from "node:fs";
import { nameServersMax, parseAddress } from "./addresses.ts";

/**
 * The IPv4 name servers that instances' queries are passed to, from the host's resolv.conf
 * (resolver(5)). A local stub of systemd-resolved is replaced by the servers behind it,
 * `systemdText`; other loopback servers are used as they are.
 */
export function findResolvers(hostText: string, systemdText: string | null): readonly string[] {
  const listed = nameServers(hostText);
  const stubs = ["127.0.0.53", "127.0.0.54"];
  const direct = listed.filter((address) => !stubs.includes(address));
  const behind = direct.length < listed.length && systemdText !== null ? systemdText : "";
  return [...new Set([...direct, ...nameServers(behind)])].slice(0, nameServersMax);
}

export function isLoopback(address: string): boolean {
  return address.startsWith("127.");
}

function nameServers(text: string): string[] {
  return text
    .split("\n")
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? "")
    .filter((address) => parseAddress(address) !== null);
}

const hostFile = "/etc/resolv.conf";
const systemdFile = "/run/systemd/resolve/resolv.conf";

export function readResolvers(): readonly string[] {
  const read = (path: string) => (existsSync(path) ? readFileSync(path, "utf8") : null);
  return findResolvers(read(hostFile) ?? "", read(systemdFile));
}

/** Differs from an earlier one when the host's resolvers may have changed. */
export function resolversVersion(): string {
  return [hostFile, systemdFile]
    .map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0)
    .join(" ");
}
