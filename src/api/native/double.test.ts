import { createHash } from "node:crypto";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import { seededRandom } from "../../base/virtual.ts";
import type {
  Actor,
  AppRef,
  AppView,
  DeployAccepted,
  ExecSession,
  InstanceView,
  OperationError,
  OperationErrorCode,
  Operations,
  ReleaseView,
  TopApp,
  TopInstance,
} from "../../control/operations.ts";
import { systemClock } from "../../fabric/system.ts";
import type { Authenticator } from "../../identity/identity.ts";
import { defaultLimits } from "../../model/limits.ts";
import type { AppName, Digest, InstanceId, NodeName, ProcessType } from "../../model/names.ts";
import type { Manifest } from "../../model/release.ts";
import type { DeploymentEvent, ExecInput, ExecOutput, LogLine } from "../../model/wire.ts";
import { type ApiSettings, defaultApiLimits, type Tokens, type TokenView } from "./services.ts";

/**
 * A cloud small enough to be read: the operations over plain maps, for tests of what stands
 * before them. A release whose files include `fails.txt` fails to start.
 */
export interface Double {
  readonly operations: Operations;
  readonly tokens: Tokens;
  readonly authenticator: Authenticator;
  /** Every change that was asked for, in order, with its author. */
  readonly calls: { name: string; actor: string }[];
  readonly blobs: Map<string, Uint8Array>;
  readonly secrets: Map<string, string>;
  /** Adds a line that followers see. */
  readonly log: (app: string, text: string) => void;
  /** Makes the next operation of that name answer with this. */
  readonly failNext: (name: keyof Operations, error: Partial<OperationError>) => void;
}

interface Record_ {
  view: AppView;
  releases: { view: ReleaseView; events: DeploymentEvent[] }[];
  lines: LogLine[];
}

export const adminSecret = "test-admin-secret";
export const memberSecret = "test-member-secret";

function fail<Value>(
  code: OperationErrorCode,
  message: string,
  remedy: string | null = null,
): Result<Value, OperationError> {
  return err({ code, message, remedy, at: null });
}

function topApp(app: AppName): TopApp {
  const usage = {
    ...{ cpuCores: 0.25, cpuTimeUs: 1000, memoryBytes: 3_200_000, oomKills: 0, confined: true },
    ...{ cpuCredit: { left: 30, capacity: 120 }, memoryCredit: null },
  };
  const counts = { requestsPerSecond: 12.5, inFlight: 3 };
  const instance: TopInstance = {
    ...{ instance: "i0000000001" as InstanceId, node: "here" as NodeName, release: 1 },
    ...{ process: "web" as ProcessType, state: "running", ...counts, usage },
  };
  return {
    ...{ app, state: "serving", cpuCores: 0.25, memoryBytes: 3_200_000, ...counts, held: 1 },
    instances: [instance],
  };
}

/** What an API needs to stand before a double. */
export function dependenciesOf(double: Double, settings: Partial<ApiSettings> = {}) {
  return {
    operations: double.operations,
    tokens: double.tokens,
    authenticator: double.authenticator,
    clock: systemClock,
    random: seededRandom(1),
    settings: { version: "0.1.0", hostNames: [], limits: defaultApiLimits, ...settings },
    log: (_event: string): unknown => undefined,
  };
}

