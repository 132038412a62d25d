import { formatBytes } from "../base/units.ts";
import type { Assignment } from "../model/instance.ts";
import type { Limits } from "../model/limits.ts";
import type { NodeName, ProcessType } from "../model/names.ts";
import { type Release, type ReleaseConfig, releaseName } from "../model/release.ts";
import type { Draft } from "./draft.ts";
import type { Placement, Room } from "./placement.ts";
import type { PlanInput } from "./plan.ts";
import { effectiveLimits, takesRequests } from "./snapshot.ts";

/** How long an old release's instances may finish what they began. */
export const drainMs = 30_000;

/** What the rules look at besides the app itself. */
export interface Surroundings extends Omit<PlanInput, "apps" | "pending" | "snapshot"> {
  readonly room: Room;
  readonly nodes: PlanInput["snapshot"]["nodes"];
}

export function newAssignment(
  draft: Draft,
  around: Surroundings,
  release: Release,
  process: ProcessType,
  node: NodeName,
  index: number,
): Assignment {
  const { project, name, uidOffset } = draft.app;
  return {
    instance: around.nextInstance(),
    node,
    project,
    app: name,
    release: release.number,
    process,
    uidOffset,
    limits: effectiveLimits(draft.app, release.config),
    keepAwake: isKeptAwake(release, process, index),
    freezeMs: release.config.scale.freezeMs,
    idleMs: release.config.scale.idleMs,
    drain: null,
    createdAt: around.now,
  };
}

function isKeptAwake(release: Release, process: ProcessType, index: number): boolean {
  return !takesRequests(release.config, process) || index < release.config.scale.min;
}

/** Limits and the duty to stay awake are changed in place, on the live process. */
export function adjust(
  draft: Draft,
  around: Surroundings,
  release: Release,
  process: ProcessType,
): void {
  const limits = effectiveLimits(draft.app, release.config);
  const present = draft.assignments({ release: release.number, process, draining: false });
  for (const [index, assignment] of present.entries()) {
    const keepAwake = isKeptAwake(release, process, index);
    const isSame = sameLimits(assignment.limits, limits);
    if (isSame && assignment.keepAwake === keepAwake) continue;
    if (draft.isFull) return;
    around.room.give(assignment.node, assignment.limits);
    around.room.take(assignment.node, limits);
    draft.put({ ...assignment, limits, keepAwake });
    draft.because(
      `${process} of ${releaseName(release.number)} ` +
        (isSame ? (keepAwake ? "stays awake" : "may sleep") : "gets new limits"),
    );
  }
}

function sameLimits(one: Limits, other: Limits): boolean {
  return (
    one.pids === other.pids &&
    one.openFiles === other.openFiles &&
    (["cpu", "memory"] as const).every(
      (resource) =>
        one[resource].min === other[resource].min &&
        one[resource].max === other[resource].max &&
        one[resource].burst === other[resource].burst,
    )
  );
}

/** Takes an instance out: one that takes requests drains first. */
export function end(
  draft: Draft,
  around: Surroundings,
  assignment: Assignment,
  config: ReleaseConfig,
): void {
  const name = `${assignment.process} of ${releaseName(assignment.release)}`;
  if (takesRequests(config, assignment.process)) {
    const drain = { since: around.now, deadline: around.now + drainMs };
    draft.put({ ...assignment, drain });
    draft.wakeAt(drain.deadline);
    draft.because(`${name} drains`);
  } else {
    draft.remove(assignment);
    around.room.give(assignment.node, assignment.limits);
    draft.because(`${name} ends`);
  }
}

/** The sentence for what did not fit. */
export function lack(what: string, placement: Extract<Placement, { kind: "noRoom" }>): string {
  const { missingCores, missingMemoryBytes } = placement;
  const parts: string[] = [];
  if (missingCores > 0) parts.push(`${Number(missingCores.toFixed(3))} cores`);
  if (missingMemoryBytes > 0) parts.push(`${formatBytes(missingMemoryBytes)} of memory`);
  return (
    `${what} does not fit: its guaranteed minimum lacks ${parts.join(" and ")} ` +
    `on the node with most room, ${placement.node}`
  );
}
