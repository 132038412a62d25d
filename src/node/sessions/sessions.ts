import { rmSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import { type InstanceId, type ProcessType, releaseProcess } from "../../model/names.ts";
import type { Release } from "../../model/release.ts";
import type { ExecReply, ExecRequest } from "../../model/wire.ts";
import type { CgroupTree } from "../cgroup/cgroup.ts";
import type { CpuShares } from "../cpu-shares.ts";
import { ceilings, fullCredit } from "../decide/credit.ts";
import { descendants } from "../drivers/descendants.ts";
import { reasonOf } from "../drivers/layout.ts";
import type { InstanceProcess } from "../drivers/process.ts";
import {
  type HostTools,
  type Launch,
  openSecrets,
  type Prepared,
  specify,
} from "../drivers/specification.ts";
import { readStartTicks, signalProcess } from "../linux/identity.ts";
import type { Network, NetworkSlot } from "../network/network.ts";
import { type CloudPaths, nodePaths } from "../paths.ts";
import type { Sandbox, SandboxSpec } from "../sandbox/sandbox.ts";
import { ensureVolume } from "../volume/volumes.ts";
import {
  argvOfSession,
  runSession,
  type Session,
  type SessionDependencies,
  type StartedProgram,
} from "./session.ts";

export interface SessionsDependencies extends SessionDependencies {
  readonly paths: CloudPaths;
  readonly cgroups: CgroupTree;
  readonly shares: CpuShares;
  readonly network: Network;
  readonly sandbox: Sandbox;
  readonly tools: HostTools;
  readonly uidBase: number;
  openSecret(sealed: string): string;
  /** The running process, kept awake until `leave`. */
  visit(instance: InstanceId): Visit | null;
  /** A release with its files, laid out and built, which stay until `leave`. */
  prepare(request: ExecRequest, number: number): Promise<Result<PreparedRelease, string>>;
}

export interface Visit {
  readonly process: InstanceProcess;
  readonly leave: () => void;
}

export interface PreparedRelease {
  readonly release: Release;
  readonly prepared: Prepared;
  /** Its files are needed no longer. */
  leave(): void;
}

export interface Sessions {
  exec(request: ExecRequest): Promise<ExecReply>;
  /** Ends every session. */
  close(): Promise<void>;
}

const killSignal = 9;

type Io = { readonly stdin: number; readonly stdout: number; readonly stderr: number };

interface Starter {
  start(io: Io): Promise<StartedProgram>;
  leave(): void;
}

export function createSessions(dependencies: SessionsDependencies): Sessions {
  return new NodeSessions(dependencies);
}

class NodeSessions implements Sessions {
  readonly #dependencies: SessionsDependencies;
  readonly #sessions = new Map<string, Session>();

  constructor(dependencies: SessionsDependencies) {
    this.#dependencies = dependencies;
  }

  async exec(request: ExecRequest): Promise<ExecReply> {
    if (!/^[a-z0-9-]{1,64}$/.test(request.session)) {
      return { ok: false, reason: "a session's name has only a-z, 0-9 and -" };
    }
    const starter = await this.#starterOf(request);
    if (!starter.ok) return { ok: false, reason: starter.error };
    const { start, leave } = starter.value;
    try {
      const over = () => {
        this.#sessions.delete(request.session);
        leave();
      };
      const session = await runSession(this.#dependencies, request, start, over);
      this.#sessions.set(request.session, session);
      return { ok: true };
    } catch (cause) {
      leave();
      return { ok: false, reason: `starting the program: ${reasonOf(cause)}` };
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map((session) => session.kill()));
  }

  async #starterOf(request: ExecRequest): Promise<Result<Starter, string>> {
    if (request.target.kind === "inside") {
      const visit = this.#dependencies.visit(request.target.instance);
      if (visit === null) return err("the instance does not run");
      const { process, leave } = visit;
      return ok({ start: (io) => this.#startInside(request, process, io), leave });
    }
    const prepared = await this.#dependencies.prepare(request, request.target.release);
    if (!prepared.ok) return prepared;
    const start = (io: Io) => this.#startOneOff(request, prepared.value, io);
    return ok({ start, leave: prepared.value.leave });
  }

  async #startInside(
    request: ExecRequest,
    process: InstanceProcess,
    io: Io,
  ): Promise<StartedProgram> {
    const statusFile = this.#statusOf(request);
    const pid = await process.pid();
    if (pid === null) throw new Error("the instance has just ended");
    const spec = withSession(process.spec, request);
    const { sandbox } = this.#dependencies;
    const launched = await sandbox.enter(pid, spec, process.cgroup, { statusFile, ...io });
    const kill = async (): Promise<void> => {
      const monitor = launched.monitorPid;
      const own = [...descendants(await process.cgroup.pids(), monitor), monitor];
      for (const target of own) {
        const startTicks = readStartTicks(target);
        if (startTicks !== null) signalProcess({ pid: target, startTicks }, killSignal);
      }
    };
    return this.#started(launched, statusFile, { kill, end: async () => {} });
  }

  async #startOneOff(
    request: ExecRequest,
    release: PreparedRelease,
    io: Io,
  ): Promise<StartedProgram> {
    const { cgroups, network, sandbox } = this.#dependencies;
    const statusFile = this.#statusOf(request);
    const { limits, egress } = release.release.config;
    const slot = await network.acquire(egress);
    const cgroup = await cgroups.create(`run-${request.session}`);
    const sharer = this.#dependencies.shares.enter(cgroup, limits.cpu.min ?? 0, true);
    const end = async (): Promise<void> => {
      sharer.leave();
      await cgroup.kill();
      await cgroup.remove();
      await network.release(slot);
    };
    try {
      await cgroup.setLimits(ceilings(limits, fullCredit(limits), 0));
      const spec = withSession(specify(this.#launchOf(request, release, slot), []), request);
      const launched = await sandbox.launch(spec, cgroup, { statusFile, ...io });
      return this.#started(launched, statusFile, { kill: () => cgroup.kill(), end });
    } catch (cause) {
      await end();
      throw cause;
    }
  }

  #launchOf(
    request: ExecRequest,
    { release, prepared }: PreparedRelease,
    network: NetworkSlot,
  ): Launch {
    const { paths, tools, uidBase, openSecret } = this.#dependencies;
    const { project, app } = request;
    const uid = uidBase + request.uidOffset;
    return {
      ...{ project, app, release, prepared, network, uid, tools },
      instance: `run-${request.session}` as InstanceId,
      process: mainProcess(release),
      secrets: openSecrets(release, openSecret),
      volume: ensureVolume(paths, { project, app, uid }, release.config.limits.disk),
      socketDirectory: null,
      openFiles: release.config.limits.openFiles,
    };
  }

  #started(
    launched: StartedProgram["launched"],
    statusFile: string,
    ways: { kill(): Promise<void>; end(): Promise<void> },
  ): StartedProgram {
    const { sandbox } = this.#dependencies;
    return {
      launched,
      exit: () => sandbox.exitOf(statusFile),
      pid: () => sandbox.childPidOf(statusFile),
      kill: ways.kill,
      async end() {
        await ways.end();
        rmSync(statusFile, { force: true });
      },
    };
  }

  #statusOf({ session }: ExecRequest): string {
    return join(nodePaths.statuses(this.#dependencies.paths), `run-${session}`);
  }
}

/** The process whose environment a one-off program gets. */
function mainProcess(release: Release): ProcessType {
  const names = Object.keys(release.config.processes) as ProcessType[];
  const first = names.find((name) => name !== releaseProcess);
  return release.config.http?.process ?? first ?? releaseProcess;
}

function withSession(spec: SandboxSpec, request: ExecRequest): SandboxSpec {
  const terminal = request.terminal === null ? {} : { TERM: "xterm-256color" };
  return { ...spec, argv: argvOfSession(request), env: { ...terminal, ...spec.env } };
}
