import { ok, type Result } from "../../base/result.ts";
import type { App } from "../../model/app.ts";
import { environmentFault } from "../../model/config/lode-toml.ts";
import { type AppState, releaseOf } from "../../scheduler/snapshot.ts";
import type { Actor, AppRef, OperationError, Outcome } from "../operations.ts";
import { type Context, findApp, refuse, stateOf } from "./context.ts";
import { recordRelease } from "./record-release.ts";

type Changes = Readonly<Record<string, string | null>>;
type Variables = Pick<App, "env" | "secrets">;

export function setEnv(
  context: Context,
  ref: AppRef,
  changes: Changes,
  actor: Actor,
): Outcome<{ release: number | null }> {
  return change(context, ref, actor, "env", changes, ({ env, secrets }) => ({
    env: changed(env, changes),
    secrets: without(secrets, changes),
  }));
}

export function setSecrets(
  context: Context,
  ref: AppRef,
  changes: Changes,
  actor: Actor,
): Outcome<{ release: number | null }> {
  const sealed = Object.fromEntries(
    Object.entries(changes).map(([name, value]) => [
      name,
      value === null ? null : context.secretBox.seal(value),
    ]),
  );
  return change(context, ref, actor, "secrets", changes, ({ env, secrets }) => ({
    env: without(env, changes),
    secrets: changed(secrets, sealed),
  }));
}

/** A name is a variable or a secret: setting it as one ends it as the other. */
async function change(
  context: Context,
  ref: AppRef,
  actor: Actor,
  what: "env" | "secrets",
  changes: Changes,
  apply: (before: Variables) => Variables,
): Outcome<{ release: number | null }> {
  const fault = faultOf(changes);
  if (fault !== null) return fault;
  const isUnsetting = Object.values(changes).every((value) => value === null);
  const found = findApp(context, ref);
  if (isUnsetting && !found.ok) return found;
  const recorded = await recordRelease(context, ref, actor, (state, app) => {
    const after = apply(app);
    const isSame =
      JSON.stringify([after.env, after.secrets]) === JSON.stringify([app.env, app.secrets]);
    const base = releaseOf(state, app.target ?? app.serving);
    if (isSame || base === null) return ok({ onlyApp: { ...app, ...after } });
    return ok({
      cause: causeOf(what, changes),
      manifest: base.manifest,
      config: base.config,
      env: after.env,
      secrets: after.secrets,
      appEnv: after.env,
      appSecrets: after.secrets,
    });
  });
  if (!recorded.ok) return recorded;
  return ok({ release: recorded.value?.number ?? wantedRelease(stateOf(context, ref)) });
}

function wantedRelease(state: AppState): number | null {
  return state.app?.value.target ?? null;
}

function faultOf(changes: Changes): Result<never, OperationError> | null {
  const names = Object.keys(changes);
  if (names.length === 0)
    return refuse("invalid", "no variable was named", "write it as NAME=value");
  for (const name of names) {
    const fault = environmentFault(name, changes[name] ?? "");
    if (fault !== null) return refuse("invalid", fault, null, `/${name}`);
  }
  return null;
}

function changed(
  before: Readonly<Record<string, string>>,
  changes: Changes,
): Readonly<Record<string, string>> {
  const after = { ...before };
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) delete after[name];
    else after[name] = value;
  }
  return after;
}

function without(
  before: Readonly<Record<string, string>>,
  changes: Changes,
): Readonly<Record<string, string>> {
  const isSet = (name: string) => (changes[name] ?? null) !== null;
  return Object.fromEntries(Object.entries(before).filter(([name]) => !isSet(name)));
}

function causeOf(what: string, changes: Changes): string {
  const names = (wanted: (value: string | null) => boolean) =>
    Object.keys(changes).filter((name) => wanted(changes[name] ?? null));
  const set = names((value) => value !== null);
  const unset = names((value) => value === null);
  const parts = [
    set.length > 0 ? `set ${set.join(" ")}` : null,
    unset.length > 0 ? `unset ${unset.join(" ")}` : null,
  ].filter((part) => part !== null);
  return `${what} ${parts.join(", ")}`;
}
