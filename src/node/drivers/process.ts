import { chownSync, closeSync, existsSync, mkdirSync, rmSync, writeSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import { formatDurationMs } from "../../base/units.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { InstanceId } from "../../model/names.ts";
import type { Command, Listen } from "../../model/release.ts";
import type { Cgroup, CgroupLimits, CgroupTree, CgroupUsage } from "../cgroup/cgroup.ts";
import { makePipe } from "../linux/files.ts";
import { isRunning, readStartTicks, signalProcess } from "../linux/identity.ts";
import type { ExitWatcher, ProcessIdentity } from "../linux/processes.ts";
import type { Network, NetworkSlot } from "../network/network.ts";
import { type CloudPaths, dataPaths, nodePaths } from "../paths.ts";
import type { Sandbox, SandboxExit, SandboxSpec } from "../sandbox/sandbox.ts";
import { ensureVolume } from "../volume/volumes.ts";
import { descendants } from "./descendants.ts";
import { reasonOf } from "./layout.ts";
import { answers, explainSilence, listeners, socketReady } from "./readiness.ts";
import { aheadOf, argvOf, type Launch, portOf, specify, waitingArgvOf } from "./specification.ts";

/** What a running process holds of the node: written down, so that the next lode finds it. */
export interface Held {
  /** Name of its network slot. */
  readonly slot: string | null;
  readonly monitor: ProcessIdentity | null;
  /** Made ahead and not let go: nothing of the app has run, and with its lode it ends. */
  readonly waits: boolean;
}

export const holdsNothing: Held = { slot: null, monitor: null, waits: false };

export interface ProcessEnd {
  readonly exit: SandboxExit;
  /** At its end; null when it could not be read. */
  readonly usage: CgroupUsage | null;
  /** What could not be given back, if anything. */
  readonly problem: string | null;
}

/** One process tree of an instance, from launch to its end. */
export interface InstanceProcess {
  /** The program's pid as the host sees it, once it runs; null when it has ended before. */
  pid(): Promise<number | null>;
  readonly cgroup: Cgroup;
  readonly spec: SandboxSpec;
  /** Resolves once, when the process has ended and holds nothing any more. */
  readonly ended: Promise<ProcessEnd>;
  /** Waits until it can take requests, or for a process that takes none, until it stays up. */
  ready(signal: AbortSignal): Promise<Result<Endpoint | null, string>>;
  terminate(): Promise<void>;
  kill(): Promise<void>;
}

/**
 * A sandbox that was made ahead for one start of one instance: all that a launch makes, with a
 * program inside that waits before it touches anything of the app's.
 *
 *     waits ─go→ gone: an instance's process like any other
 *       └─ discard, its own end, lode's end (the pipe ends) → ended
 */
export interface WaitingProcess {
  /** It can take requests only after `go`. */
  readonly process: InstanceProcess;
  /**
   * Starts the program, which happens once at most. False: it is not what a launch would start
   * now, or has ended, and is of no use any more.
   */
  go(request: LaunchRequest, limits: CgroupLimits): Promise<boolean>;
  /** Ends it; resolves when it holds nothing any more. */
  discard(): Promise<void>;
}

export type LaunchRequest = Omit<Launch, "network" | "socketDirectory" | "volume">;

interface Beginning {
  readonly argv: readonly string[];
  readonly log: number;
  /** What the program waits at; null: it does not wait. */
  readonly gate: number | null;
  holds(held: Held): void;
}

export interface ProcessDriver {
  /** `holds` is told before anything is taken that an ended lode would leave behind. */
  launch(
    request: LaunchRequest,
    limits: CgroupLimits,
    log: number,
    holds: (held: Held) => void,
  ): Promise<InstanceProcess>;
  /** As `launch`, ahead of need. Null: not without running something of the app. */
  makeReady(
    request: LaunchRequest,
    limits: CgroupLimits,
    log: number,
    holds: (held: Held) => void,
  ): Promise<WaitingProcess | null>;
  /** The process that an earlier lode launched; null when it, or what it needs, is gone. */
  adopt(request: LaunchRequest, held: Held): Promise<InstanceProcess | null>;
  /** How a process ended that no lode saw; gives back what it held. */
  settle(instance: InstanceId, held: Held): Promise<SandboxExit>;
}

export interface ProcessDependencies {
  readonly paths: CloudPaths;
  readonly cgroups: CgroupTree;
  readonly network: Network;
  readonly sandbox: Sandbox;
  readonly exits: ExitWatcher;
  readonly clock: Clock;
}

/** A process that takes no requests counts as up when it has run for so long. */
const steadyMs = 1000;
const defaultTimeoutMs = 60_000;

export function createProcessDriver(dependencies: ProcessDependencies): ProcessDriver {
  return new SandboxDriver(dependencies);
}

class SandboxDriver implements ProcessDriver {
  readonly #dependencies: ProcessDependencies;

  constructor(dependencies: ProcessDependencies) {
    this.#dependencies = dependencies;
  }

  async launch(
    request: LaunchRequest,
    limits: CgroupLimits,
    log: number,
    holds: (held: Held) => void,
  ): Promise<InstanceProcess> {
    return this.#begin(request, limits, {
      argv: argvOf(commandOf(request)),
      log,
      gate: null,
      holds,
    });
  }

  async makeReady(
    request: LaunchRequest,
    limits: CgroupLimits,
    log: number,
    holds: (held: Held) => void,
  ): Promise<WaitingProcess | null> {
    const argv = this.#waitingArgv(request);
    if (argv === null) return null;
    const gate = makePipe();
    let held = holdsNothing;
    const told = (now: Held): void => {
      held = now;
      holds(now);
    };
    try {
      const beginning = { argv, log, gate: gate.read, holds: told };
      const process = await this.#begin(request, limits, beginning);
      return waitingProcess(process, limits, gate.write, {
        isWanted: (next) => this.#isAs(process.spec, next),
        letGo: () => told({ ...held, waits: false }),
        over: () => told(holdsNothing),
      });
    } catch (cause) {
      closeSync(gate.write);
      throw cause;
    } finally {
      closeSync(gate.read);
    }
  }

  /** Whether `spec` is how the request would be made ready now. */
  #isAs(spec: SandboxSpec, request: LaunchRequest): boolean {
    const argv = this.#waitingArgv(request);
    if (argv === null || typeof spec.network === "string") return false;
    return isDeepStrictEqual(specify(this.#fullOf(request, spec.network), argv), spec);
  }

  async #begin(
    request: LaunchRequest,
    limits: CgroupLimits,
    { argv, log, gate, holds }: Beginning,
  ): Promise<InstanceProcess> {
    const { paths, network, cgroups, sandbox } = this.#dependencies;
    const { instance } = request;
    ensureVolume(paths, request, request.release.config.limits.disk);
    if (listenOf(request) === "unix") await makeSocketPlace(paths, request);
    const slot = await network.acquire(request.release.config.egress, instance);
    const held: Held = { slot: slot.name, monitor: null, waits: gate !== null };
    holds(held);
    let cgroup: Cgroup | null = null;
    try {
      cgroup = await cgroups.create(instance);
      await cgroup.setLimits(limits);
      const spec = specify(this.#fullOf(request, slot), argv);
      const file = statusFile(paths, instance);
      rmSync(file, { force: true });
      const inherited = gate === null ? [] : [gate];
      const io = { statusFile: file, stdin: null, stdout: log, stderr: log, inherited };
      const launched = await sandbox.launch(spec, cgroup, io);
      const monitor = { pid: launched.monitorPid, startTicks: launched.monitorStartTicks };
      holds({ ...held, monitor });
      return this.#attach(request, cgroup, slot, spec, monitor);
    } catch (cause) {
      await this.#giveBack(instance, cgroup, slot);
      holds(holdsNothing);
      throw cause;
    }
  }

  /** Null: it must not be started ahead. */
  #waitingArgv(request: LaunchRequest): readonly string[] | null {
    const ahead = aheadOf(this.#fullOf(request, "none"));
    return ahead === "nothing" ? null : waitingArgvOf(commandOf(request), ahead === "booted");
  }

  #fullOf(request: LaunchRequest, network: NetworkSlot | "none"): Launch {
    const { paths } = this.#dependencies;
    const { project, app, instance } = request;
    const socketDirectory = listenOf(request) === "unix" ? socketPlace(paths, instance) : null;
    const volume = nodePaths.volumeOf(paths, project, app);
    return { ...request, volume, socketDirectory, network };
  }

  async adopt(request: LaunchRequest, held: Held): Promise<InstanceProcess | null> {
    const { network, cgroups } = this.#dependencies;
    const { instance } = request;
    if (held.monitor === null || held.slot === null || !isRunning(held.monitor)) return null;
    const cgroup = await cgroups.open(instance);
    if (cgroup === null) return null;
    const slot = await network.adopt(held.slot, instance);
    if (slot === null) return null;
    const spec = specify(this.#fullOf(request, slot), argvOf(commandOf(request)));
    return this.#attach(request, cgroup, slot, spec, held.monitor);
  }

  async settle(instance: InstanceId, held: Held): Promise<SandboxExit> {
    const { paths, network, cgroups, sandbox } = this.#dependencies;
    const exit = await sandbox.exitOf(statusFile(paths, instance));
    const slot = held.slot === null ? null : await network.adopt(held.slot);
    await this.#giveBack(instance, await cgroups.open(instance), slot);
    return exit;
  }

  #attach(
    request: LaunchRequest,
    cgroup: Cgroup,
    slot: NetworkSlot,
    spec: SandboxSpec,
    monitor: ProcessIdentity,
  ): InstanceProcess {
    const { paths, sandbox, exits, clock } = this.#dependencies;
    const { instance } = request;
    const file = statusFile(paths, instance);
    const ended = exits.ended(monitor).then(async (): Promise<ProcessEnd> => {
      const exit = await sandbox.exitOf(file);
      const usage = await cgroup.usage().catch(() => null);
      const problem = await this.#giveBack(instance, cgroup, slot).then(() => null, reasonOf);
      return { exit, usage, problem };
    });
    let known: number | null = null;
    const pid = async (): Promise<number | null> => {
      for (let delayMs = 1; known === null && isRunning(monitor); delayMs *= 2) {
        known = await sandbox.childPidOf(file);
        if (known === null) await pause(clock, delayMs);
      }
      return known;
    };
    return {
      pid,
      cgroup,
      spec,
      ended,
      ready: (signal) => ready(this.#dependencies, request, slot, pid, signal),
      terminate: async () => {
        // A frozen one could not hear it.
        await cgroup.thaw();
        await terminate(request, cgroup, await pid());
      },
      kill: () => cgroup.kill(),
    };
  }

  async #giveBack(
    instance: InstanceId,
    cgroup: Cgroup | null,
    slot: NetworkSlot | null,
  ): Promise<void> {
    const { paths, network } = this.#dependencies;
    // First the socket, so that no gateway meets what is ending.
    rmSync(endpointPath(paths, instance), { force: true });
    if (cgroup !== null) {
      await cgroup.kill();
      await cgroup.remove();
    }
    if (slot !== null) await network.release(slot);
    await removeSocketPlace(paths, instance);
    rmSync(statusFile(paths, instance), { force: true });
  }
}

