import type { Timestamp } from "../base/time.ts";
import { keys } from "../model/keys.ts";
import { releaseName } from "../model/release.ts";
import { Draft, writesMax } from "./draft.ts";
import type { Surroundings } from "./instances.ts";
import { Room } from "./placement.ts";
import type { Blocked, Plan, PlanInput, Step } from "./plan.ts";
import { retire } from "./retention.ts";
import { rollOut } from "./rollout.ts";
import type { AppState } from "./snapshot.ts";
import { endDrains, endStrays, keepServing, releaseHosts } from "./upkeep.ts";

/**
 * What control does next, as data: for each of the given apps the difference between what is
 * wanted and what is decided and seen. Level-triggered: planning the same state again gives the
 * same steps, and a state that is as wanted gives none.
 */
export function plan(input: PlanInput): Plan {
  const { observed, demandOf, now, domain, releasesKept, nextInstance } = input;
  const room = new Room(input.snapshot, input.pending);
  const { nodes } = input.snapshot;
  const around: Surroundings = {
    ...{ observed, demandOf, now, domain, releasesKept, nextInstance },
    ...{ room, nodes },
  };
  const steps: Step[] = [];
  const blocked: Blocked[] = [];
  const lookAgainAt = new Map<string, Timestamp | null>();
  for (const key of input.apps) {
    const state = input.snapshot.apps.get(key);
    if (state === undefined) {
      lookAgainAt.set(key, null);
      continue;
    }
    const planned = planApp(state, around);
    if (planned.step !== null) steps.push(planned.step);
    blocked.push(...planned.blocked);
    lookAgainAt.set(key, planned.lookAgainAt);
  }
  return { steps, blocked, lookAgainAt };
}

function planApp(
  state: AppState,
  around: Surroundings,
): { step: Step | null; blocked: readonly Blocked[]; lookAgainAt: Timestamp | null } {
  if (state.app === null) return { step: endRemains(state), blocked: [], lookAgainAt: null };
  const draft = new Draft(state, state.app);
  if (draft.app.removing) endApp(draft, around);
  else {
    supersede(draft, around);
    endStrays(draft, around);
    rollOut(draft, around);
    keepServing(draft, around);
    endDrains(draft, around);
    endStrays(draft, around);
    releaseHosts(draft, around);
    retire(draft, around);
  }
  const { lookAgainAt } = draft;
  return { step: draft.step(), blocked: draft.blocked(), lookAgainAt };
}

/** Assignments whose app record is gone. */
function endRemains(state: AppState): Step | null {
  if (state.assignments.length === 0) return null;
  return {
    app: state.key,
    reasons: ["the app is gone: its instances end"],
    guards: [],
    writes: state.assignments.slice(0, writesMax).map(({ value }) => ({
      kind: "delete",
      key: keys.assignment(value.node, value.instance),
    })),
    placed: [],
  };
}

/** `lode rm`: first every instance ends, and only when no node runs one the records go. */
function endApp(draft: Draft, around: Surroundings): void {
  const assignments = draft.assignments();
  if (assignments.length > 0) {
    for (const assignment of assignments) if (!draft.isFull) draft.remove(assignment);
    draft.because(`the app is being removed: ${assignments.length} instances end`);
    return;
  }
  const running = [...around.observed.instancesOf(draft.before.key).values()];
  if (running.length > 0) {
    draft.block(`waits for ${running.length} instances to end`);
    return;
  }
  const silent = [...around.nodes.values()].find(
    ({ node, name }) => node !== null && around.observed.heardSince(name) === null,
  );
  if (silent !== undefined) {
    draft.block(`waits for node ${silent.name} to say that none of its instances is left`);
    return;
  }
  for (const host of draft.before.hosts) if (!draft.isFull) draft.releaseHost(host);
  if (draft.isFull) return;
  draft.forget();
  draft.because("no instance is left: the app's records go");
}

/** Releases that were still starting when a newer one was recorded. */
function supersede(draft: Draft, around: Surroundings): void {
  for (const deployment of draft.deployments()) {
    const { number, state, project, app, startedAt } = deployment;
    if (state !== "starting" || number === draft.app.target) continue;
    const endedAt = around.now;
    draft.putDeployment({ project, app, number, startedAt, state: "superseded", endedAt });
    draft.because(`${releaseName(number)} is superseded by a later release`);
  }
}
