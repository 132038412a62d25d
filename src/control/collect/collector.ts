import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timer, Timestamp } from "../../base/time.ts";
import { formatBytes } from "../../base/units.ts";
import type { Blobs } from "../../fabric/blobs.ts";
import type { Ledger } from "../../fabric/ledger.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import { keys } from "../../model/keys.ts";
import { type Release, releaseName } from "../../model/release.ts";
import { type NodeCollected, subjects } from "../../model/wire.ts";
import { DigestFilter } from "./digest-filter.ts";

/**
 * What nobody has asked for as long as this may be collected. Who uploads a release has so long
 * from the first file to the release's record: over a slow line that takes its time.
 */
export const blobSpareMs = 6 * 3_600_000;
const firstRoundMs = 5 * 60_000;
const periodMs = 3_600_000;
const releasesPerLot = 200;
/** Work between two pauses, which leave most of a core to others: a step takes about 2 µs. */
const stepsPerTurn = 2000;
const stepsPerBlob = 80;
const pauseMs = 20;
/** What a manifest's text has before each digest. Within a JSON text a quote is escaped. */
const digestMark = '"digest":"';
const digestDigits = 64;
const overtaken = "another control leads now, or this one ends";

/** Since this control began. */
export interface Collected {
  readonly blobs: number;
  readonly blobBytes: number;
  /** Release trees and layers, removed by the nodes. */
  readonly trees: number;
  readonly treeBytes: number;
}

export interface CollectorOptions {
  readonly ledger: Ledger;
  readonly blobs: Blobs;
  readonly wire: Wire;
  readonly clock: Clock;
  /** Only one replica needs to do it; two would do no harm. */
  readonly isLeading: () => boolean;
  readonly onCollected: (message: string) => void;
  readonly onProblem: (message: string) => void;
}

/**
 * Removes the blobs that no release needs.
 *
 *   waiting → counting → marking (every release, its manifest, its files) → sweeping → waiting
 *      └──────────┴─────────┴─ a failure, or another leads: the next round begins anew
 *
 * Nothing is locked. A release recorded after its place was read refers to blobs that its deploy
 * has just asked for, which `removeUnused` spares [B12], or has them from a release that was there
 * when it was written, and so was read itself or has it read: later numbers stand behind earlier
 * ones. Ended anywhere, it has removed only what nobody needs. Each round takes one blob in 400
 * for needed by mistake, and another one the next time.
 */
