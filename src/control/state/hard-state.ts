import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Change, Entry, Ledger, LedgerError, Revision, Watch } from "../../fabric/ledger.ts";
import type { App } from "../../model/app.ts";
import type { Assignment } from "../../model/instance.ts";
import { appKey, keys } from "../../model/keys.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../../model/names.ts";
import {
  type Applied,
  account,
  applyChanges,
  attach,
  detach,
  type RecordChange,
} from "../../scheduler/apply.ts";
import {
  appHost,
  appOfHost,
  emptySnapshot,
  type HostClaim,
  type Snapshot,
} from "../../scheduler/snapshot.ts";
import { ColdApps, type ColdChange } from "./cold-apps.ts";
import { readAll, readApp } from "./read-ledger.ts";

/** What became different, in the terms of `Applied`. */
export type SnapshotChange = Omit<Applied, "snapshot"> & {
  /** Of any app, also of one that is not in the snapshot. */
  readonly releasesChanged: boolean;
};

const reloadDelayMs = 500;
/** What was written last before a start may have been left half done: it is looked at. */
const recentRevisions = 1_000;
/** Everything but apps' records, which are read when somebody looks at the app. */
const sharedPrefixes = [keys.projects, keys.nodes, keys.certificates, "/counters/", keys.leader];

/**
 * Hard state in memory, as the newest snapshot. Of apps that nobody looks at only an index is
 * kept; `load` reads one into the snapshot, `evict` lets it go.
 *
 *   loading → following (watch) → closed
 *      └──────────┘ the history was compacted, or the ledger failed: load again
 *
 *   an app:  cold → being read (again, if it changed meanwhile) → in the snapshot → cold
 */
export class HardState {
  snapshot: Snapshot = emptySnapshot;
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #domain: string;
  readonly #onChange: (change: SnapshotChange) => void;
  #cold = new ColdApps();
  /** Apps by project. */
  #counts = new Map<string, number>();
  /** Apps that are being read, with the revision that last changed them since. */
  readonly #reading = new Map<string, Revision>();
  readonly #loads = new Map<string, Promise<Result<void, LedgerError>>>();
  readonly #index = Promise.withResolvers<void>();
  #isIndexed = false;
  #watch: Watch | null = null;
  #closed = false;
  #waiting: { readonly revision: Revision; readonly resolve: () => void }[] = [];

