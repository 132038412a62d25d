import { err, ok, type Result } from "../../base/result.ts";
import { defaultLimits, type Limits } from "../limits.ts";
import { type AppName, type ProcessType, releaseProcess, webProcess } from "../names.ts";
import {
  type BuildStep,
  type Command,
  type HttpConfig,
  inFlightDefault,
  type Manifest,
  type ProcessSpec,
  type ReleaseConfig,
  type ScaleConfig,
} from "../release.ts";
import type { BuildContext } from "./build-step.ts";
import { appStep, javascriptSteps, type Package, readPackage } from "./javascript.ts";
import { type LodeToml, lodeTomlFile, parseLodeToml } from "./lode-toml.ts";
import { type ConfigProblem, configProblem } from "./problem.ts";
import { type PythonDependencies, pythonDependencies } from "./python.ts";
import { type Recognised, recognise, type Start } from "./recognise.ts";
import { type CommandFolders, shellCommand } from "./shell.ts";
import { Tree } from "./tree.ts";

const scaleDefaults = {
  inFlight: inFlightDefault,
  freezeMs: 30_000,
  idleMs: 5 * 60_000,
} as const;
export const healthDefaults = { path: null, timeoutMs: 30_000 } as const;

/**
 * What runs a tree, and how: lode.toml over Procfile over package.json over what the files
 * tell. `contents` has the text of `filesToRead(manifest)`, as far as it is text; the manifest
 * has passed `checkManifest`.
 */
export function resolveConfig(
  manifest: Manifest,
  contents: ReadonlyMap<string, string>,
  context: BuildContext,
): Result<ReleaseConfig, ConfigProblem> {
  const tree = new Tree(manifest, contents);
  const toml = readLodeToml(tree);
  if (!toml.ok) return toml;
  const packageManifest = readPackage(tree);
  if (!packageManifest.ok) return packageManifest;
  const python = pythonDependencies(tree, context);
  if (!python.ok) return python;
  const limits = limitsOf(toml.value);
  const recognised = recognise({
    tree,
    toml: toml.value,
    manifest: packageManifest.value,
    python: python.value,
    memory: limits.memory,
  });
  if (!recognised.ok) return recognised;
  const env = { ...runtimeEnv(recognised.value, packageManifest.value), ...toml.value?.env };
  const layers = buildSteps(tree, context, {
    toml: toml.value,
    manifest: packageManifest.value,
    python: python.value,
    recognised: recognised.value,
    env,
  });
  if (!layers.ok) return layers;
  const served = servedProcess(recognised.value, toml.value);
  if (!served.ok) return served;
  const config = configOf(recognised.value, served.value, layers.value, toml.value);
  return ok({ ...config, limits, env });
}

/** The app's name in lode.toml, for the client; null: the folder's name is taken. */
export function appNameOf(lodeToml: string): Result<AppName | null, ConfigProblem> {
  const toml = parseLodeToml(lodeToml);
  return toml.ok ? ok(toml.value.app) : toml;
}

function readLodeToml(tree: Tree): Result<LodeToml | null, ConfigProblem> {
  if (!tree.has(lodeTomlFile)) return ok(null);
  const text = tree.text(lodeTomlFile);
  if (text !== null) return parseLodeToml(text);
  const message = `${lodeTomlFile} is not UTF-8 text, or too large to be configuration`;
  return err(configProblem(message, { at: lodeTomlFile }));
}

function limitsOf(toml: LodeToml | null): Limits {
  return {
    cpu: toml?.cpu ?? defaultLimits.cpu,
    memory: toml?.memory ?? defaultLimits.memory,
    pids: toml?.pids ?? defaultLimits.pids,
    openFiles: toml?.openFiles ?? defaultLimits.openFiles,
    disk: toml?.disk ?? defaultLimits.disk,
  };
}

function runtimeEnv(
  recognised: Recognised,
  manifest: Package | null,
): Readonly<Record<string, string>> {
  return {
    ...(recognised.javascript && manifest !== null ? { NODE_ENV: "production" } : {}),
    ...(recognised.python ? { PYTHONUNBUFFERED: "1" } : {}),
  };
}

interface Layers {
  readonly steps: readonly BuildStep[];
  readonly folders: CommandFolders;
  readonly notes: readonly string[];
}

