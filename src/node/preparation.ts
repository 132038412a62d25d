import type { Json } from "../base/json.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock } from "../base/time.ts";
import type { Wire } from "../fabric/wire.ts";
import type { Release } from "../model/release.ts";
import { type DeploymentEvent, subjects } from "../model/wire.ts";
import type { Builder, BuildListener } from "./drivers/build.ts";
import type { BuildFailure } from "./drivers/job.ts";
import type { Layout } from "./drivers/layout.ts";
import type { Prepared } from "./drivers/specification.ts";

export type PrepareFailure = BuildFailure & { readonly stage: "build" | "start" };

interface UnderWay {
  readonly result: Promise<Result<Prepared, PrepareFailure>>;
  readonly watchers: Set<() => void>;
  building: boolean;
}

/** A release whose tree and layers must stay on this node. */
export interface Pinned {
  readonly release: Release;
  readonly uidOffset: number;
}

/** Makes releases ready on this node; all instances of one share the work and its progress. */
export class Preparation {
  readonly #layout: Layout;
  readonly #builder: Builder;
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #uidBase: number;
  readonly #underWay = new Map<string, UnderWay>();
  readonly #pinned = new Set<Pinned>();

  constructor(layout: Layout, builder: Builder, wire: Wire, clock: Clock, uidBase: number) {
    this.#layout = layout;
    this.#builder = builder;
    this.#wire = wire;
    this.#clock = clock;
    this.#uidBase = uidBase;
  }

  /** What must stay though no instance uses it. */
  get pinned(): Iterable<Pinned> {
    return this.#pinned;
  }

  /** The release's files stay until the returned function is called. */
  pin(release: Release, uidOffset: number): () => void {
    const pinned = { release, uidOffset };
    this.#pinned.add(pinned);
    return () => this.#pinned.delete(pinned);
  }

  /** Calls `building` when a layer has to be built. */
  async prepare(
    release: Release,
    uidOffset: number,
    building: () => void,
  ): Promise<Result<Prepared, PrepareFailure>> {
    const unpin = this.pin(release, uidOffset);
    return this.#prepare(release, uidOffset, building).finally(unpin);
  }

  async #prepare(
    release: Release,
    uidOffset: number,
    building: () => void,
  ): Promise<Result<Prepared, PrepareFailure>> {
    const key = `${release.project}/${release.app}/${release.number}`;
    const known = this.#underWay.get(key);
    if (known !== undefined) {
      known.watchers.add(building);
      if (known.building) building();
      return known.result;
    }
    const watchers = new Set([building]);
    const entry: UnderWay = {
      watchers,
      building: false,
      result: Promise.resolve().then(() => this.#run(release, uidOffset, entry)),
    };
    this.#underWay.set(key, entry);
    return entry.result.finally(() => this.#underWay.delete(key));
  }

  async #run(release: Release, uidOffset: number, entry: UnderWay) {
    const gid = this.#uidBase + uidOffset;
    const tree = await this.#layout.ensure(release.manifest, { uidOffset, gid });
    if (!tree.ok) return err({ stage: "start" as const, reason: tree.error, logTail: [] });
    const listener = this.#listener(release, entry);
    const built = await this.#builder.ensure(tree.value, release.config.build, listener);
    return built.ok ? ok(built.value) : err({ stage: "build" as const, ...built.error });
  }

  #listener(release: Release, entry: UnderWay): BuildListener {
    const publish = (event: DeploymentEvent): void => {
      const subject = subjects.progress(release.project, release.app, release.number);
      this.#wire.publish(subject, event as unknown as Json);
    };
    const stage = (state: "begin" | "end", message: string): void =>
      publish({ kind: "stage", stage: "build", state, at: this.#clock.now(), message });
    return {
      begin: (message) => {
        entry.building = true;
        for (const watcher of entry.watchers) watcher();
        stage("begin", message);
      },
      output: (line) => publish({ kind: "output", at: this.#clock.now(), line }),
      end: (message) => stage("end", message),
    };
  }
}
