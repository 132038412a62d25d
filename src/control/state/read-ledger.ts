import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Entry, Ledger, LedgerError, Revision } from "../../fabric/ledger.ts";
import { keys } from "../../model/keys.ts";
import type { AppName, ProjectName } from "../../model/names.ts";
import { appHost } from "../../scheduler/snapshot.ts";
import type { ColdApps } from "./cold-apps.ts";

/** Entries read at one time; between two lots others get their turn. */
const lotSize = 1000;

/** All entries under a prefix, lot by lot; the revision is that of the first lot. */
export async function readAll(
  ledger: Ledger,
  clock: Clock,
  prefix: string,
  take: (entries: readonly Entry[]) => void,
): Promise<Result<Revision, LedgerError>> {
  let first: Revision | null = null;
  let after = "";
  for (;;) {
    const listed = await ledger.list(prefix, { after, limit: lotSize });
    if (!listed.ok) return listed;
    const { entries, revision } = listed.value;
    first ??= revision;
    take(entries);
    const last = entries.at(-1);
    if (last === undefined || entries.length < lotSize) return ok(first);
    after = last.key;
    await new Promise<void>((resolve) => clock.after(0, resolve));
  }
}

export interface AppRecords {
  readonly entries: readonly Entry[];
  /** Everything is at least as new as the first, and at most as new as the second. */
  readonly oldest: Revision;
  readonly newest: Revision;
}

/** All records of one app that is cold. */
export async function readApp(
  ledger: Ledger,
  cold: ColdApps,
  key: string,
  domain: string,
): Promise<Result<AppRecords, LedgerError>> {
  const [project, name] = key.split("/") as [ProjectName, AppName];
  const hosts = [...cold.hostsOf(key), appHost({ project, name }, domain)];
  const single = [
    keys.app(project, name),
    ...cold.assignmentsOf(key).map(({ node, id }) => keys.assignment(node, id)),
    ...hosts.map((host) => keys.host(host)),
  ];
  const read = await Promise.all([
    ...single.map((one) => readOne(ledger, one)),
    ledger.list(keys.releasesOf(project, name)),
    ledger.list(keys.deploymentsOf(project, name)),
  ]);
  const entries: Entry[] = [];
  let oldest = Number.POSITIVE_INFINITY;
  let newest = 0;
  for (const listed of read) {
    if (!listed.ok) return err(listed.error);
    for (const entry of listed.value.entries) if (isOf(key, entry)) entries.push(entry);
    oldest = Math.min(oldest, listed.value.revision);
    newest = Math.max(newest, listed.value.revision);
  }
  return ok({ entries, oldest, newest });
}

/** The one key; a listing, unlike a `get`, tells its revision. */
async function readOne(ledger: Ledger, key: string): ReturnType<Ledger["list"]> {
  const listed = await ledger.list(key, { limit: 1 });
  if (!listed.ok) return listed;
  const { entries, revision } = listed.value;
  return ok({ entries: entries.filter((entry) => entry.key === key), revision });
}

/** The host that follows from an app's name may be another's. */
function isOf(key: string, { key: at, value }: Entry): boolean {
  if (!at.startsWith(keys.hosts)) return true;
  const { project, app } = JSON.parse(value) as { project: string; app: string };
  return `${project}/${app}` === key;
}
