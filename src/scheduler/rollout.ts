import { assert } from "../base/assert.ts";
import type { Timestamp } from "../base/time.ts";
import type { Assignment, InstancePhase } from "../model/instance.ts";
import { type ProcessType, releaseProcess } from "../model/names.ts";
import { type Deployment, type Release, releaseName } from "../model/release.ts";
import type { Draft } from "./draft.ts";
import { countNow } from "./growth.ts";
import { adjust, lack, newAssignment, type Surroundings } from "./instances.ts";
import {
  effectiveLimits,
  lastingProcesses,
  releaseOf,
  takesRequests,
  wantedCount,
} from "./snapshot.ts";

const startDeadlineMs = 10 * 60_000;
const buildDeadlineMs = 20 * 60_000;
const releaseTaskDeadlineMs = 60 * 60_000;

/**
 * Brings the target release to serve:
 *
 *   release process → instances come up → all healthy: switch
 *         └───────────────┴→ failed: the target goes back to what serves
 *
 * Where it stands is read from its assignments: only the release process's, or the others.
 */
export function rollOut(draft: Draft, around: Surroundings): void {
  const { target, serving } = draft.app;
  if (target === null || target === serving) return;
  const release = releaseOf(draft.before, target);
  const deployment = draft.deployment(target);
  if (release === null || deployment?.state !== "starting") {
    draft.block(`${releaseName(target)} is wanted, but has no record of being started`);
    return;
  }
  const rollout: Rollout = { draft, around, release, deployment };
  if (failOnInstance(rollout)) return;
  if (!passReleaseTask(rollout)) {
    failOnDeadline(rollout);
    return;
  }
  if (!placeAll(rollout)) return;
  const waiting = unready(rollout);
  if (waiting.length === 0) {
    switchOver(rollout);
    return;
  }
  draft.block(`${releaseName(target)} waits for ${waiting.join(", ")}`);
  failOnDeadline(rollout);
}

interface Rollout {
  readonly draft: Draft;
  readonly around: Surroundings;
  readonly release: Release;
  readonly deployment: Deployment;
}

type FailureStage = Extract<Deployment, { state: "failed" }>["stage"];

function phaseOf(around: Surroundings, key: string, of: Assignment): InstancePhase | null {
  return around.observed.instancesOf(key).get(of.instance)?.status.phase ?? null;
}

function failOnInstance(rollout: Rollout): boolean {
  const { draft, around, release } = rollout;
  for (const assignment of draft.assignments({ release: release.number })) {
    const phase = phaseOf(around, draft.before.key, assignment);
    if (phase?.state !== "failed") continue;
    fail(rollout, phase.stage, phase.reason, phase.logTail);
    return true;
  }
  return false;
}

/** True when instances may come up: the release process is over, or there is none. */
function passReleaseTask(rollout: Rollout): boolean {
  const { draft, around, release } = rollout;
  if (release.config.processes[releaseProcess] === undefined) return true;
  const all = draft.assignments({ release: release.number });
  const task = all.find((assignment) => assignment.process === releaseProcess);
  if (task === undefined) {
    if (all.length > 0) return true;
    placeOne(rollout, releaseProcess);
    return false;
  }
  const phase = phaseOf(around, draft.before.key, task);
  if (phase?.state !== "done") {
    draft.block(`${releaseName(release.number)} waits for its release process`);
    return false;
  }
  if (phase.code !== 0) {
    fail(rollout, "release", `the release process ended with exit code ${phase.code}`, []);
    return false;
  }
  draft.remove(task);
  around.room.give(task.node, task.limits);
  draft.because(`the release process of ${releaseName(release.number)} ended well`);
  return true;
}

/** False when the release failed for want of room, no node takes it, or the step is full. */
function placeAll(rollout: Rollout): boolean {
  const { draft, around, release } = rollout;
  const { config, number } = release;
  for (const process of lastingProcesses(config)) {
    const present = draft.assignments({ release: number, process });
    const base = wantedCount(draft.app, config, process);
    const wanted = countNow(draft, around, release, process, present);
    for (const surplus of present.slice(wanted)) {
      if (draft.isFull) return false;
      draft.remove(surplus);
      around.room.give(surplus.node, surplus.limits);
      draft.because(`${process} of ${releaseName(number)} is scaled to ${wanted}`);
    }
    for (let count = present.length; count < wanted; count += 1) {
      if (draft.isFull) return false;
      // What demand alone asks for may come later, when there is room.
      if (count >= base && !fits(rollout)) break;
      if (!placeOne(rollout, process)) return false;
    }
    adjust(draft, around, release, process);
  }
  return true;
}

