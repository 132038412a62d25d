import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

interface HostSetting {
  readonly path: string;
  /** In the run directory, with the value that was there before. */
  readonly note: string;
  readonly wanted: string;
  isEnough(value: string): boolean;
}

/** What Lode changes of a machine's kernel settings, as long as a cloud runs. */
const settings: readonly HostSetting[] = [
  {
    path: "/proc/sys/net/ipv4/ip_forward",
    note: "was.ip_forward",
    wanted: "1",
    isEnough: (value) => value === "1",
  },
  // One table for the machine, 2.4 million on 24 GB: a single app's processes could fill it,
  // and no gateway could accept any more. Without an end, as systemd sets it too, memory
  // decides, and an app's open files count against its own.
  {
    path: "/proc/sys/fs/file-max",
    note: "was.file-max",
    wanted: "9223372036854775807",
    isEnough: (value) => Number(value) >= 2 ** 62,
  },
];

/** Changes what is not as it must be, and notes in the run directory what it was. */
export function changeHostSettings(runDirectory: string): void {
  for (const { path, note, wanted, isEnough } of settings) {
    const value = readFileSync(path, "utf8").trim();
    if (isEnough(value)) continue;
    writeFileSync(`${runDirectory}/${note}`, value);
    writeFileSync(path, wanted);
  }
}

/**
 * Puts back what `changeHostSettings` changed. While another cloud still runs on this machine
 * the duty passes to it: turning forwarding off would cut its instances off.
 */
export function restoreHostSettings(runDirectory: string): void {
  const heir = otherClouds().find((directory) => directory !== runDirectory);
  for (const { path, note } of settings) {
    const file = `${runDirectory}/${note}`;
    if (!existsSync(file)) continue;
    const value = readFileSync(file, "utf8");
    rmSync(file);
    writeFileSync(heir === undefined ? path : `${heir}/${note}`, value);
  }
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
