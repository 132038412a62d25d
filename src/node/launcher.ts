import { closeSync } from "node:fs";
import { ok, type Result } from "../base/result.ts";
import type { Assignment } from "../model/instance.ts";
import type { Release } from "../model/release.ts";
import type { CgroupLimits } from "./cgroup/cgroup.ts";
import type {
  Held,
  InstanceProcess,
  LaunchRequest,
  ProcessDriver,
  WaitingProcess,
} from "./drivers/process.ts";
import { type HostTools, openSecrets, type Prepared } from "./drivers/specification.ts";
import type { InstanceLog } from "./logs/instance-log.ts";
import type { PrepareFailure } from "./preparation.ts";

/** What an instance starts from. */
export interface LaunchContext {
  readonly processes: ProcessDriver;
  readonly tools: HostTools;
  readonly uidBase: number;
  release(assignment: Assignment): Promise<Result<Release, string>>;
  /** Calls `building` when a layer has to be built. */
  prepare(
    release: Release,
    uidOffset: number,
    building: () => void,
  ): Promise<Result<Prepared, PrepareFailure>>;
  openSecret(sealed: string): string;
  log(assignment: Assignment): InstanceLog;
}

/** Turns one instance's assignment into processes; its release is prepared once. */
export class Launcher {
  readonly #context: LaunchContext;
  readonly #holds: (held: Held) => void;
  #prepared: Prepared | null = null;

  /** @param holds is told before anything is taken that an ended lode would leave behind. */
  constructor(context: LaunchContext, holds: (held: Held) => void) {
    this.#context = context;
    this.#holds = holds;
  }

  /** Calls `building` when a layer has to be built. */
  async request(
    assignment: Assignment,
    building: () => void,
  ): Promise<Result<LaunchRequest, PrepareFailure>> {
    const release = await this.#context.release(assignment);
    if (!release.ok) {
      return { ok: false, error: { stage: "start", reason: release.error, logTail: [] } };
    }
    if (this.#prepared === null) {
      const { uidOffset } = assignment;
      const prepared = await this.#context.prepare(release.value, uidOffset, building);
      if (!prepared.ok) return prepared;
      this.#prepared = prepared.value;
    }
    const { project, app, instance, process, uidOffset, limits } = assignment;
    const { openSecret, uidBase, tools } = this.#context;
    return ok({
      ...{ project, app, instance, process, tools },
      release: release.value,
      secrets: openSecrets(release.value, openSecret),
      uid: uidBase + uidOffset,
      prepared: this.#prepared,
      openFiles: limits.openFiles,
    });
  }

  launch(
    assignment: Assignment,
    request: LaunchRequest,
    limits: CgroupLimits,
  ): Promise<InstanceProcess> {
    const { processes } = this.#context;
    return this.#withLog(assignment, (log) => processes.launch(request, limits, log, this.#holds));
  }

  /** As `launch`, ahead of need. */
  makeReady(
    assignment: Assignment,
    request: LaunchRequest,
    limits: CgroupLimits,
  ): Promise<WaitingProcess | null> {
    const { processes } = this.#context;
    return this.#withLog(assignment, (log) =>
      processes.makeReady(request, limits, log, this.#holds),
    );
  }

  async adopt(assignment: Assignment, held: Held): Promise<InstanceProcess | null> {
    if (held.monitor === null || held.waits) return null;
    const request = await this.request(assignment, () => {});
    return request.ok ? this.#context.processes.adopt(request.value, held) : null;
  }

  async #withLog<Value>(
    assignment: Assignment,
    use: (descriptor: number) => Promise<Value>,
  ): Promise<Value> {
    const descriptor = this.#context.log(assignment).openForApp();
    try {
      return await use(descriptor);
    } finally {
      closeSync(descriptor);
    }
  }
}