function buildSteps(
  tree: Tree,
  context: BuildContext,
  known: {
    readonly toml: LodeToml | null;
    readonly manifest: Package | null;
    readonly python: PythonDependencies;
    readonly recognised: Recognised;
    readonly env: Readonly<Record<string, string>>;
  },
): Result<Layers, ConfigProblem> {
  const { toml, manifest, recognised, env } = known;
  const python = recognised.python ? known.python : null;
  const steps: BuildStep[] = python?.step == null ? [] : [python.step];
  const folders = { venv: steps.length > 0, nodeModules: false };
  const notes = python?.note == null ? [] : [python.note];
  const build = toml?.build ?? null;
  if (!recognised.javascript || manifest === null) {
    if (build !== null && build.length > 0) {
      steps.push(appStep(tree, context, build, env, steps));
    }
    return ok({ steps, folders, notes });
  }
  const start = [...recognised.starts.values()]
    .map((one) => (one.kind === "line" ? one.line : ""))
    .join(" ");
  const javascript = javascriptSteps(tree, manifest, context, { start, build, env });
  if (!javascript.ok) return javascript;
  const { note, nodeModules } = javascript.value;
  return ok({
    steps: [...steps, ...javascript.value.steps],
    folders: { ...folders, nodeModules },
    notes: note === null ? notes : [...notes, note],
  });
}

/** The process that takes requests; null: none does. */
function servedProcess(
  recognised: Recognised,
  toml: LodeToml | null,
): Result<ProcessType | null, ConfigProblem> {
  const named = toml?.process ?? null;
  const known = [...recognised.starts.keys()].join(", ");
  if (named !== null && (!recognised.starts.has(named) || named === releaseProcess)) {
    return err(
      configProblem(`lode.toml: http.process is "${named}", which cannot take requests`, {
        at: lodeTomlFile,
        remedy: `the processes are: ${known}`,
      }),
    );
  }
  const served = named ?? (recognised.starts.has(webProcess) ? webProcess : null);
  const http =
    toml !== null && (toml.hosts.length > 0 || toml.healthPath !== null || toml.affinity !== null);
  if (served !== null || !http) return ok(served);
  return err(
    configProblem("lode.toml has an [http] table, but no process takes requests", {
      at: lodeTomlFile,
      remedy: `name a process "web", or set http.process to one of: ${known}`,
    }),
  );
}

function configOf(
  recognised: Recognised,
  served: ProcessType | null,
  layers: Layers,
  toml: LodeToml | null,
): Omit<ReleaseConfig, "limits" | "env"> {
  const processes: Record<ProcessType, ProcessSpec> = {};
  for (const [name, start] of recognised.starts) {
    processes[name] = processOf(start, name === served, layers.folders);
  }
  return {
    recognition: {
      kind: recognised.kind,
      reason: [recognised.reason, ...layers.notes].join("; "),
    },
    processes,
    build: layers.steps,
    http: served === null ? null : httpOf(served, toml),
    scale: scaleOf(served === null ? null : (recognised.starts.get(served) ?? null), toml),
    egress: toml?.egress ?? { kind: "public" },
  };
}

function processOf(start: Start, served: boolean, folders: CommandFolders): ProcessSpec {
  const command: Command = start.kind === "line" ? shellCommand(start.line, folders) : start;
  if (!served) return { command, listen: "none" };
  return { command, listen: isServedByLode(start) ? "unix" : "tcp" };
}

function isServedByLode(start: Start): boolean {
  return start.kind === "fetch" || start.kind === "static";
}

function httpOf(process: ProcessType, toml: LodeToml | null): HttpConfig {
  return {
    process,
    hosts: [...new Set(toml?.hosts ?? [])],
    health: {
      path: toml?.healthPath ?? healthDefaults.path,
      timeoutMs: toml?.healthTimeoutMs ?? healthDefaults.timeoutMs,
    },
    ...(toml?.affinity == null ? {} : { affinity: toml.affinity }),
  };
}

/** What Lode serves itself may sleep from the start; a program may have work besides requests. */
function scaleOf(served: Start | null, toml: LodeToml | null): ScaleConfig {
  const min = toml?.scaleMin ?? (served !== null && isServedByLode(served) ? 0 : 1);
  const max = toml?.scaleMax ?? Math.max(1, min);
  return {
    min: Math.min(min, max),
    max,
    inFlight: toml?.inFlight ?? scaleDefaults.inFlight,
    freezeMs: toml?.freezeMs === "never" ? null : (toml?.freezeMs ?? scaleDefaults.freezeMs),
    idleMs: toml?.idleMs ?? scaleDefaults.idleMs,
  };
}
