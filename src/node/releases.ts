import { err, ok, type Result } from "../base/result.ts";
import type { Ledger } from "../fabric/ledger.ts";
import { keys } from "../model/keys.ts";
import type { AppName, ProjectName } from "../model/names.ts";
import { type Release, releaseName } from "../model/release.ts";

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

  /** Every release of the pool, to tell what is not needed any more. */
  async all(): Promise<Result<readonly Release[], string>> {
    const listed = await this.#ledger.list(keys.releases);
    if (!listed.ok) return err(`reading the releases: ${listed.error.message}`);
    return ok(listed.value.entries.map(({ value }) => JSON.parse(value) as Release));
  }

  forget(project: ProjectName, app: AppName): void {
    const prefix = keys.releasesOf(project, app);
    for (const key of this.#known.keys()) if (key.startsWith(prefix)) this.#known.delete(key);
  }
}
