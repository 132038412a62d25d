import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseBytes, parseDurationMs } from "../base/units.ts";
import type { App } from "../model/app.ts";
import type { Assignment, InstancePhase, PoolNode } from "../model/instance.ts";
import { appKey, keys } from "../model/keys.ts";
import { defaultLimits, type Limits } from "../model/limits.ts";
import type { InstanceId, NodeName } from "../model/names.ts";
import type { Deployment, Release } from "../model/release.ts";
import { applyChanges } from "./apply.ts";
import type { Demand } from "./demand.ts";
import type { ObservedInstance } from "./observed.ts";
import type { Plan, PlannedWrite } from "./plan.ts";
import { plan } from "./planner.ts";
import { deploymentOf, emptySnapshot } from "./snapshot.ts";

/**
 * Stories: commands in, the plan's sentences and writes out. `testdata/*.txt` holds blocks of
 * a command line, `----`, and what it printed; UPDATE_STORIES=1 writes them anew.
 */
const directory = join(import.meta.dir, "testdata");

for (const file of readdirSync(directory).sort()) {
  test(`story ${file}`, () => {
    const path = join(directory, file);
    const before = readFileSync(path, "utf8");
    const after = tell(before);
    if (process.env["UPDATE_STORIES"] === "1") writeFileSync(path, after);
    else expect(after).toBe(before);
  });
}

function tell(text: string): string {
  const world = new World();
  const lines: string[] = [];
  for (const block of text.trimEnd().split(/\n\n+/)) {
    const [head = ""] = block.split("\n----");
    const commands = head.split("\n").filter((line) => !line.startsWith("#"));
    const output = commands.flatMap((command) => world.run(command.trim().split(/\s+/)));
    lines.push([head, ...(commands.length > 0 ? ["----", ...output] : [])].join("\n"));
  }
  return `${lines.join("\n\n")}\n`;
}

const noDemand: Demand = { peak: 0, isWhole: true, changesAt: null };

type Options = Readonly<Record<string, string>>;

class World {
  #snapshot = emptySnapshot;
  #now = 0;
  #nextInstance = 0;
  readonly #seen = new Map<string, Map<InstanceId, ObservedInstance>>();
  readonly #demand = new Map<string, Demand>();
  readonly #heard = new Map<NodeName, number>();

  run([command = "", ...words]: readonly string[]): readonly string[] {
    const options: Options = Object.fromEntries(
      words.filter((word) => word.includes("=")).map((word) => word.split("=") as [string, string]),
    );
    const names = words.filter((word) => !word.includes("="));
    const handler = this.#commands[command];
    if (handler === undefined) throw new Error(`unknown command ${command}`);
    return handler(names, options);
  }

  readonly #commands: Readonly<
    Record<string, (names: readonly string[], options: Options) => readonly string[]>
  > = {
    node: ([name = ""], options) => {
      const node: PoolNode = {
        name: name as NodeName,
        capacity: { cores: Number(options["cores"] ?? 2), memoryBytes: bytes(options["memory"]) },
        joinedAt: this.#now,
      };
      this.#put(keys.node(node.name), node);
      if (options["silent"] === undefined) this.#heard.set(node.name, this.#now);
      return [];
    },
    reports: ([name = ""]) => {
      this.#heard.set(name as NodeName, this.#now);
      return [];
    },
    deploy: ([name = ""], options) => this.#deploy(name, options),
    scale: ([name = ""], options) => {
      const app = this.#app(name);
      const counts = Object.fromEntries(
        Object.entries(options).map(([type, count]) => [type, Number(count)]),
      );
      this.#put(keys.app(app.project, app.name), { ...app, counts: { ...app.counts, ...counts } });
      return [];
    },
    limits: ([name = ""], options) => {
      const app = this.#app(name);
      const cpu = { min: Number(options["min"] ?? 0), max: null, burst: null };
      this.#put(keys.app(app.project, app.name), { ...app, limits: { ...app.limits, cpu } });
      return [];
    },
    rm: ([name = ""]) => {
      const app = this.#app(name);
      this.#put(keys.app(app.project, app.name), { ...app, removing: true });
      return [];
    },
    /** sees APP INSTANCE STATE [healthy] [code=N] [reason=TEXT] */
    sees: (names, options) => this.#sees(names, options),
    gone: ([name = "", instance = ""]) => {
      this.#seen.get(`default/${name}`)?.delete(instance as InstanceId);
      return [];
    },
    /** demand APP PEAK [partial] [changes=SECONDS] */
    demand: ([name = "", peak = "", known = ""], options) => {
      const changesAt = options["changes"] ? Number(options["changes"]) * 1000 : null;
      const isWhole = known !== "partial";
      this.#demand.set(`default/${name}`, { peak: Number(peak), isWhole, changesAt });
      return [];
    },
    wait: ([duration = ""]) => {
      const parsed = parseDurationMs(duration);
      this.#now += parsed.ok ? parsed.value : 0;
      return [];
    },
    plan: () => this.#plan(),
    show: ([name = ""]) => this.#show(name),
  };