function fits({ draft, around, release }: Rollout): boolean {
  const limits = effectiveLimits(draft.app, release.config);
  return around.room.place(limits, draft.assignments()).kind === "placed";
}

function placeOne(rollout: Rollout, process: ProcessType): boolean {
  const { draft, around, release } = rollout;
  const limits = effectiveLimits(draft.app, release.config);
  const placement = around.room.place(limits, draft.assignments());
  const name = `${process} of ${releaseName(release.number)}`;
  if (placement.kind === "placed") {
    const index = draft.assignments({ release: release.number, process }).length;
    const assignment = newAssignment(draft, around, release, process, placement.node, index);
    draft.place(assignment);
    around.room.take(placement.node, limits);
    draft.because(`${name} starts on ${placement.node}`);
    return true;
  }
  if (placement.kind === "noNode") draft.block(`${name} waits: the pool has no node`);
  else fail(rollout, "start", lack(name, placement), []);
  return false;
}

/** What is not yet as it must be for the switch: `web (starting)`. */
function unready(rollout: Rollout): readonly string[] {
  const { draft, around, release } = rollout;
  const seen = around.observed.instancesOf(draft.before.key);
  const waiting: string[] = [];
  for (const assignment of draft.assignments({ release: release.number })) {
    const status = seen.get(assignment.instance)?.status;
    const isReady = takesRequests(release.config, assignment.process)
      ? status?.wasHealthy === true && ["running", "frozen", "asleep"].includes(status.phase.state)
      : status?.phase.state === "running";
    if (!isReady) waiting.push(`${assignment.process} (${status?.phase.state ?? "not yet seen"})`);
  }
  return waiting;
}

function switchOver({ draft, around, release, deployment }: Rollout): void {
  const { now } = around;
  const { project, app, startedAt } = deployment;
  const old = releaseOf(draft.before, draft.app.serving);
  const since = { project, app, startedAt };
  draft.putDeployment({ ...since, number: release.number, state: "serving", servingAt: now });
  draft.putApp({ ...draft.app, serving: release.number });
  draft.because(`${releaseName(release.number)} serves`);
  if (old === null) return;
  const replaced = draft.deployment(old.number);
  if (replaced?.state === "serving") {
    draft.putDeployment({ ...replaced, state: "replaced", endedAt: now });
  }
}

function fail(
  rollout: Rollout,
  stage: FailureStage,
  reason: string,
  logTail: readonly string[],
): void {
  const { draft, around } = rollout;
  const { project, app, number, startedAt } = rollout.deployment;
  draft.putDeployment({
    ...{ project, app, number, startedAt },
    ...{ state: "failed", endedAt: around.now, stage, reason, logTail },
  });
  assert(draft.app.serving !== number, "a release that serves is not rolled out");
  draft.putApp({ ...draft.app, target: draft.app.serving });
  draft.unblock();
  draft.because(`${releaseName(number)} failed: ${reason}`);
}

function failOnDeadline(rollout: Rollout): void {
  const { draft, around, release } = rollout;
  if (draft.app.target !== release.number) return;
  const deadline = deadlineOf(rollout);
  if (deadline === null) return;
  if (around.now < deadline) {
    draft.wakeAt(deadline);
    return;
  }
  const waiting = unready(rollout).join(", ");
  const stage =
    draft.assignments({ release: release.number, process: releaseProcess }).length > 0
      ? "release"
      : "start";
  fail(rollout, stage, `it did not come up in time; still waiting: ${waiting}`, []);
}

/**
 * Counted from when control could first see all its instances, so that time in which control
 * was away does not fail a release. Null: some node has yet to report.
 */
function deadlineOf({ draft, around, release, deployment }: Rollout): Timestamp | null {
  const { config, number } = release;
  let from = deployment.startedAt;
  for (const { node } of draft.assignments({ release: number })) {
    const since = around.observed.heardSince(node);
    if (since === null) return null;
    from = Math.max(from, since);
  }
  return (
    from +
    startDeadlineMs +
    (config.http?.health.timeoutMs ?? 0) +
    (config.build.length > 0 ? buildDeadlineMs : 0) +
    (config.processes[releaseProcess] === undefined ? 0 : releaseTaskDeadlineMs)
  );
}