interface Gated {
  isWanted(request: LaunchRequest): boolean;
  letGo(): void;
  /** It ended while it waited. */
  over(): void;
}

/** @param gate the pipe's end to write to, closed here. */
function waitingProcess(
  process: InstanceProcess,
  madeWith: CgroupLimits,
  gate: number,
  { isWanted, letGo, over }: Gated,
): WaitingProcess {
  let waits = true;
  const leave = (): void => {
    waits = false;
    closeSync(gate);
  };
  void process.ended.then(() => {
    if (!waits) return;
    leave();
    over();
  });
  return {
    process,
    async go(request, limits) {
      if (!waits || !isWanted(request)) return false;
      try {
        if (!isDeepStrictEqual(limits, madeWith)) await process.cgroup.setLimits(limits);
        if (!waits) return false;
        writeSync(gate, "\n");
      } catch {
        // It has just ended.
        return false;
      }
      leave();
      letGo();
      return true;
    },
    async discard() {
      await process.kill();
      await process.ended;
    },
  };
}

function statusFile(paths: CloudPaths, instance: InstanceId): string {
  return join(nodePaths.statuses(paths), instance);
}

function listenOf({ release, process }: LaunchRequest): Listen {
  return release.config.processes[process]?.listen ?? "none";
}

function commandOf({ release, process }: LaunchRequest): Command {
  const specification = release.config.processes[process];
  if (specification === undefined) throw new Error(`the release has no process "${process}"`);
  return specification.command;
}

