import type { Assignment } from "../model/instance.ts";
import type { ProcessType } from "../model/names.ts";
import { type Release, releaseName } from "../model/release.ts";
import type { Draft } from "./draft.ts";
import { countNow } from "./growth.ts";
import { adjust, end, lack, newAssignment, type Surroundings } from "./instances.ts";
import { appHost, effectiveLimits, hostsOf, lastingProcesses, releaseOf } from "./snapshot.ts";

/** The release that serves has as many instances as wanted, with the limits that hold now. */
export function keepServing(draft: Draft, around: Surroundings): void {
  const release = releaseOf(draft.before, draft.app.serving);
  if (release === null) return;
  for (const process of lastingProcesses(release.config)) {
    const present = draft.assignments({ release: release.number, process, draining: false });
    const wanted = countNow(draft, around, release, process, present);
    for (const surplus of expendable(draft, around, present).slice(wanted)) {
      if (draft.isFull) return;
      end(draft, around, surplus, release.config);
    }
    if (present.length < wanted) grow(draft, around, release, process, wanted);
    adjust(draft, around, release, process);
  }
}

/** The instances that are worth keeping first: those that run, then the oldest. */
function expendable(
  draft: Draft,
  around: Surroundings,
  present: readonly Assignment[],
): readonly Assignment[] {
  const seen = around.observed.instancesOf(draft.before.key);
  const rank = (assignment: Assignment): number => {
    const state = seen.get(assignment.instance)?.status.phase.state;
    return state === "running" ? 0 : state === "failed" || state === "backing-off" ? 2 : 1;
  };
  return [...present].sort((one, other) => rank(one) - rank(other));
}

function grow(
  draft: Draft,
  around: Surroundings,
  release: Release,
  process: ProcessType,
  wanted: number,
): void {
  const limits = effectiveLimits(draft.app, release.config);
  const count = () =>
    draft.assignments({ release: release.number, process, draining: false }).length;
  while (count() < wanted && !draft.isFull) {
    const name = `${process} of ${releaseName(release.number)}`;
    const placement = around.room.place(limits, draft.assignments());
    if (placement.kind !== "placed") {
      const isRoomMissing = placement.kind === "noRoom";
      draft.block(isRoomMissing ? lack(name, placement) : `${name} waits: the pool has no node`);
      return;
    }
    draft.place(newAssignment(draft, around, release, process, placement.node, count()));
    around.room.take(placement.node, limits);
    draft.because(`${name} starts on ${placement.node}: ${wanted} are wanted`);
  }
}

/**
 * The node drains: it ends an instance once no gateway has anything in flight on it. When it no
 * longer names the instance, or the time is up, the assignment goes.
 */
export function endDrains(draft: Draft, around: Surroundings): void {
  const seen = around.observed.instancesOf(draft.before.key);
  for (const assignment of draft.assignments({ draining: true })) {
    if (draft.isFull) return;
    const name = `${assignment.process} of ${releaseName(assignment.release)}`;
    const isHeard = around.observed.heardSince(assignment.node) !== null;
    const isDrained = isHeard && !seen.has(assignment.instance);
    const deadline = assignment.drain?.deadline ?? 0;
    if (!isDrained && around.now < deadline) {
      draft.wakeAt(deadline);
      draft.block(`${name} still drains`);
      continue;
    }
    draft.remove(assignment);
    around.room.give(assignment.node, assignment.limits);
    draft.because(isDrained ? `${name} is drained: it ends` : `${name} ends: its time is up`);
  }
}

/** Instances of releases that neither serve nor are wanted; those that served drain first. */
export function endStrays(draft: Draft, around: Surroundings): void {
  const { target, serving } = draft.app;
  for (const assignment of draft.assignments({ draining: false })) {
    if (assignment.release === target || assignment.release === serving) continue;
    if (draft.isFull) return;
    const isReplaced = draft.deployment(assignment.release)?.state === "replaced";
    const config = isReplaced ? releaseOf(draft.before, assignment.release)?.config : undefined;
    if (config !== undefined) {
      end(draft, around, assignment, config);
      continue;
    }
    draft.remove(assignment);
    around.room.give(assignment.node, assignment.limits);
    draft.because(`${assignment.process} of ${releaseName(assignment.release)} ends`);
  }
}

/**
 * Host names that no release in play answers to are free for others. An app's own name stays
 * its own as long as there is the app.
 */
export function releaseHosts(draft: Draft, around: Surroundings): void {
  if (draft.app.target !== draft.app.serving) return;
  const release = releaseOf(draft.before, draft.app.serving);
  const custom = release === null ? [] : hostsOf(draft.app, release.config, around.domain);
  const kept = new Set([appHost(draft.app, around.domain), ...custom]);
  for (const host of draft.before.hosts) {
    if (kept.has(host) || draft.isFull) continue;
    draft.releaseHost(host);
    draft.because(`${host} is no longer claimed`);
  }
}