  #app(name: string): App {
    const app = this.#snapshot.apps.get(`default/${name}`)?.app;
    if (app === undefined || app === null) throw new Error(`no app ${name}`);
    return app.value;
  }

  #put(key: string, value: object | null): void {
    const revision = this.#snapshot.revision + 1;
    const text = value === null ? null : JSON.stringify(value);
    const change = { key, value: text, modRevision: revision };
    this.#snapshot = applyChanges(this.#snapshot, revision, [change]).snapshot;
  }

  #deploy(name: string, options: Options): readonly string[] {
    const known = this.#snapshot.apps.get(`default/${name}`)?.app?.value;
    const app: App = known ?? newApp(name, this.#now);
    const number = app.nextRelease;
    const release = newRelease(app, number, this.#now, options);
    const deployment = { ...owner(app), number, startedAt: this.#now, state: "starting" };
    this.#put(keys.app(app.project, app.name), {
      ...app,
      nextRelease: number + 1,
      target: number,
    });
    this.#put(keys.release(app.project, app.name, number), release);
    this.#put(keys.deployment(app.project, app.name, number), deployment);
    for (const host of [`${name}.localhost`, ...(release.config.http?.hosts ?? [])]) {
      this.#put(keys.host(host), owner(app));
    }
    return [];
  }

  #sees(names: readonly string[], options: Options): readonly string[] {
    const [name = "", instance = "", state = "", health = ""] = names;
    const assignments = this.#snapshot.apps.get(`default/${name}`)?.assignments ?? [];
    const assignment = assignments.find(({ value }) => value.instance === instance)?.value;
    const before = this.#seen.get(`default/${name}`)?.get(instance as InstanceId);
    const known = assignment ?? before?.status;
    if (known === undefined) throw new Error(`no instance ${instance}`);
    const status = {
      instance: known.instance,
      project: known.project,
      app: known.app,
      release: known.release,
      process: known.process,
      phase: phaseOf(state, options, this.#now),
      wasHealthy: health === "healthy" || before?.status.wasHealthy === true,
      restarts: 0,
      lastExit: null,
      usage: null,
    };
    const seen = this.#seen.get(`default/${name}`) ?? new Map();
    seen.set(known.instance, { node: assignment?.node ?? before?.node, status });
    this.#seen.set(`default/${name}`, seen);
    return [];
  }

  #plan(): readonly string[] {
    const made = plan({
      snapshot: this.#snapshot,
      apps: [...this.#snapshot.apps.entries()].map(([key]) => key).sort(),
      observed: {
        instancesOf: (key) => this.#seen.get(key) ?? new Map(),
        heardSince: (node) => this.#heard.get(node) ?? null,
      },
      demandOf: (key) => this.#demand.get(key) ?? noDemand,
      pending: [],
      now: this.#now,
      domain: "localhost",
      releasesKept: 2,
      nextInstance: () => `i${++this.#nextInstance}` as InstanceId,
    });
    this.#execute(made);
    return print(made);
  }

  #execute(made: Plan): void {
    for (const step of made.steps) {
      for (const write of step.writes) {
        if (write.kind === "put") this.#put(write.key, write.value);
        else if (write.kind === "delete") this.#put(write.key, null);
        else this.#deletePrefix(write.prefix);
      }
    }
  }

  #deletePrefix(prefix: string): void {
    for (const [, state] of [...this.#snapshot.apps.entries()]) {
      for (const { number } of state.releases) {
        const app = state.app?.value;
        if (app === undefined) continue;
        const all = [
          keys.release(app.project, app.name, number),
          keys.deployment(app.project, app.name, number),
        ];
        for (const key of all) if (key.startsWith(prefix)) this.#put(key, null);
      }
    }
  }

  #show(name: string): readonly string[] {
    const state = this.#snapshot.apps.get(`default/${name}`);
    if (state?.app === null || state === undefined) return ["no such app"];
    const { target, serving } = state.app.value;
    return [
      `target ${target} serving ${serving} hosts ${state.hosts.join(" ") || "-"}`,
      ...state.releases.map(({ number }) => {
        const deployment = deploymentOf(state, number)?.value;
        return `v${number} ${deployment?.state}`;
      }),
      ...state.assignments.map(({ value }) => describe(value)),
    ];
  }
}

