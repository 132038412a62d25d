import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const setting = "/proc/sys/net/ipv4/ip_forward";
const marker = "forwarding-was-off";

/** Turns on IPv4 forwarding; notes in the run directory when it had been off. */
export function enableForwarding(runDirectory: string): void {
  if (readFileSync(setting, "utf8").trim() === "1") return;
  writeFileSync(`${runDirectory}/${marker}`, "");
  writeFileSync(setting, "1");
}

/**
 * Puts back what `enableForwarding` changed. While another cloud still runs on this machine
 * the duty passes to it: turning forwarding off would cut its instances off.
 */
export function restoreForwarding(runDirectory: string): void {
  const note = `${runDirectory}/${marker}`;
  if (!existsSync(note)) return;
  rmSync(note);
  const heir = otherClouds().find((directory) => directory !== runDirectory);
  if (heir === undefined) writeFileSync(setting, "0");
  else writeFileSync(`${heir}/${marker}`, "");
}

/** Run directories of clouds that have a bridge. */
function otherClouds(): string[] {
  const bridge = /^lode-([a-z0-9]{6})$/;
  return readdirSync("/sys/class/net")
    .map((name) => bridge.exec(name)?.[1])
    .filter((cloud) => cloud !== undefined)
    .map((cloud) => `/run/lode-${cloud}`)
    .filter((directory) => existsSync(directory));
}
