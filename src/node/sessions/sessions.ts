import { rmSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { InstanceId, ProcessType } from "../../model/names.ts";
import { releaseProcess } from "../../model/names.ts";
import type { Release } from "../../model/release.ts";
import type { ExecReply, ExecRequest } from "../../model/wire.ts";
import type { CgroupTree } from "../cgroup/cgroup.ts";
import { ceilings, fullCredit } from "../decide/credit.ts";
import { reasonOf } from "../drivers/layout.ts";
import { type InstanceProcess, makeVolume } from "../drivers/process.ts";
import {
  type HostTools,
  type Launch,
  openSecrets,
  type Prepared,
  specify,
} from "../drivers/specification.ts";
import type { Network } from "../network/network.ts";
import { type CloudPaths, nodePaths } from "../paths.ts";
import type { Sandbox } from "../sandbox/sandbox.ts";
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
  readonly network: Network;
  readonly sandbox: Sandbox;
  readonly tools: HostTools;
  readonly uidBase: number;
  openSecret(sealed: string): string;
  running(instance: InstanceId): InstanceProcess | null;
  /** A release with its files, laid out and built. */
  prepare(request: ExecRequest, number: number): Promise<Result<PreparedRelease, string>>;
}

export interface PreparedRelease {
  readonly release: Release;
  readonly prepared: Prepared;
}

export interface Sessions {
  exec(request: ExecRequest): Promise<ExecReply>;
  /** Ends every session. */
  close(): void;
}

type Io = { readonly stdin: number; readonly stdout: number; readonly stderr: number };

export function createSessions(dependencies: SessionsDependencies): Sessions {
  const { paths, cgroups, network, sandbox } = dependencies;
  const sessions = new Map<string, Session>();

  async function exec(request: ExecRequest): Promise<ExecReply> {
    if (!/^[a-z0-9-]{1,64}$/.test(request.session)) {
      return { ok: false, reason: "a session's name has only a-z, 0-9 and -" };
    }
    const starter = await starterOf(request);
    if (!starter.ok) return { ok: false, reason: starter.error };
    try {
      const over = () => void sessions.delete(request.session);
      const session = await runSession(dependencies, request, starter.value, over);
      sessions.set(request.session, session);
      return { ok: true };
    } catch (cause) {
      return { ok: false, reason: `starting the program: ${reasonOf(cause)}` };
    }
  }

  async function starterOf(
    request: ExecRequest,
  ): Promise<Result<(io: Io) => Promise<StartedProgram>, string>> {
    if (request.target.kind === "inside") {
      const process = dependencies.running(request.target.instance);
      if (process === null) return err("the instance does not run");
      return ok((io) => startInside(request, process, io));
    }
    const prepared = await dependencies.prepare(request, request.target.release);
    return prepared.ok ? ok((io) => startOneOff(request, prepared.value, io)) : prepared;
  }

  async function startInside(
    request: ExecRequest,
    process: InstanceProcess,
    io: Io,
  ): Promise<StartedProgram> {
    const statusFile = statusOf(request);
    const argv = argvOfSession(request);
    const spec = { ...process.spec, argv, env: withTerminal(request, process.spec.env) };
    const pid = await process.pid();
    if (pid === null) throw new Error("the instance has just ended");
    const launched = await sandbox.enter(pid, spec, process.cgroup, { statusFile, ...io });
    return started(launched, statusFile, async () => {});
  }

  async function startOneOff(
    request: ExecRequest,
    { release, prepared }: PreparedRelease,
    io: Io,
  ): Promise<StartedProgram> {
    const statusFile = statusOf(request);
    const limits = release.config.limits;
    const uid = dependencies.uidBase + request.uidOffset;
    const { project, app } = request;
    const slot = await network.acquire(release.config.egress);
    const cgroup = await cgroups.create(`run-${request.session}`);
    const end = async (): Promise<void> => {
      await cgroup.kill();
      await cgroup.remove();
      await network.release(slot);
    };
    try {
      await cgroup.setLimits(ceilings(limits, fullCredit(limits), 0));
      const launch: Launch = {
        project,
        app,
        instance: `run-${request.session}` as InstanceId,
        process: mainProcess(release),
        release,
        secrets: openSecrets(release, dependencies.openSecret),
        uid,
        network: slot,
        prepared,
        volume: makeVolume(paths, { project, app, uid }),
        socketDirectory: null,
        openFiles: limits.openFiles,
        tools: dependencies.tools,
      };
      const spec = specify(launch, argvOfSession(request));
      const full = { ...spec, env: withTerminal(request, spec.env) };
      const launched = await sandbox.launch(full, cgroup, { statusFile, ...io });
      return started(launched, statusFile, end);
    } catch (cause) {
      await end();
      throw cause;
    }
  }

  function started(
    launched: StartedProgram["launched"],
    statusFile: string,
    end: () => Promise<void>,
  ): StartedProgram {
    return {
      launched,
      exit: () => sandbox.exitOf(statusFile),
      pid: () => sandbox.childPidOf(statusFile),
      async end() {
        await end();
        rmSync(statusFile, { force: true });
      },
    };
  }

  function statusOf({ session }: ExecRequest): string {
    return join(nodePaths.statuses(paths), `run-${session}`);
  }

  return {
    exec,
    close() {
      for (const session of sessions.values()) session.kill();
    },
  };
}

/** The process whose environment a one-off program gets. */
function mainProcess(release: Release): ProcessType {
  const names = Object.keys(release.config.processes) as ProcessType[];
  const first = names.find((name) => name !== releaseProcess);
  return release.config.http?.process ?? first ?? releaseProcess;
}

function withTerminal(
  { terminal }: ExecRequest,
  env: Readonly<Record<string, string>>,
): Record<string, string> {
  return terminal === null ? { ...env } : { TERM: "xterm-256color", ...env };
}
