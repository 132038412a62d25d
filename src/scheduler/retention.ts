import { releaseName } from "../model/release.ts";
import type { Draft } from "./draft.ts";
import type { Surroundings } from "./instances.ts";

/**
 * Old releases go, so that a cloud does not grow with every deploy. What stays: all that is
 * wanted, serves, starts or is assigned or seen anywhere; of the others the newest
 * `releasesKept` that served, and as many of those that never did, so that a row of failures
 * drives away none to roll back to.
 */
export function retire(draft: Draft, around: Surroundings): void {
  const needed = neededReleases(draft, around);
  const deployments = new Map(draft.deployments().map((each) => [each.number, each]));
  let served = 0;
  let others = 0;
  const retired: number[] = [];
  for (const { number } of [...draft.before.releases].reverse()) {
    if (needed.has(number)) continue;
    const hasServed = deployments.get(number)?.state === "replaced";
    if (hasServed) served += 1;
    else others += 1;
    if ((hasServed ? served : others) > around.releasesKept) retired.push(number);
  }
  // The oldest first: what does not fit into this step goes with the next.
  const going: string[] = [];
  for (const number of retired.reverse()) {
    if (draft.isFull) break;
    draft.retire(number);
    going.push(releaseName(number));
  }
  if (going.length > 0) draft.because(`no longer kept: ${going.join(", ")}`);
}

function neededReleases(draft: Draft, around: Surroundings): ReadonlySet<number | null> {
  const seen = around.observed.instancesOf(draft.before.key).values();
  return new Set([
    draft.app.target,
    draft.app.serving,
    draft.record.value.target,
    draft.record.value.serving,
    ...draft.before.assignments.map(({ value }) => value.release),
    ...draft.assignments().map(({ release }) => release),
    ...[...seen].map(({ status }) => status.release),
    ...draft.deployments().flatMap(({ state, number }) => (state === "starting" ? [number] : [])),
  ]);
}
