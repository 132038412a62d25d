import { ok } from "../../base/result.ts";
import type { Assignment } from "../../model/instance.ts";
import { keys } from "../../model/keys.ts";
import type { InstanceId, NodeName, ProjectName } from "../../model/names.ts";
import type { AppRef, InstanceView, Outcome, Page, PageRequest } from "../operations.ts";
import { badCursor, type Context, findApp, fromLedger, pageFault } from "./context.ts";
import { instanceViews, unseen } from "./views.ts";

const instanceId = /^[a-z0-9]{1,64}$/;

/**
 * The instances of a project in order of their ids, read from the ledger page by page: most of a
 * big pool's sleep and are not in memory. A page may have fewer than asked for, where another
 * project's lie between.
 */
export async function listInstances(
  context: Context,
  project: ProjectName,
  page: PageRequest,
): Outcome<Page<InstanceView>> {
  const fault = pageFault(page);
  if (fault !== null) return fault;
  const { after, limit } = page;
  if (after !== null && !instanceId.test(after)) return badCursor(after);
  const { observer, state } = context.engine;
  const found = new Map<InstanceId, InstanceView | Assignment>();
  for (const node of state.snapshot.nodes.keys()) {
    const from = after === null ? "" : keys.assignment(node, after as InstanceId);
    const listed = await context.ledger.list(keys.assignmentsOf(node), {
      ...(after === null ? {} : { after: from }),
      limit: limit + 1,
    });
    if (!listed.ok) return fromLedger("listing the instances", listed.error);
    for (const { value } of listed.value.entries) {
      const assignment = JSON.parse(value) as Assignment;
      found.set(assignment.instance, assignment);
    }
  }
  // Some outlive their assignment for a moment.
  for (const { node, status } of observer.instances()) {
    if (after === null || status.instance > after) found.set(status.instance, { ...status, node });
  }
  const sorted = [...found.keys()].sort();
  const some = sorted.slice(0, limit).flatMap((id) => found.get(id) ?? []);
  const items = await viewsOf(
    context,
    some.filter((each) => each.project === project),
  );
  const isLast = sorted.length <= limit;
  return ok({ items, next: isLast ? null : (some.at(-1)?.instance ?? null) });
}

export async function listAppInstances(
  context: Context,
  ref: AppRef,
): Outcome<readonly InstanceView[]> {
  const found = findApp(context, ref);
  return found.ok ? ok(instanceViews(context, found.value.state)) : found;
}

/** What was only assigned is asked for, node by node. */
async function viewsOf(
  { engine: { observer } }: Context,
  some: readonly (InstanceView | Assignment)[],
): Promise<readonly InstanceView[]> {
  const unknown = new Map<NodeName, InstanceId[]>();
  for (const each of some) {
    if ("phase" in each) continue;
    unknown.set(each.node, [...(unknown.get(each.node) ?? []), each.instance]);
  }
  const asked = await Promise.all(
    [...unknown].map(([node, ids]) => observer.statusesOf(node, ids)),
  );
  const told = new Map(asked.flat().map((status) => [status.instance, status]));
  return some.map((each) => {
    if ("phase" in each) return each;
    const status = told.get(each.instance);
    return status === undefined ? unseen(each) : { ...status, node: each.node };
  });
}
