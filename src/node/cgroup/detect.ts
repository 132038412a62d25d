import { accessSync, constants } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { KernelEvents } from "../linux/kernel-events.ts";
import type { CgroupTree } from "./cgroup.ts";
import { readControl } from "./control-files.ts";
import { memoryCeilings } from "./memory.ts";
import { type ControllerV1, controllersV1, openTreeV1, type PathsV1 } from "./v1.ts";
import { missingControllers, openTreeV2, usedControllers } from "./v2.ts";

export interface OpenCgroupTreeOptions {
  readonly cloud: string;
  /** The cloud's run directory, for v1's helper mount. */
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly events: KernelEvents;
  /** Who besides root may thaw what is frozen; null: nobody. */
  readonly thawUid?: number | null;
  /** v2 only: an existing cgroup delegated to Lode, as a path; the mount's root otherwise. */
  readonly delegated?: string;
}

/** Where the controllers are that instances need. */
export type CgroupLayout =
  | { readonly version: 1; readonly mounts: PathsV1 }
  | { readonly version: 2; readonly parent: string };

/** Opens the cloud's tree in whichever version has the controllers; the error is one line. */
export function openCgroupTree(options: OpenCgroupTreeOptions): Result<CgroupTree, string> {
  const mountInfo = readControl("/proc/self/mountinfo") ?? "";
  const layout = detectCgroups(mountInfo, options.delegated ?? null);
  if (!layout.ok) return layout;
  const { cloud, clock, events } = options;
  const cores = availableParallelism();
  const thawUid = options.thawUid ?? null;
  const shared = { cloud, cores, clock, events, thawUid, memory: memoryCeilings(totalmem()) };
  if (layout.value.version === 2) {
    const { parent } = layout.value;
    return openTreeV2({ ...shared, parent, controllers: usedControllers(parent) });
  }
  const helperMount = `${options.runDirectory}/cgroup`;
  try {
    return ok(openTreeV1({ ...shared, mounts: layout.value.mounts, helperMount }));
  } catch (error) {
    return err(`cgroup v1: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Reads /proc/self/mountinfo (proc(5)) and looks into what is mounted. */
export function detectCgroups(
  mountInfo: string,
  delegated: string | null,
): Result<CgroupLayout, string> {
  const mounts = parseMounts(mountInfo);
  const unified = delegated ?? mounts.find((mount) => mount.type === "cgroup2")?.path ?? null;
  const missingV2 = unified === null ? null : missingControllers(unified);
  if (unified !== null && missingV2 === null) {
    if (isWritable(unified)) return ok({ version: 2, parent: unified });
    return err(`cgroup v2 at ${unified} cannot be written: run as root, outside a container`);
  }
  const v1 = mountsV1(mounts);
  if (v1.ok) {
    const locked = Object.values(v1.value).find((path) => !isWritable(path));
    if (locked === undefined) return ok({ version: 1, mounts: v1.value });
    return err(`cgroup v1 at ${locked} cannot be written: run as root, outside a container`);
  }
  if (unified === null && v1.error.length === controllersV1.length) {
    return err("no cgroups are mounted: mount cgroup2 at /sys/fs/cgroup");
  }
  const lacks = [
    ...(missingV2 === null ? [] : [`v2 lacks ${missingV2}`]),
    `v1 lacks ${v1.error.join(", ")}`,
  ].join("; ");
  return err(`cgroups are incomplete (${lacks}): boot with systemd.unified_cgroup_hierarchy=1`);
}

interface Mount {
  readonly path: string;
  readonly type: string;
  readonly options: readonly string[];
}

function parseMounts(mountInfo: string): Mount[] {
  return mountInfo.split("\n").flatMap((line) => {
    const [left = "", right = ""] = line.split(" - ");
    const path = left.split(" ")[4];
    const [type, , options] = right.split(" ");
    if (path === undefined || type === undefined || options === undefined) return [];
    return [{ path: unescapePath(path), type, options: options.split(",") }];
  });
}

/** mountinfo writes space, tab, newline and backslash as octal escapes. */
function unescapePath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** The error lists the controllers that no v1 hierarchy has. */
function mountsV1(mounts: readonly Mount[]): Result<PathsV1, readonly ControllerV1[]> {
  const pathOf = (controller: string) =>
    mounts.find(({ type, options }) => type === "cgroup" && options.includes(controller))?.path;
  const found = controllersV1.map((controller) => [controller, pathOf(controller)] as const);
  const missing = found.filter(([, path]) => path === undefined).map(([name]) => name);
  if (missing.length > 0) return err(missing);
  const paths = Object.fromEntries(found) as Record<ControllerV1, string>;
  const cpuset = pathOf("cpuset");
  return ok(cpuset === undefined ? paths : { ...paths, cpuset });
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
