import { renameSync } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Random, Timer, Timestamp } from "../base/time.ts";
import type { Wire } from "../fabric/wire.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../model/names.ts";
import { type NodeCollected, subjects } from "../model/wire.ts";
import { isPartial } from "./drivers/layout.ts";
import { removeTree } from "./drivers/tree.ts";
import type { Instance } from "./instance.ts";
import { type CloudPaths, nodePaths } from "./paths.ts";
import type { Pinned, Preparation } from "./preparation.ts";
import type { Releases } from "./releases.ts";

const defaultPeriodMs = 600_000;
/** Folders and files looked at in one turn, and the time until the next: little of a core. */
const turnSteps = 100;
const turnPauseMs = 50;

export interface LeftoversOptions {
  readonly paths: CloudPaths;
  readonly clock: Clock;
  readonly random: Random;
  readonly node: NodeName;
  readonly wire: Wire;
  readonly releases: Releases;
  readonly preparation: Preparation;
  readonly instances: ReadonlyMap<InstanceId, Instance>;
  offsetOf(project: ProjectName, app: AppName): number | null;
  /** How long after a change of an app its leftovers are looked for; 10 min unless given. */
  readonly leftoversMs?: number;
}

/**
 * Removes the release trees and layers on this node that no release needs any more:
 *
 *   waiting → listing what is there → reading every release → removing the rest → waiting
 *
 * What is used here stays even if its release is gone; that is looked at in the instant in which
 * a folder is renamed, after which it is nobody's. What a release needs that was recorded
 * meanwhile is in use, or is laid out or built again when it is.
 */
export class Leftovers {
  readonly #options: LeftoversOptions;
  readonly #periodMs: number;
  #timer: Timer | null = null;
  #changedAt: Timestamp | null = null;
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(options: LeftoversOptions) {
    this.#options = options;
    this.#periodMs = options.leftoversMs ?? defaultPeriodMs;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** An app has perhaps a new release, so that an old one may go: by then it has. */
  changed(): void {
    this.#changedAt = this.#options.clock.now();
    this.#timer ??= this.#options.clock.every(this.#periodMs, () => this.#tick());
  }

  collect(): Promise<void> {
    this.#running ??= this.#collect().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Once more after the last change: releases end some time after it. */
  #tick(): void {
    if (this.#closed || this.#changedAt === null) return;
    const isOld = this.#options.clock.now() - this.#changedAt > this.#periodMs;
    if (isOld) this.#changedAt = null;
    void this.collect();
  }

  async #collect(): Promise<void> {
    const { clock, releases, offsetOf, random, instances, wire, node } = this.#options;
    const turns = new Turns(clock);
    // Listed before the releases, so that what a new one lays out meanwhile is not in it.
    const unneeded = await this.#list(turns);
    const looked = await releases.each(clock, (release) => {
      const uidOffset = offsetOf(release.project, release.app);
      if (uidOffset !== null)
        for (const name of namesOf({ release, uidOffset })) unneeded.delete(name);
    });
    if (!looked.ok) return;
    releases.keep([...instances.values()].map(({ assignment }) => assignment));
    let trees = 0;
    let bytes = 0;
    for (const [name, path] of unneeded) {
      await turns.next();
      if (this.#closed) break;
      if (this.#isInUse(name)) continue;
      const leaving = `${path}.${random.token(8)}`;
      try {
        renameSync(path, leaving);
      } catch {
        // Its app was removed meanwhile, and this with it.
        continue;
      }
      trees += 1;
      bytes += await sizeOf(leaving, turns);
      await removeTree(leaving);
    }
    if (trees > 0) {
      wire.publish(subjects.nodeCollected(node), { trees, bytes } satisfies NodeCollected);
    }
  }

  /** By `namesOf`; what an ended lode left half removed is under no such name. */
  async #list(turns: Turns): Promise<Map<string, string>> {
    const { paths } = this.#options;
    const found = new Map<string, string>();
    const root = nodePaths.releases(paths);
    for (const offset of await namesIn(root)) {
      await turns.next();
      for (const tree of await namesIn(join(root, offset))) {
        if (!isPartial(tree)) found.set(`${offset}/${tree}`, join(root, offset, tree));
      }
    }
    const layers = nodePaths.layers(paths);
    for (const layer of await namesIn(layers)) found.set(layer, join(layers, layer));
    return found;
  }

  #isInUse(name: string): boolean {
    for (const pinned of this.#inUse()) if (namesOf(pinned).includes(name)) return true;
    return false;
  }

  /** What instances, builds and one-off programs need at this moment, whatever the ledger says. */
  *#inUse(): Iterable<Pinned> {
    const { preparation, instances, releases } = this.#options;
    yield* preparation.pinned;
    for (const { assignment } of instances.values()) {
      const { project, app, release: number, uidOffset } = assignment;
      // One that has not read its release uses nothing of it.
      const release = releases.known(project, app, number);
      if (release !== null) yield { release, uidOffset };
    }
  }
}

/** Of its tree and its layers. */
function namesOf({ release, uidOffset }: Pinned): readonly string[] {
  return [
    `${uidOffset}/${release.manifest}`,
    ...release.config.build.map(({ cacheKey }) => cacheKey),
  ];
}

/** What its removal gives back: files that have other names stay. */
async function sizeOf(path: string, turns: Turns): Promise<number> {
  await turns.next();
  const found = await lstat(path).catch(() => null);
  if (found === null) return 0;
  if (!found.isDirectory()) return found.nlink === 1 ? found.blocks * 512 : 0;
  let bytes = found.blocks * 512;
  for (const name of await readdir(path)) bytes += await sizeOf(join(path, name), turns);
  return bytes;
}

/** Long work in the background goes on only so long before it lets others have their turn. */
export class Turns {
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

/** Of the folders in a folder. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch {
    return [];
  }
}