  constructor(
    ledger: Ledger,
    clock: Clock,
    domain: string,
    onChange: (change: SnapshotChange) => void,
  ) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#domain = domain;
    this.#onChange = onChange;
  }

  /** Resolves once the ledger has answered; `indexed` tells when the rest is read, too. */
  async start(): Promise<Result<void, LedgerError>> {
    const listed = await this.#ledger.list(keys.leader);
    if (!listed.ok) return err(within("reading hard state", listed.error));
    void this.#follow();
    return ok(undefined);
  }

  /** Resolves when the snapshot is one of the ledger, or it is closed. */
  get indexed(): Promise<void> {
    return this.#index.promise;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** All that have a record, in the snapshot or not. */
  get appCount(): number {
    let sum = 0;
    for (const count of this.#counts.values()) sum += count;
    return sum;
  }

  appCountOf(project: ProjectName): number {
    return this.#counts.get(project) ?? 0;
  }

  ownerOf(instance: InstanceId): string | null {
    return this.snapshot.owners.get(instance) ?? this.#cold.ownerOfInstance(instance);
  }

  /** Resolves when the snapshot holds what was written at this revision, or it is closed. */
  reached(revision: Revision): Promise<void> {
    if (this.snapshot.revision >= revision || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ revision, resolve }));
  }

  /** Whether the app is there, as far as is known, but not in the snapshot. */
  isCold(key: string): boolean {
    return !this.#isIndexed || this.#cold.has(key);
  }

  /** Those of the apps that exist are in the snapshot when it resolves. */
  async load(apps: Iterable<string>): Promise<Result<void, LedgerError>> {
    if (!this.#isIndexed) await this.indexed;
    const loads = [...apps].filter((key) => this.#cold.has(key)).map((key) => this.#load(key));
    for (const loaded of await Promise.all(loads)) if (!loaded.ok) return loaded;
    return ok(undefined);
  }

  /** Nobody looks at them any more. */
  evict(apps: Iterable<string>): void {
    const known = [...apps].filter((key) => this.snapshot.apps.get(key) !== undefined);
    for (const key of known) this.#chill(key);
    this.snapshot = detach(this.snapshot, known);
  }

  close(): void {
    this.#closed = true;
    this.#watch?.cancel();
    this.#index.resolve();
    this.#release();
  }

  #chill(key: string): void {
    const state = this.snapshot.apps.get(key);
    if (state === undefined) return;
    if (state.app !== null) this.#cold.putRecord(key, true);
    for (const { value } of state.assignments) this.#cold.putAssignment(value);
    for (const host of state.hosts) {
      if (host !== this.#ownHostOf(key)) this.#cold.putHost(key, host);
    }
  }

  #ownHostOf(key: string): string {
    const [project, name] = key.split("/") as [ProjectName, AppName];
    return appHost({ project, name }, this.#domain);
  }

  #load(key: string): Promise<Result<void, LedgerError>> {
    const underWay = this.#loads.get(key);
    if (underWay !== undefined) return underWay;
    const load = this.#readUntilSettled(key).finally(() => {
      this.#loads.delete(key);
      this.#reading.delete(key);
    });
    this.#loads.set(key, load);
    return load;
  }

  async #readUntilSettled(key: string): Promise<Result<void, LedgerError>> {
    while (this.#cold.has(key) && !this.#closed) {
      const names = this.#cold.namesOf(key);
      this.#reading.set(key, 0);
      const read = await readApp(this.#ledger, this.#cold, key, this.#domain);
      if (!read.ok) return err(within(`reading ${key}`, read.error));
      const { entries, oldest, newest } = read.value;
      await this.reached(newest);
      const isSame = (this.#reading.get(key) ?? 0) <= oldest && this.#cold.namesOf(key) === names;
      if (!isSame || !this.#cold.has(key)) continue;
      this.#cold.take(key);
      this.snapshot = attach(this.snapshot, applyChanges(emptySnapshot, newest, entries).snapshot);
    }
    return ok(undefined);
  }

  /** Reads what is not of apps, and the index of these, while the watch goes on from before. */
  async #begin(): Promise<Result<Watch, LedgerError>> {
    const before = this.snapshot;
    const listed = await this.#ledger.list(keys.leader);
    if (!listed.ok) return err(within("reading hard state", listed.error));
    const { revision } = listed.value;
    const watch = await this.#ledger.watch("", revision);
    if (!watch.ok) return err(within("watching hard state", watch.error));
    const since = before.revision > 0 ? before.revision : revision - recentRevisions;
    const read = await this.#readIndex(revision, since);
    if (!read.ok) {
      watch.value.cancel();
      return err(within("reading hard state", read.error));
    }
    if (this.#closed) watch.value.cancel();
    this.#isIndexed = true;
    // What changed before that was not told.
    for (const key of this.#reading.keys()) this.#reading.set(key, revision);
    const wasLoaded = [...before.apps.entries()].map(([key]) => key);
    this.#take(read.value.snapshot, {
      apps: new Set([...read.value.noticed, ...wasLoaded]),
      nodesChanged: true,
      certificatesChanged: true,
      leaderChanged: true,
      releasesChanged: true,
    });
    this.#index.resolve();
    return watch;
  }

  /** @returns also the apps that something is to be done for, as far as the index shows. */
  async #readIndex(
    revision: Revision,
    since: Revision,
  ): Promise<Result<{ snapshot: Snapshot; noticed: ReadonlySet<string> }, LedgerError>> {
    const cold = new ColdApps();
    const counts = new Map<string, number>();
    const noticed = new Set<string>();
    let snapshot = emptySnapshot;
    const takeApp = ({ value, modRevision }: Entry) => {
      const { project, name, target, serving, removing } = JSON.parse(value) as App;
      const key = appKey(project, name);
      cold.putRecord(key, true);
      counts.set(project, (counts.get(project) ?? 0) + 1);
      if (removing || target !== serving || modRevision > since) noticed.add(key);
    };
    const takeAssignment = ({ value, modRevision }: Entry) => {
      const assignment = JSON.parse(value) as Assignment;
      const key = appKey(assignment.project, assignment.app);
      const isLeft = !cold.hasRecord(key);
      if (isLeft || assignment.drain !== null || modRevision > since) noticed.add(key);
      return cold.putAssignment(assignment);
    };
    const takers: readonly (readonly [string, (entries: readonly Entry[]) => void])[] = [
      ...sharedPrefixes.map((prefix): [string, (entries: readonly Entry[]) => void] => [
        prefix,
        (entries) => {
          snapshot = applyChanges(snapshot, revision, entries).snapshot;
        },
      ]),
      [keys.apps, (entries) => entries.forEach(takeApp)],
      [
        keys.assignments,
        (entries) => {
          snapshot = accountAll(snapshot, entries.map(takeAssignment));
        },
      ],
      [keys.hosts, (entries) => this.#takeHosts(cold, entries)],
    ];
    for (const [prefix, take] of takers) {
      const read = await readAll(this.#ledger, this.#clock, prefix, take);
      if (!read.ok) return read;
    }
    this.#cold = cold;
    this.#counts = counts;
    return ok({ snapshot: { ...snapshot, revision }, noticed });
  }

  #takeHosts(cold: ColdApps, entries: readonly Entry[]): void {
    for (const { key: at, value } of entries) {
      const { project, app } = JSON.parse(value) as HostClaim;
      const key = `${project}/${app}`;
      const host = at.slice(keys.hosts.length);
      if (host !== this.#ownHostOf(key)) cold.putHost(key, host);
    }
  }

  async #follow(): Promise<void> {
    let watch: Watch | null = null;
    while (!this.#closed) {
      if (watch !== null) {
        this.#watch = watch;
        for await (const { revision, changes } of watch) this.#apply(revision, changes);
      }
      if (this.#closed) return;
      const begun = await this.#begin();
      watch = begun.ok ? begun.value : null;
      if (!begun.ok) {
        await new Promise<void>((resolve) => this.#clock.after(reloadDelayMs, resolve));
      }
    }
  }

  #apply(revision: Revision, changes: readonly Change[]): void {
    const warm: RecordChange[] = [];
    const cold: ColdChange[] = [];
    const touched = new Set<string>();
    let releasesChanged = false;
    for (const change of changes) {
      const record = toRecordChange(change);
      releasesChanged ||= record.key.startsWith(keys.releases);
      this.#count(record);
      const app = this.#appOf(record);
      // Also one in the snapshot: it may be let go again before it has been read.
      if (app !== null && this.#reading.has(app)) this.#reading.set(app, revision);
      if (app === null || !this.#cold.has(app)) {
        warm.push(record);
        continue;
      }
      touched.add(app);
      cold.push(this.#applyCold(app, record));
    }
    const applied = applyChanges(this.snapshot, revision, warm);
    const { snapshot, ...change } = applied;
    const apps = touched.size === 0 ? change.apps : new Set([...change.apps, ...touched]);
    this.#take(accountAll(snapshot, cold), { ...change, apps, releasesChanged });
  }

  /** The app whose record it is; null: it is of none, or of one that is not known. */
  #appOf({ key, value }: RecordChange): string | null {
    const [, kind, first = "", second = ""] = key.split("/");
    switch (kind) {
      case "apps":
      case "releases":
      case "deployments":
        return `${first}/${second}`;
      case "assignments": {
        const owner = this.ownerOf(second as InstanceId);
        if (owner !== null || value === null) return owner;
        const { project, app } = JSON.parse(value) as Assignment;
        return appKey(project, app);
      }
      case "hosts": {
        if (value === null) return this.#ownerOfHost(first);
        const { project, app } = JSON.parse(value) as HostClaim;
        return `${project}/${app}`;
      }
      default:
        return null;
    }
  }

  /** Of a cold app's own host nothing is kept but what the name says. */
  #ownerOfHost(host: string): string | null {
    const claim = this.snapshot.hosts.get(host)?.value;
    if (claim !== undefined) return `${claim.project}/${claim.app}`;
    return this.#cold.ownerOfHost(host) ?? appOfHost(host, this.#domain)[0] ?? null;
  }

  #applyCold(app: string, { key, value }: RecordChange): ColdChange {
    const [, kind, first = "", second = ""] = key.split("/");
    if (kind === "apps") this.#cold.putRecord(app, value !== null);
    else if (kind === "hosts" && value === null) this.#cold.removeHost(first);
    else if (kind === "hosts") {
      if (first !== this.#ownHostOf(app)) this.#cold.putHost(app, first);
    } else if (kind === "assignments") {
      return value === null
        ? this.#cold.removeAssignment(first as NodeName, second as InstanceId)
        : this.#cold.putAssignment(JSON.parse(value) as Assignment);
    }
    return { more: [], less: [] };
  }

  /** To be called before the change is applied. */
  #count({ key, value }: RecordChange): void {
    if (!key.startsWith(keys.apps)) return;
    const app = key.slice(keys.apps.length);
    const [project = ""] = app.split("/");
    const wasThere =
      this.#cold.hasRecord(app) || (this.snapshot.apps.get(app)?.app ?? null) !== null;
    const difference = (value === null ? 0 : 1) - (wasThere ? 1 : 0);
    if (difference === 0) return;
    const count = (this.#counts.get(project) ?? 0) + difference;
    if (count === 0) this.#counts.delete(project);
    else this.#counts.set(project, count);
  }

  #take(snapshot: Snapshot, change: SnapshotChange): void {
    this.snapshot = snapshot;
    this.#onChange(change);
    if (this.#waiting.length > 0) this.#release();
  }

  #release(): void {
    const { revision } = this.snapshot;
    const due = this.#waiting.filter((waiter) => this.#closed || waiter.revision <= revision);
    this.#waiting = this.#waiting.filter((waiter) => !due.includes(waiter));
    for (const { resolve } of due) resolve();
  }
}

function accountAll(snapshot: Snapshot, changes: readonly ColdChange[]): Snapshot {
  if (changes.length === 0) return snapshot;
  return account(
    snapshot,
    changes.flatMap(({ more }) => more),
    changes.flatMap(({ less }) => less),
  );
}

function toRecordChange(change: Change): RecordChange {
  return change.kind === "put"
    ? change.entry
    : { key: change.key, value: null, modRevision: change.modRevision };
}

function within(doing: string, error: LedgerError): LedgerError {
  return { ...error, message: `${doing}: ${error.message}` };
}
