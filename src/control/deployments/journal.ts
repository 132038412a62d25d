import type { Clock, Timestamp } from "../../base/time.ts";
import { releaseProcess } from "../../model/names.ts";
import { type Deployment, releaseName } from "../../model/release.ts";
import type { DeploymentEvent } from "../../model/wire.ts";
import type { Observed } from "../../scheduler/observed.ts";
import { type AppState, releaseOf } from "../../scheduler/snapshot.ts";

type Stage = Extract<DeploymentEvent, { kind: "stage" }>["stage"];
type End = Extract<DeploymentEvent, { kind: "end" }>;

const outputLinesMax = 5_000;

/**
 * The events of one deployment, read off the difference between two looks at it.
 *
 *   (nothing) → build → release → start → switch → end
 *
 * Stages that a release does not have are left out; a failure ends in any of them.
 */
export class DeploymentJournal {
  readonly events: DeploymentEvent[] = [];
  readonly #clock: Clock;
  readonly #wakeups = new Set<() => void>();
  #stage: Stage | null = null;
  #stageSince: Timestamp = 0;
  #sawBuild = false;
  #buildMs = 0;
  #startMs = 0;
  #outputLines = 0;
  #ended = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Output of a build or a release process. */
  addOutput(event: Extract<DeploymentEvent, { kind: "output" }>): void {
    if (this.#ended || this.#outputLines > outputLinesMax) return;
    this.#outputLines += 1;
    const isLast = this.#outputLines > outputLinesMax;
    this.#add(isLast ? { ...event, line: "… more output is not kept" } : event);
  }

  review(state: AppState, deployment: Deployment, observed: Observed): void {
    if (this.#ended) return;
    if (deployment.state === "starting") {
      const { number } = deployment;
      const seen = observed.instancesOf(state.key);
      const steps = state.assignments
        .filter(({ value }) => value.release === number)
        .map(({ value }) => seen.get(value.instance)?.status.phase ?? null);
      this.#sawBuild ||= steps.some(
        (phase) => phase?.state === "preparing" && phase.step === "build",
      );
      const stage = stageOf(state, number, steps.some(isPreparing));
      if (stage !== null && stage !== this.#stage) this.#enter(stage, number);
      return;
    }
    if (deployment.state === "serving" || deployment.state === "replaced") {
      this.#enter("switch", deployment.number);
      this.#leave();
    } else this.#leave();
    this.#add(endOf(deployment, this.#buildMs, this.#startMs));
    this.#ended = true;
  }

  /** The app was removed: there will be no other end. */
  abandon(): void {
    if (this.#ended) return;
    this.#leave();
    this.#ended = true;
    this.#add({
      kind: "end",
      at: this.#clock.now(),
      state: "failed",
      reason: "the app was removed",
      logTail: [],
      durationMs: {
        build: this.#buildMs,
        start: this.#startMs,
        total: this.#buildMs + this.#startMs,
      },
    });
  }

  /** Every event from the beginning; ends after `end`, or when the reader goes. */
  async *read(signal: AbortSignal): AsyncGenerator<DeploymentEvent, void> {
    for (let index = 0; !signal.aborted; ) {
      const event = this.events[index];
      if (event !== undefined) {
        yield event;
        if (event.kind === "end") return;
        index += 1;
        continue;
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#wakeups.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#wakeups.add(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }

  #add(event: DeploymentEvent): void {
    this.events.push(event);
    for (const wake of [...this.#wakeups]) wake();
  }

  #enter(stage: Stage, number: number): void {
    this.#leave();
    this.#stage = stage;
    this.#stageSince = this.#clock.now();
    const message = messageOf(stage, number);
    this.#add({ kind: "stage", stage, state: "begin", at: this.#stageSince, message });
  }

  #leave(): void {
    const stage = this.#stage;
    if (stage === null) return;
    const at = this.#clock.now();
    const tookMs = at - this.#stageSince;
    if (stage === "build" && this.#sawBuild) this.#buildMs += tookMs;
    else this.#startMs += tookMs;
    this.#stage = null;
    const message = stage === "build" && !this.#sawBuild ? "nothing new to build" : "";
    this.#add({ kind: "stage", stage, state: "end", at, message });
  }
}

function isPreparing(phase: { readonly state: string } | null): boolean {
  return phase === null || phase.state === "preparing";
}

function stageOf(state: AppState, number: number, preparing: boolean): Stage | null {
  const assignments = state.assignments.filter(({ value }) => value.release === number);
  if (assignments.length === 0) return null;
  const config = releaseOf(state, number)?.config;
  if (preparing && config !== undefined && config.build.length > 0) return "build";
  return assignments.some(({ value }) => value.process === releaseProcess) ? "release" : "start";
}

function messageOf(stage: Stage, number: number): string {
  const name = releaseName(number);
  const messages: Readonly<Record<Stage, string>> = {
    build: `building ${name}`,
    release: `running the release process of ${name}`,
    start: `starting ${name}`,
    switch: `requests go to ${name}`,
  };
  return messages[stage];
}

/** The end of a finished deployment, from its record. */
export function endOf(
  deployment: Exclude<Deployment, { state: "starting" }>,
  buildMs: number,
  startMs: number | null,
): End {
  const at = "servingAt" in deployment ? deployment.servingAt : deployment.endedAt;
  const total = Math.max(0, at - deployment.startedAt);
  const isFailed = deployment.state === "failed";
  return {
    kind: "end",
    at,
    state: deployment.state === "replaced" ? "serving" : deployment.state,
    reason: isFailed ? deployment.reason : null,
    logTail: isFailed ? deployment.logTail : [],
    durationMs: { build: buildMs, start: startMs ?? total, total },
  };
}