function endpointPath(paths: CloudPaths, instance: InstanceId): string {
  return join(dataPaths.appSockets(paths), `${instance}.sock`);
}

function socketPlace(paths: CloudPaths, instance: InstanceId): string {
  return join(nodePaths.instanceSockets(paths), instance);
}

/** An app may leave any number of files there: lode goes on with its work meanwhile. */
async function removeSocketPlace(paths: CloudPaths, instance: InstanceId): Promise<void> {
  await rm(socketPlace(paths, instance), { recursive: true, force: true });
}

/** An empty folder of the app's own, on the same file system as the gateways' sockets. */
async function makeSocketPlace(paths: CloudPaths, { instance, uid }: LaunchRequest): Promise<void> {
  const directory = socketPlace(paths, instance);
  if (existsSync(directory)) await removeSocketPlace(paths, instance);
  mkdirSync(directory, { mode: 0o700 });
  chownSync(directory, uid, uid);
}

async function ready(
  { paths, clock }: ProcessDependencies,
  request: LaunchRequest,
  slot: NetworkSlot,
  pid: () => Promise<number | null>,
  signal: AbortSignal,
): Promise<Result<Endpoint | null, string>> {
  const { release, instance, process } = request;
  const listen = listenOf(request);
  const check = release.config.http?.process === process ? release.config.http.health : null;
  const timeoutMs = check?.timeoutMs ?? defaultTimeoutMs;
  const ended = new AbortController();
  const stop = (): void => ended.abort();
  signal.addEventListener("abort", stop);
  const timer = clock.after(listen === "none" ? steadyMs : timeoutMs, stop);
  try {
    if (listen === "none") {
      if (!signal.aborted) await aborted(ended.signal);
      return ok(null);
    }
    if (listen === "unix") {
      const path = endpointPath(paths, instance);
      const listens = await socketReady(
        socketPlace(paths, instance),
        path,
        request.uid,
        clock,
        ended.signal,
      );
      if (!listens)
        return err(`the app did not begin to serve within ${formatDurationMs(timeoutMs)}`);
      const endpoint = { kind: "unix" as const, path };
      if (check === null || check.path === null) return ok(endpoint);
      const healthy = await answers(endpoint, check, clock, ended.signal);
      return healthy.ok ? ok(endpoint) : unhealthy(timeoutMs, healthy.error);
    }
    const port = portOf(release, request.secrets);
    const endpoint = { kind: "tcp" as const, host: slot.address, port };
    const healthy = await answers(endpoint, check, clock, ended.signal);
    if (healthy.ok) return ok(endpoint);
    const program = await pid();
    const found = program === null ? [] : listeners(program);
    return err(explainSilence(found, port, timeoutMs, healthy.error));
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", stop);
  }
}

function unhealthy(timeoutMs: number, last: string): Result<never, string> {
  return err(`the app was not healthy within ${formatDurationMs(timeoutMs)}: ${last}`);
}

function pause(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => void clock.after(delayMs, resolve));
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

const sigterm = 15;

/**
 * SIGTERM to the program. A shell line's shell would die of it and take its children along
 * unasked, so there it goes to the programs that the shell started, and the shell follows.
 */
async function terminate(
  request: LaunchRequest,
  cgroup: Cgroup,
  pid: number | null,
): Promise<void> {
  if (pid === null) return;
  const command = request.release.config.processes[request.process]?.command;
  const below = command?.kind === "shell" ? descendants(await cgroup.pids(), pid) : [];
  for (const target of below.length > 0 ? below : [pid]) {
    const startTicks = readStartTicks(target);
    if (startTicks !== null) signalProcess({ pid: target, startTicks }, sigterm);
  }
}
