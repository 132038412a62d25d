import { err, ok, type Result } from "../base/result.ts";
import type { Clock } from "../base/time.ts";
import type { Ledger } from "../fabric/ledger.ts";
import { keys } from "../model/keys.ts";
import type { AppName, ProjectName } from "../model/names.ts";
import { type Release, releaseName } from "../model/release.ts";

const lotSize = 200;
const lotPauseMs = 50;

/** Releases never change, so each is read once. */
export class Releases {
  readonly #ledger: Ledger;
  readonly #known = new Map<string, Release>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  async get(project: ProjectName, app: AppName, number: number): Promise<Result<Release, string>> {
    const key = keys.release(project, app, number);
    const known = this.#known.get(key);
    if (known !== undefined) return ok(known);
    const read = await this.#ledger.get(key);
    if (!read.ok) return err(`reading ${app} ${releaseName(number)}: ${read.error.message}`);
    if (read.value === null) return err(`there is no release ${releaseName(number)} of ${app}`);
    const release = JSON.parse(read.value.value) as Release;
    this.#known.set(key, release);
    return ok(release);
  }

  /** Every release of the pool, a few at a time, to tell what is not needed any more. */
  async each(clock: Clock, look: (release: Release) => void): Promise<Result<void, string>> {
    for (let after = ""; ; ) {
      const limit = lotSize;
      const listed = await this.#ledger.list(keys.releases, { after, limit });
      if (!listed.ok) return err(`reading the releases: ${listed.error.message}`);
      const { entries } = listed.value;
      for (const { value } of entries) look(JSON.parse(value) as Release);
      const last = entries.at(-1);
      if (last === undefined || entries.length < limit) return ok(undefined);
      after = last.key;
      await new Promise<void>((resolve) => clock.after(lotPauseMs, resolve));
    }
  }

  /** One that was read and is remembered. */
  known(project: ProjectName, app: AppName, number: number): Release | null {
    return this.#known.get(keys.release(project, app, number)) ?? null;
  }

  /** Forgets all others. */
  keep(
    wanted: Iterable<{
      readonly project: ProjectName;
      readonly app: AppName;
      readonly release: number;
    }>,
  ): void {
    const kept = new Set<string>();
    for (const { project, app, release } of wanted) kept.add(keys.release(project, app, release));
    for (const key of this.#known.keys()) if (!kept.has(key)) this.#known.delete(key);
  }
}
