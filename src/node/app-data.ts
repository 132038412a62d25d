import { readdirSync } from "node:fs";
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

/** Removes what this node keeps of an app, once the app and its last instance are gone. */
export class AppData implements Follower {
  readonly #paths: CloudPaths;
  readonly #layout: Layout;
  readonly #logs: AppLogs;
  readonly #releases: Releases;
  readonly #inUse: (project: ProjectName, app: AppName) => boolean;
  /** `project/app` → uid offset. */
  #apps = new Map<string, number>();
  /** Removed apps whose instances still end. */
  readonly #removed = new Map<string, number>();

  constructor(
    paths: CloudPaths,
    layout: Layout,
    logs: AppLogs,
    releases: Releases,
    inUse: (project: ProjectName, app: AppName) => boolean,
  ) {
    this.#paths = paths;
    this.#layout = layout;
    this.#logs = logs;
    this.#releases = releases;
    this.#inUse = inUse;
  }

  snapshot(entries: readonly Entry[]): void {
    const before = this.#apps;
    this.#apps = new Map();
    for (const entry of entries) this.#put(entry);
    for (const [key, offset] of before) if (!this.#apps.has(key)) this.#remove(key, offset);
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
    for (const kind of [nodePaths.volumes, nodePaths.logs]) {
      for (const project of namesIn(kind(this.#paths))) {
        for (const app of namesIn(`${kind(this.#paths)}/${project}`)) {
          const key = `${project}/${app}`;
          if (this.#apps.has(key) || this.#removed.has(key)) continue;
          const path = `${kind(this.#paths)}/${key}`;
          if (kind === nodePaths.volumes) removeSubvolume(path);
          else await removeTree(path);
        }
      }
    }
    await this.#removeUnused();
  }

  /** Trees and layers that no release needs any more. */
  async #removeUnused(): Promise<void> {
    const root = nodePaths.releases(this.#paths);
    // Looked at before the releases, so that what a new one lays out meanwhile is not in it.
    const trees = namesIn(root).flatMap((offset) =>
      namesIn(`${root}/${offset}`).map((tree) => `${offset}/${tree}`),
    );
    const layers = namesIn(nodePaths.layers(this.#paths));
    const releases = await this.#releases.all();
    if (!releases.ok) return;
    const needed = new Set<string>();
    for (const { project, app, manifest, config } of releases.value) {
      needed.add(`${this.#apps.get(appKey(project, app))}/${manifest}`);
      for (const { cacheKey } of config.build) needed.add(cacheKey);
    }
    for (const tree of trees) {
      if (!isPartial(tree) && !needed.has(tree)) await removeTree(`${root}/${tree}`);
    }
    for (const layer of layers) {
      if (!needed.has(layer)) await removeTree(`${nodePaths.layers(this.#paths)}/${layer}`);
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}
