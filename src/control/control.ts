import { ok, type Result } from "../base/result.ts";
import type { Clock, Random } from "../base/time.ts";
import type { Blobs } from "../fabric/blobs.ts";
import type { Ledger, LedgerError } from "../fabric/ledger.ts";
import type { Wire } from "../fabric/wire.ts";
import { Engine } from "./engine.ts";
import { Meters } from "./metrics/meters.ts";
import { AppNames } from "./operations/app-names.ts";
import * as apps from "./operations/apps.ts";
import * as certificates from "./operations/certificates.ts";
import { type Context, type ControlSettings, fromBlobs } from "./operations/context.ts";
import { costs } from "./operations/costs.ts";
import { deploy, rollback } from "./operations/deploy.ts";
import { setEnv, setSecrets } from "./operations/environment.ts";
import { KnownCosts } from "./operations/known-costs.ts";
import { logs } from "./operations/logs.ts";
import { metrics, top } from "./operations/observing.ts";
import { exec, run } from "./operations/sessions.ts";
import { scale, setLimits } from "./operations/sizing.ts";
import { UidOffsets } from "./operations/uid-offsets.ts";
import type { Operations } from "./operations.ts";
import type { SecretBox } from "./secrets.ts";

export type { ControlSettings } from "./operations/context.ts";

export interface ControlOptions {
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly random: Random;
  readonly secretBox: SecretBox;
  readonly settings: ControlSettings;
  /** Told of what control could not do and tries again; never a secret. */
  readonly onProblem?: (message: string) => void;
}

export interface Control {
  readonly operations: Operations;
  /** Loads the hard state and begins to lead or follow; the nodes may come later. */
  start(): Promise<Result<void, LedgerError>>;
  close(): Promise<void>;
}

/** Decides for the pool: keeps its state, plans on the leader, and serves every operation. */
export function createControl(options: ControlOptions): Control {
  const { ledger, wire, blobs, clock, random, secretBox, settings } = options;
  const engine = new Engine({
    ...{ ledger, wire, clock, random, secretBox },
    domain: settings.domain,
    replica: settings.replica,
    onProblem: options.onProblem ?? (() => {}),
  });
  const meters = new Meters(wire, clock);
  const uidOffsets = new UidOffsets(ledger);
  const appNames = new AppNames(engine.state);
  const releaseOf = (app: string) =>
    engine.state.snapshot.apps.get(app)?.app?.value.serving ?? null;
  const knownCosts = new KnownCosts(wire, releaseOf);
  const context: Context = {
    ...{ ledger, wire, blobs, clock, random, secretBox, settings },
    ...{ engine, uidOffsets, appNames, meters, knownCosts },
  };
  return {
    operations: operationsOf(context),
    start() {
      meters.start();
      knownCosts.start();
      return engine.start();
    },
    close() {
      meters.close();
      knownCosts.close();
      return engine.close();
    },
  };
}

function operationsOf(context: Context): Operations {
  return {
    status: () => apps.status(context),
    listApps: (project, page) => apps.listApps(context, project, page),
    getApp: (ref) => apps.getApp(context, ref),
    removeApp: (ref) => apps.removeApp(context, ref),
    async missingBlobs(digests) {
      const missing = await context.blobs.missing(digests);
      if (!missing.ok) return fromBlobs("looking for blobs", missing.error);
      const lacking = new Set(missing.value);
      return ok([...new Set(digests)].filter((digest) => lacking.has(digest)));
    },
    async putBlob(digest, content) {
      const stored = await context.blobs.put(digest, content);
      return stored.ok ? stored : fromBlobs(`storing blob ${digest}`, stored.error);
    },
    deploy: (ref, request, actor) => deploy(context, ref, request, actor),
    watchDeployment: (ref, release, signal) => apps.watchDeployment(context, ref, release, signal),
    listReleases: (ref, page) => apps.listReleases(context, ref, page),
    getRelease: (ref, release) => apps.getRelease(context, ref, release),
    rollback: (ref, release, actor) => rollback(context, ref, release, actor),
    setEnv: (ref, changes, actor) => setEnv(context, ref, changes, actor),
    setSecrets: (ref, changes, actor) => setSecrets(context, ref, changes, actor),
    scale: (ref, counts) => scale(context, ref, counts),
    setLimits: (ref, limits) => setLimits(context, ref, limits),
    listInstances: (project, app) => apps.listInstances(context, project, app),
    top: (project, signal) => top(context, project, signal),
    metrics: () => metrics(context),
    costs: (ref) => costs(context, ref),
    logs: (ref, query, signal) => logs(context, ref, query, signal),
    exec: (ref, request) => exec(context, ref, request),
    run: (ref, request) => run(context, ref, request),
    setCertificate: (name, certificate) => certificates.setCertificate(context, name, certificate),
    listCertificates: () => certificates.listCertificates(context),
    removeCertificate: (name) => certificates.removeCertificate(context, name),
  };
}