export function createDouble(clock: Clock): Double {
  const apps = new Map<string, Record_>();
  const blobs = new Map<string, Uint8Array>();
  const certificates = new Map<string, { name: string; hosts: string[]; expiresAt: number }>();
  const secrets = new Map<string, string>();
  const tokens = new Map<string, { view: TokenView; secret: string }>();
  const calls: { name: string; actor: string }[] = [];
  const failures = new Map<string, OperationError>();
  const waiters = new Set<() => void>();

  const key = (ref: AppRef) => `${ref.project}/${ref.app}`;
  const note = (name: string, actor: Actor) => calls.push({ name, actor: actor.id });
  const find = (ref: AppRef): Result<Record_, OperationError> => {
    const record = apps.get(key(ref));
    return record === undefined
      ? fail("notFound", `there is no app "${ref.app}"`, "`lode apps` lists them")
      : ok(record);
  };

  function instanceOf(ref: AppRef, release: number): InstanceView {
    return {
      instance: `i${"0".repeat(10)}${release}` as InstanceId,
      project: ref.project,
      app: ref.app,
      release,
      process: "web" as ProcessType,
      node: "here" as NodeName,
      phase: { state: "running", pid: 4711, startedAt: clock.now(), endpoint: null },
      wasHealthy: true,
      restarts: 0,
      lastExit: null,
      usage: {
        cpuCores: 0.25,
        cpuTimeUs: 1000,
        memoryBytes: 3_200_000,
        oomKills: 0,
        confined: false,
        cpuCredit: null,
        memoryCredit: null,
      },
    };
  }

  function recordOf(ref: AppRef): Record_ {
    const known = apps.get(key(ref));
    if (known !== undefined) return known;
    const view: AppView = {
      project: ref.project,
      name: ref.app,
      createdAt: clock.now(),
      urls: [`http://${ref.app}.localhost:8080`],
      serving: null,
      target: null,
      counts: {},
      limits: { cpu: null, memory: null },
      env: {},
      secretNames: [],
      state: "empty",
      instances: [],
    };
    const record: Record_ = { view, releases: [], lines: [] };
    apps.set(key(ref), record);
    return record;
  }

  function eventsOf(failed: boolean, at: number): DeploymentEvent[] {
    const durationMs = { build: 0, start: 12, total: 20 };
    const begun: DeploymentEvent[] = [
      { kind: "stage", stage: "build", state: "begin", at, message: "installing dependencies" },
      { kind: "output", at, line: "added 3 packages" },
      { kind: "stage", stage: "build", state: "end", at, message: "layer is ready" },
      { kind: "stage", stage: "start", state: "begin", at, message: "starting web" },
    ];
    if (failed) {
      const logTail = ["listening on nothing", "Error: no luck"];
      const reason = "web exited with code 1 before it was healthy";
      return [...begun, { kind: "end", at, state: "failed", reason, logTail, durationMs }];
    }
    return [
      ...begun,
      { kind: "stage", stage: "switch", state: "end", at, message: "serving" },
      { kind: "end", at, state: "serving", reason: null, logTail: [], durationMs },
    ];
  }

  function release(ref: AppRef, manifest: Manifest, cause: string, actor: Actor): DeployAccepted {
    const record = recordOf(ref);
    const number = record.releases.length + 1;
    const failed = manifest.entries.some((entry) => entry.path === "fails.txt");
    const digest = createHash("sha256").update(JSON.stringify(manifest)).digest("hex");
    blobs.set(digest, new TextEncoder().encode(JSON.stringify(manifest)));
    const recognition = { kind: "static", reason: "there is an index.html" } as const;
    const at = clock.now();
    const base = { project: ref.project, app: ref.app, number, startedAt: at };
    const view: ReleaseView = {
      release: {
        project: ref.project,
        app: ref.app,
        number,
        createdAt: at,
        createdBy: actor.id,
        cause,
        manifest: digest as Digest,
        config: {
          recognition,
          processes: {
            ["web" as ProcessType]: { command: { kind: "static", root: "." }, listen: "unix" },
          },
          build: [],
          http: {
            process: "web" as ProcessType,
            hosts: [],
            health: { path: null, timeoutMs: 30_000 },
          },
          limits: defaultLimits,
          scale: { min: 0, max: 8, inFlight: 32, freezeMs: 30_000, idleMs: 300_000 },
          egress: { kind: "public" },
          env: {},
        },
        env: record.view.env,
        secretNames: record.view.secretNames,
      },
      deployment: failed
        ? { ...base, state: "failed", endedAt: at, stage: "start", reason: "x", logTail: [] }
        : { ...base, state: "serving", servingAt: at },
    };
    record.releases.push({ view, events: eventsOf(failed, at) });
    if (failed) record.view = { ...record.view, state: "failed" };
    else {
      const instances = [instanceOf(ref, number)];
      record.view = {
        ...record.view,
        state: "serving",
        serving: number,
        target: number,
        instances,
      };
    }
    return { app: ref.app, release: number, url: record.view.urls[0] ?? null, recognition };
  }

  function setVariables(ref: AppRef, what: string, actor: Actor): { release: number | null } {
    const record = recordOf(ref);
    note(what, actor);
    if (record.releases.length === 0) return { release: null };
    return { release: release(ref, { entries: [] }, what, actor).release };
  }

  async function* linesOf(record: Record_, from: LogLine[], follow: boolean, signal: AbortSignal) {
    yield* from;
    let position = record.lines.length;
    while (follow && !signal.aborted) {
      while (position < record.lines.length) {
        const line = record.lines[position++];
        if (line !== undefined) yield line;
      }
      await new Promise<void>((resolve) => {
        waiters.add(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  const operations: Operations = {
    async top(_, signal) {
      async function* frames() {
        for (let at = 1; at <= 3 && !signal.aborted; at += 1) {
          yield { at, apps: [topApp("hello" as AppName)], more: at };
          await Bun.sleep(5);
        }
      }
      return ok(frames());
    },
    async metrics() {
      const labels = { app: 'a"\\' };
      const samples = [{ suffix: "" as const, labels, value: 2.5 }];
      const named = { kind: "counter" as const, name: "lode_test_total", help: "Two\nlines." };
      return ok([
        { ...named, samples },
        { ...named, name: "lode_none_total", samples: [] },
      ]);
    },
    async status() {
      const nodes = [
        {
          name: "here" as NodeName,
          capacity: { cores: 2, memoryBytes: 4 * 1024 ** 3 },
          alive: true,
          instances: apps.size,
        },
      ];
      const ports = { httpPort: 8080, httpsPort: null };
      const collected = { blobs: 0, blobBytes: 0, trees: 0, treeBytes: 0 };
      const counts = { apps: apps.size, instances: apps.size, releasesKept: 10, collected };
      return ok({ version: "0.1.0", domain: "localhost", ...ports, nodes, ...counts });
    },
    async listApps(project, page) {
      const all = [...apps.values()]
        .map((record) => record.view)
        .filter((view) => view.project === project && view.name > (page.after ?? ""))
        .sort((left, right) => (left.name < right.name ? -1 : 1));
      const items = all.slice(0, page.limit);
      return ok({ items, next: all.length > items.length ? (items.at(-1)?.name ?? null) : null });
    },
    async getApp(ref) {
      const record = find(ref);
      return record.ok ? ok(record.value.view) : record;
    },
    async removeApp(ref, actor) {
      const record = find(ref);
      if (!record.ok) return record;
      note("removeApp", actor);
      apps.delete(key(ref));
      return ok(undefined);
    },
    async missingBlobs(digests) {
      return ok(digests.filter((digest) => !blobs.has(digest)));
    },
    async putBlob(digest, content) {
      try {
        const bytes = new Uint8Array(await new Response(content).arrayBuffer());
        const seen = createHash("sha256").update(bytes).digest("hex");
        if (seen !== digest) return fail("unprocessable", `the bytes have the digest ${seen}`);
        blobs.set(digest, bytes);
        return ok({ size: bytes.byteLength });
      } catch (cause) {
        return fail("unavailable", `the upload broke: ${String(cause)}`);
      }
    },
    async deploy(ref, request, actor) {
      for (const entry of request.manifest.entries) {
        if (entry.kind === "file" && !blobs.has(entry.digest)) {
          return fail("conflict", `the blob of "${entry.path}" is missing`);
        }
        if (entry.path.startsWith("/")) {
          return err({ code: "invalid", message: "absolute", remedy: null, at: "/manifest" });
        }
      }
      note("deploy", actor);
      return ok(release(ref, request.manifest, "deploy", actor));
    },
    async watchDeployment(ref, number) {
      const record = find(ref);
      if (!record.ok) return record;
      const known = record.value.releases[number - 1];
      if (known === undefined) return fail("notFound", `${ref.app} has no release v${number}`);
      const { events } = known;
      return ok(
        (async function* () {
          yield* events;
        })(),
      );
    },
    async listReleases(ref, page) {
      const record = find(ref);
      if (!record.ok) return record;
      const before = page.after === null ? Number.POSITIVE_INFINITY : Number(page.after);
      const all = record.value.releases
        .map((entry) => entry.view)
        .filter((view) => view.release.number < before)
        .reverse();
      const items = all.slice(0, page.limit);
      const last = items.at(-1)?.release.number;
      return ok({ items, next: all.length > items.length ? String(last) : null });
    },
    async getRelease(ref, number) {
      const record = find(ref);
      if (!record.ok) return record;
      const known = record.value.releases[number - 1];
      return known === undefined ? fail("notFound", `no release v${number}`) : ok(known.view);
    },
    async rollback(ref, number, actor) {
      const record = find(ref);
      if (!record.ok) return record;
      const wanted = number ?? record.value.releases.length - 1;
      if (record.value.releases[wanted - 1] === undefined) {
        return fail("notFound", `${ref.app} has no release v${wanted} to go back to`);
      }
      note("rollback", actor);
      return ok(release(ref, { entries: [] }, `rollback to v${wanted}`, actor));
    },
    async setEnv(ref, changes, actor) {
      const record = recordOf(ref);
      const env = { ...record.view.env };
      for (const [name, value] of Object.entries(changes)) {
        if (value === null) delete env[name];
        else env[name] = value;
      }
      record.view = { ...record.view, env };
      return ok(setVariables(ref, "setEnv", actor));
    },
    async setSecrets(ref, changes, actor) {
      const record = recordOf(ref);
      const names = new Set(record.view.secretNames);
      for (const [name, value] of Object.entries(changes)) {
        if (value === null) names.delete(name);
        else names.add(name);
        if (value !== null) secrets.set(name, value);
      }
      record.view = { ...record.view, secretNames: [...names].sort() };
      return ok(setVariables(ref, "setSecrets", actor));
    },
    async scale(ref, counts, actor) {
      const record = find(ref);
      if (!record.ok) return record;
      note("scale", actor);
      record.value.view = { ...record.value.view, counts: { ...counts } };
      return ok(record.value.view);
    },
    async setLimits(ref, limits, actor) {
      const record = find(ref);
      if (!record.ok) return record;
      note("setLimits", actor);
      const { view } = record.value;
      record.value.view = { ...view, limits: { ...view.limits, ...limits } };
      return ok(record.value.view);
    },
    async listInstances(project, { after, limit }) {
      const items = [...apps.values()]
        .filter(({ view }) => view.project === project)
        .flatMap(({ view }) => view.instances)
        .filter(({ instance }) => after === null || instance > after)
        .sort((one, other) => (one.instance < other.instance ? -1 : 1));
      const some = items.slice(0, limit);
      return ok({
        items: some,
        next: items.length > limit ? (some.at(-1)?.instance ?? null) : null,
      });
    },
    async listAppInstances(ref) {
      const record = find(ref);
      return record.ok ? ok(record.value.view.instances) : record;
    },
    async costs(ref) {
      const record = find(ref);
      if (!record.ok) return record;
      const common = { confidence: 0.9, reported: false };
      const classes = [{ ...common, name: "GET /", costUs: 1500, requests: 12 }];
      return ok({ classes, idleUs: 200, sure: true, learnedAt: 1000 });
    },
    async logs(ref, query, signal) {
      const record = find(ref);
      if (!record.ok) return record;
      const lines = record.value.lines.filter((line) => line.at >= (query.since ?? 0));
      const tail = query.tail === 0 ? [] : lines.slice(-query.tail);
      return ok(linesOf(record.value, tail, query.follow, signal));
    },
    async exec(ref, request, actor) {
      const record = find(ref);
      if (!record.ok) return record;
      note("exec", actor);
      return ok(createSession(request.argv));
    },
    async run(ref, request, actor) {
      const record = find(ref);
      if (!record.ok) return record;
      note("run", actor);
      return ok(createSession(request.argv));
    },
    async setCertificate(name, certificate, actor) {
      if (!certificate.certificateChain.includes("BEGIN CERTIFICATE")) {
        return fail("invalid", "the certificate chain is not PEM");
      }
      note("setCertificate", actor);
      const stored = { hosts: ["a.example"], expiresAt: clock.now() + 1000 };
      certificates.set(name, { name, ...stored });
      return ok(stored);
    },
    async listCertificates() {
      return ok([...certificates.values()]);
    },
    async removeCertificate(name, actor) {
      note("removeCertificate", actor);
      return certificates.delete(name) ? ok(undefined) : fail("notFound", `no "${name}"`);
    },
  };

  const failable = new Proxy(operations, {
    get(target, name: keyof Operations) {
      const failure = failures.get(name);
      if (failure === undefined) return target[name];
      failures.delete(name);
      return async () => err(failure);
    },
  });

  return {
    operations: failable,
    calls,
    blobs,
    secrets,
    tokens: {
      async create(request) {
        const view = { id: `t${tokens.size + 1}`, ...request, createdAt: clock.now() };
        tokens.set(view.id, { view, secret: `secret-of-${view.id}` });
        return ok({ token: `secret-of-${view.id}`, view });
      },
      list: async () => ok([...tokens.values()].map(({ view }) => view)),
      async revoke(id) {
        const unknown = { code: "notFound", message: `there is no token ${id}` } as const;
        return tokens.delete(id) ? ok(undefined) : err(unknown);
      },
    },
    authenticator: {
      async authenticate(bearer) {
        if (bearer === adminSecret) return { id: "admin", name: "admin", roles: ["admin"] };
        if (bearer === memberSecret) return { id: "m", name: "a member", roles: ["member"] };
        return [...tokens.values()].find(({ secret }) => secret === bearer)?.view ?? null;
      },
    },
    log(app, text) {
      const record = recordOf({ project: "default", app } as AppRef);
      record.lines.push({
        at: clock.now(),
        app: app as AppName,
        instance: "i00000000001" as InstanceId,
        process: "web" as ProcessType,
        stream: "out",
        text,
      });
      for (const wake of waiters) wake();
      waiters.clear();
    },
    failNext: (name, error) =>
      failures.set(name, {
        code: "internal",
        message: "it failed",
        remedy: null,
        at: null,
        ...error,
      }),
  };
}

/** `cat`: gives back its input, then exits; `exit N`: exits at once; others print themselves. */
function createSession(argv: readonly string[]): ExecSession {
  const queue: ExecOutput[] = [];
  let wake: (() => void) | null = null;
  let closed = false;
  const push = (output: ExecOutput) => {
    queue.push(output);
    wake?.();
  };
  const print = (stream: "stdout" | "stderr", text: string) =>
    push({ kind: "data", stream, data: Buffer.from(text).toString("base64") });
  if (argv[0] === "exit") push({ kind: "exit", code: Number(argv[1]) });
  else if (argv[0] !== "cat") {
    print("stdout", `${argv.join(" ")}\n`);
    print("stderr", "done\n");
    push({ kind: "exit", code: 0 });
  }
  return {
    input(message: ExecInput) {
      if (argv[0] !== "cat") return;
      if (message.kind === "data") push({ kind: "data", stream: "stdout", data: message.data });
      if (message.kind === "resize") print("stderr", `${message.columns}x${message.rows}\n`);
      if (message.kind === "eof") push({ kind: "exit", code: 0 });
      if (message.kind === "signal") push({ kind: "exit", code: 143 });
    },
    output: {
      async *[Symbol.asyncIterator]() {
        while (!closed || queue.length > 0) {
          const next = queue.shift();
          if (next === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
            continue;
          }
          yield next;
          if (next.kind === "exit") return;
        }
      },
    },
    close() {
      closed = true;
      wake?.();
    },
  };
}