function bytes(text: string | undefined): number {
  const parsed = parseBytes(text ?? "4G");
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

function owner(app: App): { project: App["project"]; app: App["name"] } {
  return { project: app.project, app: app.name };
}

function newApp(name: string, createdAt: number): App {
  return {
    project: "default",
    name,
    createdAt,
    uidOffset: 1,
    nextRelease: 1,
    target: null,
    serving: null,
    counts: {},
    limits: { cpu: null, memory: null },
    env: {},
    secrets: {},
    removing: false,
  } as unknown as App;
}

/** deploy APP [run=web,worker,release] [min=N] [max=N] [cpu=N] [memory=N] [hosts=a,b] */
function newRelease(app: App, number: number, createdAt: number, options: Options): Release {
  const types = (options["run"] ?? "web").split(",");
  const limits: Limits = {
    ...defaultLimits,
    cpu: { ...defaultLimits.cpu, min: options["cpu"] ? Number(options["cpu"]) : null },
    memory: { ...defaultLimits.memory, min: options["memory"] ? bytes(options["memory"]) : null },
  };
  const processes = types.map((type) => [
    type,
    {
      command: { kind: "shell", line: type },
      listen: type === "web" ? "tcp" : "none",
    },
  ]);
  const http = {
    process: "web",
    hosts: options["hosts"]?.split(",") ?? [],
    health: { path: null, timeoutMs: 30_000 },
  };
  return {
    ...owner(app),
    number,
    createdAt,
    createdBy: "test",
    cause: "deploy",
    manifest: "0".repeat(64),
    config: {
      recognition: { kind: "procfile", reason: "a story" },
      processes: Object.fromEntries(processes),
      build: [],
      http: types.includes("web") ? http : null,
      limits,
      scale: {
        min: Number(options["min"] ?? 0),
        max: Number(options["max"] ?? 10),
        inFlight: 10,
        freezeMs: 30_000,
        idleMs: 300_000,
      },
      egress: { kind: "public" },
      env: {},
    },
    env: {},
    secrets: {},
  } as unknown as Release;
}

function phaseOf(state: string, options: Options, now: number): InstancePhase {
  const code = Number(options["code"] ?? 0);
  const reason = (options["reason"] ?? "").replaceAll("_", " ");
  const phases: Readonly<Record<string, InstancePhase>> = {
    preparing: { state: "preparing", step: "files" },
    starting: { state: "starting", pid: 7 },
    running: { state: "running", pid: 7, startedAt: now, endpoint: null },
    frozen: { state: "frozen", since: now, pid: 7, endpoint: null },
    asleep: { state: "asleep", since: now },
    "backing-off": { state: "backing-off", until: now, cause: { kind: "exit", code } },
    stopping: { state: "stopping", since: now },
    done: { state: "done", code },
    failed: { state: "failed", stage: "start", reason, logTail: ["last line"] },
  };
  const phase = phases[state];
  if (phase === undefined) throw new Error(`unknown state ${state}`);
  return phase;
}

function print({ steps, blocked }: Plan): readonly string[] {
  const lines = steps.flatMap((step) => [
    `${step.app}:`,
    ...step.reasons.map((reason) => `  ${reason}`),
    ...step.writes.map((write) => `    ${printWrite(write)}`),
  ]);
  const waiting = blocked.map(({ app, reason }) => `${app} blocked: ${reason}`);
  return [...lines, ...waiting].length === 0 ? ["nothing to do"] : [...lines, ...waiting];
}

function printWrite(write: PlannedWrite): string {
  if (write.kind === "deletePrefix") return `delete ${write.prefix}*`;
  if (write.kind === "delete") return `delete ${write.key}`;
  const { value } = write;
  if ("instance" in value) return `put assignment ${describe(value)}`;
  if ("state" in value) return `put v${value.number} ${printDeployment(value)}`;
  return `put app target ${value.target} serving ${value.serving}`;
}

function printDeployment(deployment: Deployment): string {
  if (deployment.state !== "failed") return deployment.state;
  const { stage, reason, logTail } = deployment;
  return `failed in ${stage}: ${reason} [${logTail.join(" | ")}]`;
}

function describe(assignment: Assignment): string {
  const { instance, node, process, release, limits, keepAwake, drain } = assignment;
  return [
    `${instance} ${appKey(assignment.project, assignment.app)} ${process} v${release} on ${node}`,
    limits.cpu.min === null ? null : `cpu.min ${limits.cpu.min}`,
    keepAwake ? "awake" : null,
    drain === null ? null : `drain until ${drain.deadline / 1000}s`,
  ]
    .filter((part) => part !== null)
    .join(", ");
}
