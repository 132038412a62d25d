import { err, type Result } from "../../base/result.ts";
import type { Clock, Random } from "../../base/time.ts";
import type { BlobError, Blobs } from "../../fabric/blobs.ts";
import type { Condition, Ledger, LedgerError, Write } from "../../fabric/ledger.ts";
import type { Wire, WireError } from "../../fabric/wire.ts";
import type { App } from "../../model/app.ts";
import { appKey } from "../../model/keys.ts";
import { releaseName } from "../../model/release.ts";
import { type AppState, emptyAppState, type Stored } from "../../scheduler/snapshot.ts";
import type { Collector } from "../collect/collector.ts";
import type { Engine, FirstSteps } from "../engine.ts";
import type { Meters } from "../metrics/meters.ts";
import type { AppRef, OperationError, OperationErrorCode, PageRequest } from "../operations.ts";
import type { SecretBox } from "../secrets.ts";
import type { KnownCosts } from "./known-costs.ts";
import type { UidOffsets } from "./uid-offsets.ts";

export interface ControlSettings {
  readonly version: string;
  /** Apps answer on `<app>.<domain>`, of other projects on `<app>.<project>.<domain>`. */
  readonly domain: string;
  readonly httpPort: number;
  readonly httpsPort: number | null;
  /** Earlier releases kept of each app to roll back to. */
  readonly releasesKept: number;
  /** Names this replica for ever: the same after each restart, another for each machine. */
  readonly replica: string;
}

/** What the operations work with. */
export interface Context {
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly random: Random;
  readonly secretBox: SecretBox;
  readonly settings: ControlSettings;
  readonly engine: Engine;
  readonly uidOffsets: UidOffsets;
  readonly meters: Meters;
  readonly collector: Collector;
  readonly knownCosts: KnownCosts;
}

export type Refusal = { readonly ok: false; readonly error: OperationError };

export function refuse(
  code: OperationErrorCode,
  message: string,
  remedy: string | null = null,
  at: string | null = null,
): Refusal {
  return err({ code, message, remedy, at });
}

/** An app that is there and stays; else why not. */
export function findApp(
  context: Context,
  ref: AppRef,
): Result<{ readonly state: AppState; readonly app: Stored<App> }, OperationError> {
  const state = stateOf(context, ref);
  if (state.app === null) {
    return refuse(
      "notFound",
      `there is no app ${ref.app} in project ${ref.project}`,
      `see "lode ps" for the apps there are, or deploy it: lode deploy --app ${ref.app}`,
    );
  }
  return { ok: true, value: { state, app: state.app } };
}

/** As `findApp`, for what changes the app. */
export function findLastingApp(context: Context, ref: AppRef): ReturnType<typeof findApp> {
  const found = findApp(context, ref);
  return found.ok && found.value.app.value.removing ? beingRemoved(ref) : found;
}

export function stateOf(context: Context, ref: AppRef): AppState {
  const key = appKey(ref.project, ref.app);
  return context.engine.state.snapshot.apps.get(key) ?? emptyAppState(key);
}

/** A release that is not there: it never was, or is no longer kept. */
export function noRelease(
  { settings }: Context,
  ref: AppRef,
  state: AppState,
  number: number,
): Refusal {
  const name = releaseName(number);
  const remedy = `see lode releases --app ${ref.app}`;
  const wasThere = number >= 1 && number < (state.app?.value.nextRelease ?? 1);
  if (!wasThere) return refuse("notFound", `${ref.app} has no release ${name}`, remedy);
  const message =
    `${name} of ${ref.app} is no longer kept: the cloud keeps the present release ` +
    `and ${settings.releasesKept} before it`;
  return refuse("notFound", message, remedy);
}

export function beingRemoved(ref: AppRef): Refusal {
  return refuse(
    "conflict",
    `${ref.app} is being removed`,
    "try again when its instances have ended, in at most a minute",
  );
}

export function fromLedger(doing: string, error: LedgerError): Refusal {
  const message = `${doing}: the ledger is not usable now: ${error.message}`;
  switch (error.code) {
    case "full":
      return refuse(
        "storageFull",
        `${doing}: ${error.message}`,
        "free space in the data directory",
      );
    case "tooLarge":
      return refuse("tooLarge", `${doing}: ${error.message}`, "make the configuration smaller");
    case "corrupt":
      return refuse("internal", message, "restore the data directory from a backup");
    default:
      return refuse("unavailable", message, "try again");
  }
}

export function fromBlobs(doing: string, error: BlobError): Refusal {
  const message = `${doing}: ${error.message}`;
  switch (error.code) {
    case "digestMismatch":
      return refuse("invalid", message, "the file changed while it was sent: deploy again");
    case "missing":
      return refuse("conflict", message, "upload it, then deploy again");
    case "full":
      return refuse("storageFull", message, "free space in the data directory");
    case "tooLarge":
      return refuse("tooLarge", message, "exclude the file with .lodeignore");
    case "corrupt":
    case "unavailable":
      return refuse("unavailable", message, "try again");
  }
}

export function fromWire(doing: string, error: WireError): Refusal {
  const remedy =
    error.code === "noResponder" ? 'see "lode status" for the node' : "try again in a moment";
  return refuse("unavailable", `${doing}: ${error.message}`, remedy);
}

const pageMax = 1_000;

export function pageFault({ limit }: PageRequest): Refusal | null {
  if (Number.isInteger(limit) && limit >= 1 && limit <= pageMax) return null;
  const message = `limit=${limit} is not a page's size`;
  return refuse("invalid", message, `write a whole number from 1 to ${pageMax}`, "/limit");
}

export function badCursor(after: string): Refusal {
  const message = `"${after.slice(0, 80)}" is not a place in this list`;
  return refuse("invalid", message, "use the next of the page before", "/after");
}

const attemptsMax = 100;

export interface Proposal<Value> {
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
  readonly value: Value;
  /** Holds the room that the writes take until they are in the snapshot. */
  readonly taking?: FirstSteps["taking"];
}

/**
 * Writes what `propose` makes of the present state, anew until nobody else changed it in
 * between: every writer gets through, in the order of the ledger, and nothing can get stuck.
 */
export async function commit<Value>(
  context: Context,
  doing: string,
  propose: () => Promise<Result<Proposal<Value>, OperationError>>,
): Promise<Result<Value, OperationError>> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const proposal = await propose();
    if (!proposal.ok) return proposal;
    const { conditions, writes, value } = proposal.value;
    if (writes.length === 0) return { ok: true, value };
    const write = async () => {
      const written = await context.ledger.transact({ conditions, writes });
      if (written.ok) await context.engine.state.reached(written.value.revision);
      return written;
    };
    const outcome = await (proposal.value.taking?.(write) ?? write());
    if (!outcome.ok) return fromLedger(doing, outcome.error);
    if (outcome.value.applied) return { ok: true, value };
  }
  return refuse("conflict", `${doing}: others changed it at the same time`, "try again");
}
