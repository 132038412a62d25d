import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { insideUser } from "./launch.ts";

/** Copied from the host when there: what programs and runtimes read, none of it secret. */
const copied: readonly string[] = [
  "alternatives",
  "ca-certificates.conf",
  "debian_version",
  "fonts",
  "gai.conf",
  "host.conf",
  "inputrc",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "localtime",
  "magic",
  "mime.types",
  "networks",
  "os-release",
  "perl",
  "protocols",
  "python3",
  "rpc",
  "services",
  "shells",
  "ssl/certs",
  "ssl/openssl.cnf",
  "terminfo",
  "timezone",
];

/** Versioned names. */
const copiedPattern = /^(java-\d.*|python3\.\d+)$/;

const files: Readonly<Record<string, string>> = {
  passwd: [
    "root:x:0:0:root:/nonexistent:/usr/sbin/nologin",
    `${insideUser.name}:x:${insideUser.uid}:${insideUser.uid}:app:/tmp:/bin/sh`,
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    "",
  ].join("\n"),
  group: [
    "root:x:0:",
    `${insideUser.name}:x:${insideUser.uid}:`,
    "tty:x:5:",
    "nogroup:x:65534:",
    "",
  ].join("\n"),
  "nsswitch.conf": [
    "passwd: files",
    "group: files",
    "shadow: files",
    "hosts: files dns",
    "networks: files",
    "protocols: files",
    "services: files",
    "",
  ].join("\n"),
};

/**
 * Makes the one /etc that all sandboxes of a cloud show, read-only: so it costs an instance
 * one mount. Replaces an earlier one; running sandboxes keep theirs.
 */
export function makeEtc(directory: string, nameServers: readonly string[]): void {
  const fresh = `${directory}.part`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(`${fresh}/ssl`, { recursive: true, mode: 0o755 });
  const versioned = readdirSync("/etc").filter((name) => copiedPattern.test(name));
  for (const name of [...copied, ...versioned]) {
    if (!existsSync(`/etc/${name}`)) continue;
    cpSync(`/etc/${name}`, `${fresh}/${name}`, { recursive: true, verbatimSymlinks: true });
  }
  for (const [name, content] of Object.entries(files)) writeFileSync(`${fresh}/${name}`, content);
  const servers = nameServers.map((address) => `nameserver ${address}\n`);
  writeFileSync(`${fresh}/resolv.conf`, `${servers.join("")}options timeout:2 attempts:3\n`);
  symlinkSync("/run/hosts", `${fresh}/hosts`);
  symlinkSync("/proc/self/mounts", `${fresh}/mtab`);
  rmSync(directory, { recursive: true, force: true });
  renameSync(fresh, directory);
}
