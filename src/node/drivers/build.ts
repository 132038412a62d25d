import { chmod, chown, mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatDurationMs } from "../../base/units.ts";
import type { BuildStep } from "../../model/release.ts";
import { nodePaths } from "../paths.ts";
import { type BuildDependencies, type BuildFailure, runJob } from "./job.ts";
import { reasonOf } from "./layout.ts";
import type { Prepared } from "./specification.ts";
import { copyTree, ensureMountPoint, relativePathFault, removeTree, takeOver } from "./tree.ts";

// Layers: the results of build steps, by cache key.
//
//   wanted —there already→ used
//      └── no job of this key → building → taken over by root, renamed into place → used
//      └── a job of this key → its result is shared      └ failed: nothing is left
//
// A layer is shared by every app with the same key, so a job sees nothing of an app but the
// step's inputs: no environment, no secrets, no cache that another job wrote.

const concurrentJobs = 2;

/** Told of a build that really happens. */
export interface BuildListener {
  begin(message: string): void;
  output(line: string): void;
  end(message: string): void;
}

export interface Builder {
  /** The release's files with all its layers; builds what is missing, in order. */
  ensure(
    tree: string,
    steps: readonly BuildStep[],
    listener: BuildListener,
  ): Promise<Result<Prepared, BuildFailure>>;
  /** Ends every job under way. */
  close(): Promise<void>;
}

interface Job {
  readonly result: Promise<Result<void, BuildFailure>>;
  readonly listeners: Set<BuildListener>;
}

export function createBuilder(dependencies: BuildDependencies): Builder {
  const jobs = new Map<string, Job>();
  const waiting: (() => void)[] = [];
  const freeUids = Array.from({ length: concurrentJobs }, (_, n) => dependencies.uidTop - n);
  const abort = new AbortController();

  async function ensure(tree: string, steps: readonly BuildStep[], listener: BuildListener) {
    let prepared: Prepared = { tree, layers: [] };
    for (const step of steps) {
      const layer = await ensureLayer(prepared, step, listener);
      if (!layer.ok) return layer;
      const next = await withLayer(prepared, step, layer.value);
      if (!next.ok) return err({ reason: next.error, logTail: [] });
      prepared = next.value;
    }
    return ok(prepared);
  }

  async function ensureLayer(from: Prepared, step: BuildStep, listener: BuildListener) {
    assert(/^[0-9a-f]{64}$/.test(step.cacheKey), "a cache key is a SHA-256");
    const layer = join(nodePaths.layers(dependencies.paths), step.cacheKey);
    if (await exists(layer)) return ok(layer);
    let job = jobs.get(step.cacheKey);
    if (job === undefined) {
      const listeners = new Set([listener]);
      const result = inTurn((uid) =>
        buildLayer(dependencies, from, step, uid, layer, listeners, abort.signal),
      );
      job = { listeners, result: result.finally(() => jobs.delete(step.cacheKey)) };
      jobs.set(step.cacheKey, job);
    } else {
      job.listeners.add(listener);
    }
    const built = await job.result;
    return built.ok ? ok(layer) : built;
  }

  async function inTurn<Value>(work: (uid: number) => Promise<Value>): Promise<Value> {
    let uid = freeUids.pop();
    while (uid === undefined) {
      await new Promise<void>((resolve) => waiting.push(resolve));
      uid = freeUids.pop();
    }
    try {
      return await work(uid);
    } finally {
      freeUids.push(uid);
      waiting.shift()?.();
    }
  }

  return {
    ensure,
    async close() {
      abort.abort();
      await Promise.all([...jobs.values()].map(({ result }) => result));
    },
  };
}

/** What the release looks like with this layer. */
async function withLayer(
  from: Prepared,
  step: BuildStep,
  layer: string,
): Promise<Result<Prepared, string>> {
  // The layer of an `app` step is the whole tree, dependencies included.
  if (step.produces === "app") return ok({ tree: layer, layers: [] });
  const mountable = await ensureMountPoint(from.tree, step.output);
  if (!mountable.ok) return mountable;
  const others = from.layers.filter(({ at }) => at !== step.output);
  return ok({ tree: from.tree, layers: [...others, { source: layer, at: step.output }] });
}

async function buildLayer(
  dependencies: BuildDependencies,
  from: Prepared,
  step: BuildStep,
  uid: number,
  layer: string,
  listeners: ReadonlySet<BuildListener>,
  signal: AbortSignal,
): Promise<Result<void, BuildFailure>> {
  const { paths, random, clock } = dependencies;
  const directory = join(nodePaths.builds(paths), random.token(12));
  const tell = (say: (listener: BuildListener) => void) => listeners.forEach(say);
  const startedAt = clock.now();
  tell((listener) => listener.begin(step.commands.join(" && ")));
  try {
    await makeWorkspace(directory, from, step, uid);
    const output = (line: string) => tell((listener) => listener.output(line));
    const ran = await runJob(dependencies, {
      directory,
      uid,
      commands: step.commands,
      output,
      signal,
    });
    if (!ran.ok) return ran;
    const kept = await keep(directory, step, layer);
    if (!kept.ok) return err({ reason: kept.error, logTail: [] });
    const tookMs = clock.now() - startedAt;
    tell((listener) => listener.end(`built in ${formatDurationMs(tookMs)}`));
    return ok(undefined);
  } catch (cause) {
    return err({ reason: `building: ${reasonOf(cause)}`, logTail: [] });
  } finally {
    await removeTree(directory);
  }
}

/** `tree` is what the job sees as /app, `home` its HOME; both the job's own. */
async function makeWorkspace(
  directory: string,
  from: Prepared,
  step: BuildStep,
  uid: number,
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  for (const name of ["tree", "home"]) {
    await mkdir(join(directory, name), { mode: 0o700 });
    await chown(join(directory, name), uid, uid);
  }
  const tree = join(directory, "tree");
  const bad = step.inputs?.find((path) => relativePathFault(path) !== null);
  if (bad !== undefined) throw new Error(`"${bad}" cannot be an input of a build`);
  await copyTree(from.tree, tree, { uid, files: "copy", only: step.inputs });
  if (step.produces === "dependencies") return;
  for (const { source, at } of from.layers) {
    await removeTree(join(tree, at));
    await mkdir(join(tree, at), { recursive: true });
    await chown(join(tree, at), uid, uid);
    await copyTree(source, join(tree, at), { uid, files: "link", only: null });
  }
}

/** Takes the job's result over and gives it its place. The job has ended, all of it. */
async function keep(
  directory: string,
  step: BuildStep,
  layer: string,
): Promise<Result<void, string>> {
  const tree = join(directory, "tree");
  const whole = step.output === "." || step.output === "";
  const fault = whole ? null : relativePathFault(step.output);
  if (fault !== null) return err(`"${step.output}" cannot be a build's output: ${fault}`);
  const result = whole ? tree : join(tree, step.output);
  const found = await stat(result).catch(() => null);
  if (!found?.isDirectory()) return err(`the build left no folder "${step.output}"`);
  const taken = await takeOver(result);
  if (!taken.ok) return err(`the build's result cannot be used: ${taken.error}`);
  await chmod(result, 0o755);
  try {
    await rename(result, layer);
  } catch (cause) {
    if (!(await exists(layer))) throw cause;
  }
  return ok(undefined);
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
