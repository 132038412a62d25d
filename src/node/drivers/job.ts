import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Random } from "../../base/time.ts";
import { formatBytes, formatDurationMs } from "../../base/units.ts";
import { defaultLimits } from "../../model/limits.ts";
import type { Cgroup, CgroupTree } from "../cgroup/cgroup.ts";
import type { CpuShares } from "../cpu-shares.ts";
import type { ExitWatcher } from "../linux/processes.ts";
import { watchGrowth } from "../logs/growth.ts";
import { splitLines } from "../logs/lines.ts";
import type { Network } from "../network/network.ts";
import type { CloudPaths } from "../paths.ts";
import { inside } from "../runtime/install.ts";
import type { Sandbox, SandboxExit, SandboxSpec } from "../sandbox/sandbox.ts";
import { baseEnvironment, type HostTools, toolBinds } from "./specification.ts";

export interface BuildFailure {
  readonly reason: string;
  readonly logTail: readonly string[];
}

export interface BuildDependencies {
  readonly paths: CloudPaths;
  readonly cgroups: CgroupTree;
  readonly shares: CpuShares;
  readonly network: Network;
  readonly sandbox: Sandbox;
  readonly exits: ExitWatcher;
  readonly clock: Clock;
  readonly random: Random;
  readonly tools: HostTools;
  /** Builds run as this uid and the ones below it, one a job under way. */
  readonly uidTop: number;
}

/** One build step in its sandbox: capped, with public network, on its own uid. */
export interface JobRequest {
  /** Has `tree` and `home`, both the job's own. */
  readonly directory: string;
  readonly uid: number;
  readonly commands: readonly string[];
  readonly output: (line: string) => void;
  readonly signal: AbortSignal;
}

const timeoutMs = 600_000;
const memoryBytes = 2 * 1024 ** 3;
const tmpBytes = 512 * 1024 ** 2;
const outputBytesMax = 32 * 1024 ** 2;
const tailLines = 30;

export async function runJob(
  dependencies: BuildDependencies,
  request: JobRequest,
): Promise<Result<void, BuildFailure>> {
  const { cgroups, network, random } = dependencies;
  const cgroup = await cgroups.create(`build-${random.token(8)}`);
  const slot = await network.acquire({ kind: "public" });
  const sharer = dependencies.shares.enter(cgroup, 0, true);
  try {
    await cgroup.setLimits({
      cpuMaxCores: null,
      memoryMinBytes: null,
      memoryHighBytes: null,
      memoryMaxBytes: memoryBytes,
      pidsMax: defaultLimits.pids,
    });
    const spec: SandboxSpec = {
      uid: request.uid,
      hostname: "build",
      network: slot,
      binds: [
        // First, as nothing may be mounted below what the job could write to.
        ...toolBinds(dependencies.tools),
        { source: join(request.directory, "tree"), destination: inside.app, writable: true },
        { source: join(request.directory, "home"), destination: inside.home, writable: true },
      ],
      tmpBytes,
      workingDirectory: inside.app,
      env: { ...baseEnvironment(dependencies.tools), CI: "1" },
      argv: ["/bin/sh", "-c", script(request.commands)],
      openFiles: defaultLimits.openFiles,
    };
    return await runInside(dependencies, request, cgroup, spec);
  } finally {
    sharer.leave();
    await cgroup.kill();
    await cgroup.remove();
    await network.release(slot);
  }
}

/** Each command is shown, then run; the first that fails ends the job. */
function script(commands: readonly string[]): string {
  const lines = commands.map((command) => `echo ${shellQuoted(`$ ${command}`)}\n${command}`);
  return `set -e\n${lines.join("\n")}\n`;
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function runInside(
  dependencies: BuildDependencies,
  request: JobRequest,
  cgroup: Cgroup,
  spec: SandboxSpec,
): Promise<Result<void, BuildFailure>> {
  const { sandbox, exits, clock } = dependencies;
  const outputFile = join(request.directory, "output");
  const statusFile = join(request.directory, "status");
  const descriptor = openSync(outputFile, "a", 0o600);
  let stopped: keyof typeof stopReasons | null = null;
  const stop = (why: keyof typeof stopReasons): void => {
    stopped ??= why;
    void cgroup.kill();
  };
  const output = followOutput(outputFile, clock, request.output, () => stop("flooded"));
  const abort = (): void => stop("aborted");
  const timer = clock.after(timeoutMs, () => stop("timeout"));
  request.signal.addEventListener("abort", abort);
  try {
    const launched = await sandbox
      .launch(spec, cgroup, { statusFile, stdin: null, stdout: descriptor, stderr: descriptor })
      .finally(() => closeSync(descriptor));
    if (request.signal.aborted) abort();
    const { monitorPid: pid, monitorStartTicks: startTicks } = launched;
    await exits.ended({ pid, startTicks });
    const outOfMemory = (await cgroup.usage()).oomKills > 0;
    const exit = await sandbox.exitOf(statusFile);
    output.finish();
    const reason = stopped === null ? explain(exit, outOfMemory) : stopReasons[stopped];
    return reason === null ? ok(undefined) : err({ reason, logTail: output.tail() });
  } finally {
    timer.cancel();
    request.signal.removeEventListener("abort", abort);
    output.close();
  }
}

const stopReasons = {
  timeout: `the build took longer than ${formatDurationMs(timeoutMs)}`,
  flooded: `the build wrote more than ${formatBytes(outputBytesMax)} of output`,
  aborted: "lode was stopped during the build",
} as const;

function explain(exit: SandboxExit, outOfMemory: boolean): string | null {
  if (exit.kind === "exit" && exit.code === 0) return null;
  if (outOfMemory) return `the build ran out of memory (it has ${formatBytes(memoryBytes)})`;
  if (exit.kind === "exit") return `the build failed with exit code ${exit.code}`;
  return exit.kind === "signal" ? `the build was ended by ${exit.signal}` : "the build broke off";
}

interface Output {
  /** Hands out what is left. */
  finish(): void;
  tail(): readonly string[];
  close(): void;
}

function followOutput(
  path: string,
  clock: Clock,
  output: (line: string) => void,
  flooded: () => void,
): Output {
  const tail: string[] = [];
  let shown = 0;
  const show = (size: number, withLast: boolean): void => {
    const bytes = readFrom(path, shown, Math.min(size, outputBytesMax));
    for (const { text, end } of splitLines(bytes, shown, withLast)) {
      output(text);
      tail.push(text);
      if (tail.length > tailLines) tail.shift();
      shown = end;
    }
  };
  const growth = watchGrowth(path, clock, (size) => {
    show(size, false);
    if (size > outputBytesMax) flooded();
  });
  return {
    finish() {
      growth.look();
      show(outputBytesMax, true);
    },
    tail: () => tail,
    close: () => growth.close(),
  };
}

function readFrom(path: string, from: number, to: number): Uint8Array {
  if (!existsSync(path) || to <= from) return new Uint8Array();
  const descriptor = openSync(path, "r");
  try {
    const size = Math.min(to, fstatSync(descriptor).size);
    const bytes = new Uint8Array(Math.max(0, size - from));
    return bytes.subarray(0, readSync(descriptor, bytes, 0, bytes.length, from));
  } finally {
    closeSync(descriptor);
  }
}
