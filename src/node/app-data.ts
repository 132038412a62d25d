import type { Clock } from "../base/time.ts";
import type { Change, Entry } from "../fabric/ledger.ts";
import type { App } from "../model/app.ts";
import { appKey, keys } from "../model/keys.ts";
import type { AppName, ProjectName } from "../model/names.ts";
import type { Layout } from "./drivers/layout.ts";
import { removeTree } from "./drivers/tree.ts";
import type { Follower } from "./follow.ts";
import { type Leftovers, namesIn, Turns } from "./leftovers.ts";
import type { AppLogs } from "./logs/app-logs.ts";
import { type CloudPaths, nodePaths } from "./paths.ts";
import { removeSubvolume } from "./volume/subvolumes.ts";

/** Removes what this node keeps of an app, once the app and its last instance are gone. */
export class AppData implements Follower {
  readonly #paths: CloudPaths;
  readonly #clock: Clock;
  readonly #layout: Layout;
  readonly #logs: AppLogs;
  readonly #leftovers: Leftovers;
  readonly #inUse: (project: ProjectName, app: AppName) => boolean;
  /** `project/app` → uid offset. */
  #apps = new Map<string, number>();
  /** Before the listing under way. */
  #before = new Map<string, number>();
  /** Removed apps whose instances still end. */
  readonly #removed = new Map<string, number>();

  constructor(
    paths: CloudPaths,
    clock: Clock,
    layout: Layout,
    logs: AppLogs,
    leftovers: Leftovers,
    inUse: (project: ProjectName, app: AppName) => boolean,
  ) {
    this.#paths = paths;
    this.#clock = clock;
    this.#layout = layout;
    this.#logs = logs;
    this.#leftovers = leftovers;
    this.#inUse = inUse;
  }

  begin(): void {
    this.#before = this.#apps;
    this.#apps = new Map();
  }

  listed(entries: readonly Entry[]): void {
    for (const entry of entries) this.#put(entry);
  }

  end(): void {
    for (const [key, offset] of this.#before) if (!this.#apps.has(key)) this.#remove(key, offset);
    this.#before = new Map();
    void this.#removeStrays();
  }

  change(change: Change): void {
    if (change.kind === "put") {
      this.#leftovers.changed();
      return this.#put(change.entry);
    }
    const key = change.key.slice(keys.apps.length);
    const offset = this.#apps.get(key);
    this.#apps.delete(key);
    if (offset !== undefined) this.#remove(key, offset);
  }

  offsetOf(project: ProjectName, app: AppName): number | null {
    const key = appKey(project, app);
    return this.#apps.get(key) ?? this.#removed.get(key) ?? null;
  }

  /** An instance is gone: perhaps it was the last of a removed app. */
  instanceGone(project: ProjectName, app: AppName): void {
    const key = appKey(project, app);
    const offset = this.#removed.get(key);
    if (offset !== undefined) this.#remove(key, offset);
  }

  #put(entry: Entry): void {
    const app = JSON.parse(entry.value) as App;
    this.#apps.set(appKey(app.project, app.name), app.uidOffset);
  }

  #remove(key: string, offset: number): void {
    const [project, app] = key.split("/") as [ProjectName, AppName];
    if (this.#inUse(project, app)) {
      this.#removed.set(key, offset);
      return;
    }
    this.#removed.delete(key);
    void this.#layout.forget(offset);
    // A new app may have the name already: its data is not the old one's.
    if (this.#apps.has(key)) return;
    void this.#logs.forget(project, app);
    removeSubvolume(nodePaths.volumeOf(this.#paths, project, app));
  }

  /** What was removed while no lode ran. */
  async #removeStrays(): Promise<void> {
    const turns = new Turns(this.#clock);
    for (const kind of [nodePaths.volumes, nodePaths.logs]) {
      for (const project of await namesIn(kind(this.#paths))) {
        for (const app of await namesIn(`${kind(this.#paths)}/${project}`)) {
          await turns.next();
          const key = `${project}/${app}`;
          if (this.#apps.has(key) || this.#removed.has(key)) continue;
          const path = `${kind(this.#paths)}/${key}`;
          if (kind === nodePaths.volumes) removeSubvolume(path);
          else await removeTree(path);
        }
      }
    }
    await this.#leftovers.collect();
  }
}
