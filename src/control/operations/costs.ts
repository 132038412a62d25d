import { ok } from "../../base/result.ts";
import { appKey } from "../../model/keys.ts";
import type { AppRef, CostsView, Outcome } from "../operations.ts";
import { type Context, findApp } from "./context.ts";

export async function costs(context: Context, ref: AppRef): Outcome<CostsView> {
  const found = findApp(context, ref);
  if (!found.ok) return found;
  const { serving } = found.value.app.value;
  const known = context.knownCosts.of(appKey(ref.project, ref.app), serving);
  if (known === null) return ok({ classes: [], idleUs: 0, sure: false, learnedAt: null });
  const { idleUs, sure, at } = known;
  const work = ({ costUs, requests }: CostsView["classes"][number]) => costUs * requests;
  const classes = [...known.classes].sort((one, other) => work(other) - work(one));
  return ok({ classes, idleUs, sure, learnedAt: at });
}
