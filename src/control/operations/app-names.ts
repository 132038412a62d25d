import type { AppName, ProjectName } from "../../model/names.ts";
import type { HardState } from "../state/hard-state.ts";

/** The apps' names in order, sorted again only after apps came or went. */
export class AppNames {
  readonly #state: HardState;
  #sorted = new Map<string, readonly AppName[]>();
  #generation = -1;

  constructor(state: HardState) {
    this.#state = state;
  }

  of(project: ProjectName): readonly AppName[] {
    if (this.#generation !== this.#state.generation) this.#sort();
    return this.#sorted.get(project) ?? [];
  }

  #sort(): void {
    const byProject = new Map<string, AppName[]>();
    for (const [, { app }] of this.#state.snapshot.apps.entries()) {
      if (app === null) continue;
      const names = byProject.get(app.value.project) ?? [];
      names.push(app.value.name);
      byProject.set(app.value.project, names);
    }
    for (const names of byProject.values()) names.sort();
    this.#sorted = byProject;
    this.#generation = this.#state.generation;
  }
}
