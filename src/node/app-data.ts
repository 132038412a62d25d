import { readdir } from "node:fs/promises";
import type { Clock } from "../base/time.ts";
import type { Change, Entry } from "../fabric/ledger.ts";
import type { App } from "../model/app.ts";
import { appKey, keys } from "../model/keys.ts";
import type { AppName, ProjectName } from "../model/names.ts";
import { isPartial, type Layout } from "./drivers/layout.ts";
import { removeTree } from "./drivers/tree.ts";
import type { Follower } from "./follow.ts";
import type { AppLogs } from "./logs/app-logs.ts";
import { type CloudPaths, nodePaths } from "./paths.ts";
import type { Releases } from "./releases.ts";
import { removeSubvolume } from "./volume/subvolumes.ts";

/** Folders looked at in one turn, and the time until the next: a few per cent of a core. */
const turnSteps = 100;
const turnPauseMs = 50;

/** Removes what this node keeps of an app, once the app and its last instance are gone. */
export class AppData implements Follower {
  readonly #paths: CloudPaths;
  readonly #clock: Clock;
  readonly #layout: Layout;
  readonly #logs: AppLogs;
  readonly #releases: Releases;
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
    releases: Releases,
    inUse: (project: ProjectName, app: AppName) => boolean,
  ) {
    this.#paths = paths;
    this.#clock = clock;
    this.#layout = layout;
    this.#logs = logs;
    this.#releases = releases;
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
    if (change.kind === "put") return this.#put(change.entry);
    const key = change.key.slice(keys.apps.length);
    const offset = this.#apps.get(key);
    this.#apps.delete(key);
    if (offset !== undefined) this.#remove(key, offset);
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
    this.#releases.forget(project, app);
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
    await this.#removeUnused(turns);
  }

  /** Trees and layers that no release needs any more. */
  async #removeUnused(turns: Turns): Promise<void> {
    const root = nodePaths.releases(this.#paths);
    // Looked at before the releases, so that what a new one lays out meanwhile is not in it.
    const unneeded = new Map<string, string>();
    for (const offset of await namesIn(root)) {
      await turns.next();
      for (const tree of await namesIn(`${root}/${offset}`)) {
        if (!isPartial(tree)) unneeded.set(`${offset}/${tree}`, `${root}/${offset}/${tree}`);
      }
    }
    const layers = nodePaths.layers(this.#paths);
    for (const layer of await namesIn(layers)) unneeded.set(layer, `${layers}/${layer}`);
    const looked = await this.#releases.each(this.#clock, ({ project, app, manifest, config }) => {
      unneeded.delete(`${this.#apps.get(appKey(project, app))}/${manifest}`);
      for (const { cacheKey } of config.build) unneeded.delete(cacheKey);
    });
    if (!looked.ok) return;
    for (const path of unneeded.values()) await removeTree(path);
  }
}

/** Long work in the background goes on only so long before it lets others have their turn. */
class Turns {
  readonly #clock: Clock;
  #left = turnSteps;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async next(): Promise<void> {
    this.#left -= 1;
    if (this.#left > 0) return;
    this.#left = turnSteps;
    await new Promise<void>((resolve) => this.#clock.after(turnPauseMs, resolve));
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch {
    return [];
  }
}