export class Collector {
  readonly #options: CollectorOptions;
  #timer: Timer | null = null;
  /** When something last came that may become superfluous; a start does not know. */
  #changedAt: Timestamp;
  #roundAt: Timestamp = 0;
  #rounds = 0;
  #stepsLeft = stepsPerTurn;
  #isRunning = false;
  #isClosed = false;
  #collected: Collected = { blobs: 0, blobBytes: 0, trees: 0, treeBytes: 0 };
  #nodes: Subscription | null = null;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#changedAt = options.clock.now();
  }

  get collected(): Collected {
    return this.#collected;
  }

  start(): void {
    this.#nodes = this.#options.wire.subscribe(subjects.nodeCollected("*"), ({ payload }) => {
      const { trees, bytes } = payload as unknown as NodeCollected;
      const before = this.#collected;
      this.#collected = {
        ...before,
        trees: before.trees + trees,
        treeBytes: before.treeBytes + bytes,
      };
    });
    this.#timer = this.#options.clock.after(firstRoundMs, () => this.#tick());
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#nodes?.cancel();
  }

  /** A release was recorded or retired, or a blob came. */
  changed(): void {
    this.#changedAt = this.#options.clock.now();
  }

  #tick(): void {
    this.#timer = this.#options.clock.after(periodMs, () => this.#tick());
    // What came just before the last round, that one had to spare.
    const isDue = this.#changedAt + blobSpareMs >= this.#roundAt;
    if (isDue && !this.#isRunning && this.#options.isLeading()) void this.#round();
  }

  async #round(): Promise<void> {
    const { onProblem, onCollected, clock } = this.#options;
    this.#isRunning = true;
    this.#roundAt = clock.now();
    const before = this.#collected;
    const done = await this.#collect(this.#roundAt - blobSpareMs).catch((cause) =>
      err(cause instanceof Error ? cause.message : String(cause)),
    );
    this.#isRunning = false;
    const blobs = this.#collected.blobs - before.blobs;
    const bytes = this.#collected.blobBytes - before.blobBytes;
    if (blobs > 0) {
      const files = blobs === 1 ? "1 file" : `${blobs} files`;
      onCollected(`collected ${files} (${formatBytes(bytes)}) that no release needs`);
    }
    if (!done.ok && !this.#isClosed) {
      onProblem(`files that no release needs are not collected now: ${done.error}`);
    }
  }

  /** @param before what was asked for since then stays. */
  async #collect(before: Timestamp): Promise<Result<void, string>> {
    const { blobs } = this.#options;
    let count = 0;
    for await (const _ of blobs.list()) {
      count += 1;
      if (!(await this.#mayGoOn(1))) return ok(undefined);
    }
    this.#rounds += 1;
    const needed = new DigestFilter(count, this.#rounds);
    const marked = await this.#mark(needed);
    if (!marked.ok) return marked;
    for await (const digest of blobs.list()) {
      const isNeeded = needed.mayHave(digest);
      if (!(await this.#mayGoOn(isNeeded ? 1 : stepsPerBlob))) return ok(undefined);
      if (isNeeded) continue;
      const removed = await blobs.removeUnused(digest, before);
      if (!removed.ok) return err(removed.error.message);
      if (removed.value === null) continue;
      const total = this.#collected;
      const blobBytes = total.blobBytes + removed.value;
      this.#collected = { ...total, blobs: total.blobs + 1, blobBytes };
    }
    return ok(undefined);
  }

  async #mark(needed: DigestFilter): Promise<Result<void, string>> {
    let app = "";
    // Releases of one app often share a manifest.
    const manifests = new Set<string>();
    for (let after = ""; ; ) {
      const options = { after, limit: releasesPerLot };
      const listed = await this.#options.ledger.list(keys.releases, options);
      if (!listed.ok) return err(`reading the releases: ${listed.error.message}`);
      const { entries } = listed.value;
      for (const { value } of entries) {
        if (!(await this.#mayGoOn(stepsPerBlob))) return err(overtaken);
        const release = JSON.parse(value) as Release;
        const owner = `${release.project}/${release.app}`;
        if (owner !== app) manifests.clear();
        app = owner;
        if (manifests.has(release.manifest)) continue;
        manifests.add(release.manifest);
        const marked = await this.#markFiles(release, needed);
        if (!marked.ok) return marked;
      }
      const last = entries.at(-1);
      if (last === undefined) return ok(undefined);
      after = last.key;
    }
  }

  async #markFiles(release: Release, needed: DigestFilter): Promise<Result<void, string>> {
    const { blobs, onProblem } = this.#options;
    const { manifest, project, app, number } = release;
    needed.add(manifest);
    const read = await blobs.read(manifest);
    if (!read.ok) {
      const name = `${project}/${app} ${releaseName(number)}`;
      const problem = `the manifest of ${name}: ${read.error.message}`;
      if (read.error.code === "unavailable") return err(problem);
      // Nobody can lay that release out any more; deploying it again brings its files, too.
      onProblem(`${problem}: deploy ${app} again`);
      return ok(undefined);
    }
    const text = new TextDecoder().decode(read.value);
    for (let at = text.indexOf(digestMark); at !== -1; at = text.indexOf(digestMark, at)) {
      at += digestMark.length;
      needed.add(text.slice(at, at + digestDigits));
      if (!(await this.#mayGoOn(1))) return err(overtaken);
    }
    return ok(undefined);
  }

  /** False: the round is over. */
  async #mayGoOn(steps: number): Promise<boolean> {
    this.#stepsLeft -= steps;
    if (this.#stepsLeft <= 0) {
      this.#stepsLeft = stepsPerTurn;
      await new Promise<void>((resolve) => this.#options.clock.after(pauseMs, resolve));
    }
    return !this.#isClosed && this.#options.isLeading();
  }
}
