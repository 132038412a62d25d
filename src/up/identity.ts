import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import type { Random } from "../base/time.ts";
import { type NodeName, parseNodeName } from "../model/names.ts";

/** What names a cloud on its host; made once for a data directory. */
export interface CloudIdentity {
  /** Six characters of [a-z0-9]: part of every interface, cgroup and directory Lode makes. */
  readonly cloud: string;
  /** Host uid of offset 0; the cloud owns the next million, one for each app it ever has. */
  readonly uidBase: number;
  /** This machine's name in the pool; stays when the host is renamed. */
  readonly node: NodeName;
}

/**
 * Bases lie in systemd's container range (524288–1879048191) above what is commonly handed to
 * subuids, a million apart, so that clouds on one host rarely share a uid.
 */
const uidRangeFirst = 600_000_000;
const uidRangeSize = 1_000_000;
const uidRanges = 1_000;

export function openIdentity(dataDirectory: string, random: Random): Result<CloudIdentity, string> {
  const file = join(dataDirectory, "cloud.json");
  if (existsSync(file)) return readIdentity(file);
  const identity: CloudIdentity = {
    cloud: random.token(6),
    uidBase: uidRangeFirst + Math.floor(random.next() * uidRanges) * uidRangeSize,
    node: nodeNameOf(hostname()),
  };
  writeFileSync(`${file}.new`, `${JSON.stringify(identity)}\n`, { flush: true });
  renameSync(`${file}.new`, file);
  return ok(identity);
}

/** The first label of a host name, as far as it is a valid name. */
function nodeNameOf(host: string): NodeName {
  const label = host.toLowerCase().split(".")[0] ?? "";
  const name = parseNodeName(label.replace(/[^a-z0-9-]/g, "-"));
  return name.ok ? name.value : ("node" as NodeName);
}

function readIdentity(file: string): Result<CloudIdentity, string> {
  try {
    const value = JSON.parse(readFileSync(file, "utf8")) as Partial<CloudIdentity>;
    if (
      typeof value.cloud === "string" &&
      /^[a-z0-9]{6}$/.test(value.cloud) &&
      typeof value.uidBase === "number" &&
      Number.isSafeInteger(value.uidBase) &&
      value.uidBase >= 1000 &&
      typeof value.node === "string" &&
      parseNodeName(value.node).ok
    ) {
      return ok({ cloud: value.cloud, uidBase: value.uidBase, node: value.node });
    }
  } catch {
    // Told below: what it holds, not why JSON.parse failed, is what the operator can mend.
  }
  return err(`${file} is damaged; restore it from a backup (it holds the cloud's id and uid base)`);
}

/** Makes the data directory; the agent opens to apps what they must pass through. */
export function prepareDataDirectory(path: string): Result<void, string> {
  try {
    mkdirSync(path, { recursive: true, mode: 0o711 });
    return ok(undefined);
  } catch (cause) {
    return err(`cannot make the data directory ${path}: ${(cause as Error).message}`);
  }
}
