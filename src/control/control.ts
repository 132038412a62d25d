import { ok, type Result } from "../base/result.ts";
import type { Clock, Random } from "../base/time.ts";
import type { Blobs } from "../fabric/blobs.ts";
import type { Ledger, LedgerError } from "../fabric/ledger.ts";
import type { Wire } from "../fabric/wire.ts";
import { appKey } from "../model/keys.ts";
import { Collector } from "./collect/collector.ts";
import { Engine } from "./engine.ts";
import { Meters } from "./metrics/meters.ts";
import * as apps from "./operations/apps.ts";
import * as certificates from "./operations/certificates.ts";
import { type Context, type ControlSettings, fromBlobs, fromLedger } from "./operations/context.ts";
import { costs } from "./operations/costs.ts";
import { deploy, rollback } from "./operations/deploy.ts";
import { setEnv, setSecrets } from "./operations/environment.ts";
import * as instances from "./operations/instances.ts";
import { KnownCosts } from "./operations/known-costs.ts";
import { logs } from "./operations/logs.ts";
import { metrics, top } from "./operations/observing.ts";
import { exec, run } from "./operations/sessions.ts";
import { scale, setLimits } from "./operations/sizing.ts";
import { UidOffsets } from "./operations/uid-offsets.ts";
import type { AppRef, Operations, Outcome } from "./operations.ts";
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
  /** Told of what was done that nobody asked for: one line for an operator. */
  readonly onNotice?: (message: string) => void;
}

export interface Control {
  readonly operations: Operations;
  /** Begins to read the hard state, then to lead or follow; what is asked waits for that. */
  start(): Promise<Result<void, LedgerError>>;
  close(): Promise<void>;
}

/** Decides for the pool: keeps its state, plans on the leader, and serves every operation. */
export function createControl(options: ControlOptions): Control {
  const { ledger, wire, blobs, clock, random, secretBox, settings } = options;
  const knownCosts = new KnownCosts(wire);
  const onProblem = options.onProblem ?? (() => {});
  const engine = new Engine({
    ...{ ledger, wire, clock, random, secretBox },
    domain: settings.domain,
    releasesKept: settings.releasesKept,
    replica: settings.replica,
    costsOf: (app, release) => knownCosts.of(app, release),
    onReleases: () => collector.changed(),
    onProblem,
  });
  const collector = new Collector({
    ...{ ledger, blobs, wire, clock, onProblem },
    isLeading: () => engine.isLeading,
    onCollected: options.onNotice ?? (() => {}),
  });
  const meters = new Meters(wire, clock);
  const uidOffsets = new UidOffsets(ledger);
  const context: Context = {
    ...{ ledger, wire, blobs, clock, random, secretBox, settings },
    ...{ engine, uidOffsets, meters, knownCosts, collector },
  };
  return {
    operations: operationsOf(context),
    start() {
      meters.start();
      knownCosts.start();
      collector.start();
      return engine.start();
    },
    close() {
      meters.close();
      knownCosts.close();
      collector.close();
      return engine.close();
    },
  };
}

function operationsOf(context: Context): Operations {
  /** With the app's records in the snapshot, where it exists. */
  async function of<Value>(
    { project, app }: AppRef,
    operation: () => Outcome<Value>,
  ): Outcome<Value> {
    const ready = await context.engine.ensure([appKey(project, app)]);
    return ready.ok ? operation() : fromLedger(`reading ${app}`, ready.error);
  }
  /** With the snapshot read, which takes a while after a start. */
  async function whole<Value>(operation: () => Outcome<Value>): Outcome<Value> {
    await context.engine.state.indexed;
    return operation();
  }
  return {
    status: () => whole(() => apps.status(context)),
    listApps: (project, page) => apps.listApps(context, project, page),
    getApp: (ref) => of(ref, () => apps.getApp(context, ref)),
    removeApp: (ref) => of(ref, () => apps.removeApp(context, ref)),
    async missingBlobs(digests) {
      const missing = await context.blobs.missing(digests);
      if (!missing.ok) return fromBlobs("looking for blobs", missing.error);
      const lacking = new Set(missing.value);
      return ok([...new Set(digests)].filter((digest) => lacking.has(digest)));
    },
    async putBlob(digest, content) {
      const stored = await context.blobs.put(digest, content);
      context.collector.changed();
      return stored.ok ? stored : fromBlobs(`storing blob ${digest}`, stored.error);
    },
    deploy: (ref, request, actor) => of(ref, () => deploy(context, ref, request, actor)),
    watchDeployment: (ref, release, signal) =>
      of(ref, () => apps.watchDeployment(context, ref, release, signal)),
    listReleases: (ref, page) => of(ref, () => apps.listReleases(context, ref, page)),
    getRelease: (ref, release) => of(ref, () => apps.getRelease(context, ref, release)),
    rollback: (ref, release, actor) => of(ref, () => rollback(context, ref, release, actor)),
    setEnv: (ref, changes, actor) => of(ref, () => setEnv(context, ref, changes, actor)),
    setSecrets: (ref, changes, actor) => of(ref, () => setSecrets(context, ref, changes, actor)),
    scale: (ref, counts) => of(ref, () => scale(context, ref, counts)),
    setLimits: (ref, limits) => of(ref, () => setLimits(context, ref, limits)),
    listInstances: (project, page) => whole(() => instances.listInstances(context, project, page)),
    listAppInstances: (ref) => of(ref, () => instances.listAppInstances(context, ref)),
    top: (project, signal) => whole(() => top(context, project, signal)),
    metrics: () => whole(() => metrics(context)),
    costs: (ref) => of(ref, () => costs(context, ref)),
    logs: (ref, query, signal) => of(ref, () => logs(context, ref, query, signal)),
    exec: (ref, request) => of(ref, () => exec(context, ref, request)),
    run: (ref, request) => of(ref, () => run(context, ref, request)),
    setCertificate: (name, certificate) =>
      whole(() => certificates.setCertificate(context, name, certificate)),
    listCertificates: () => whole(() => certificates.listCertificates(context)),
    removeCertificate: (name) => whole(() => certificates.removeCertificate(context, name)),
  };
}
