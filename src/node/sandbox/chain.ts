import { closeSync, constants, openSync, writeSync } from "node:fs";
import { posix } from "node:path";
import { assert } from "../../base/assert.ts";
import type { Cgroup } from "../cgroup/cgroup.ts";
import { mustWrite } from "../cgroup/control-files.ts";
import { hardLimits, makePipe, memoryFile } from "../linux/files.ts";
import { readStartTicks } from "../linux/identity.ts";
import { attempt, describe, libc } from "../linux/libc.ts";
import { inNetworkNamespace } from "../linux/namespaces.ts";
import {
  bubblewrapArguments,
  type ChainDescriptors,
  enterWrapper,
  type HostView,
  hostsFile,
} from "./launch.ts";
import type { LaunchMounts } from "./launch-mounts.ts";
import type { LaunchedSandbox, SandboxSpec } from "./sandbox.ts";

export const shell = "/bin/sh";

export interface ChainRequest {
  readonly host: HostView;
  readonly mounts: LaunchMounts;
  readonly seccompFile: string;
  readonly spec: SandboxSpec;
  readonly cgroup: Cgroup;
  readonly io: {
    readonly statusFile: string;
    readonly stdin: number | null;
    readonly stdout: number | null;
    readonly stderr: number | null;
    readonly inherited?: readonly number[];
  };
  /** A process of the sandbox to join, null for a new one. */
  readonly childPid: number | null;
}

/**
 * The chain, of which the app's uid owns every process:
 *
 *     lode (enters the slot's network namespace and the mounts of launches for the spawn)
 *       → sh: waits until lode has put it into the cgroups, lowers the resource limits
 *       → bubblewrap: namespaces, mounts, seccomp
 *       → program
 *
 * setns(2) around the spawn, Bun's own setuid, and lode writing the cgroup files while sh
 * starts save two programs and about 1.5 ms per launch. Nothing of the app, not even its
 * environment, reaches a program before bubblewrap; sh runs with an empty one. The new
 * session keeps a terminal's Ctrl-C from the app.
 */
export function startChain(request: ChainRequest): LaunchedSandbox {
  const { spec, io } = request;
  const opened: number[] = [];
  const own = (descriptor: number): number => {
    opened.push(descriptor);
    return descriptor;
  };
  try {
    const bornIn = cgroupToBeBornIn(request.cgroup, own);
    const gate = bornIn === null ? makePipe() : null;
    const table = new DescriptorTable();
    for (const descriptor of io.inherited ?? []) table.add(descriptor);
    const join = request.childPid === null ? null : joinNamespaces(request.childPid, own, table);
    const gateNumber = gate === null ? null : table.add(own(gate.read));
    const appended = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT;
    const numbers: ChainDescriptors = {
      status: table.add(own(openSync(io.statusFile, appended, 0o600))),
      seccomp: table.add(own(openSync(request.seccompFile, "r"))),
      hosts: table.add(own(memoryFile(encode(hostsFile(spec))))),
      join,
    };
    const built = bubblewrapArguments(request.host, spec, numbers);
    if (!built.ok) throw new Error(`sandbox spec: ${built.error}`);
    const args = built.value.map((argument) => `${argument}\0`).join("");
    const argsNumber = table.add(own(memoryFile(encode(args))));
    const program = join === null ? spec.argv : [...enterWrapper(join), ...spec.argv];
    const command = [request.host.bubblewrap, "--args", String(argsNumber), "--", ...program];
    if (gate !== null) own(gate.write);
    const spawn = () =>
      Bun.spawn([shell, "-c", chainScript(spec, gateNumber), "lode", ...command], {
        stdio: [io.stdin ?? "ignore", io.stdout ?? "ignore", io.stderr ?? "ignore", ...table.all],
        ...(bornIn === null ? {} : { cgroup: bornIn }),
        uid: spec.uid,
        gid: spec.uid,
        env: {},
        cwd: "/",
        detached: true,
      });
    const network = networkToEnter(spec, request.childPid);
    const spawnAt = () => (network === null ? spawn() : inNetworkNamespace(network, spawn));
    const sources = spec.binds.map(({ source }) => source);
    const child = request.mounts.within(sources, spawnAt);
    child.unref();
    // Read before the gate opens: it would wait for the exec that comes then.
    const monitorStartTicks = readStartTicks(child.pid);
    assert(monitorStartTicks !== null, `the child ${child.pid} that was just started has a start`);
    if (gate !== null) {
      for (const path of request.cgroup.joinPaths) mustWrite(path, String(child.pid));
      writeSync(gate.write, "\n");
    }
    return { monitorPid: child.pid, monitorStartTicks };
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}

/** Which of our descriptors the chain finds under which number, from 3 on. */
class DescriptorTable {
  readonly all: number[] = [];

  add(descriptor: number): number {
    return 2 + this.all.push(descriptor);
  }
}

/**
 * On v2 the shell is born in its cgroup (CLONE_INTO_CGROUP), which waits for nothing; v1 has
 * no such thing, and several hierarchies. The path given back also exists where the cgroups
 * are not mounted.
 */
function cgroupToBeBornIn(cgroup: Cgroup, own: (descriptor: number) => number): string | null {
  const [only, ...others] = cgroup.joinPaths;
  if (only === undefined || others.length > 0) return null;
  return `/proc/self/fd/${own(openSync(posix.dirname(only), "r"))}`;
}

/**
 * What sh does. Descriptors that it names must have one digit. When lode dies before it has
 * opened the gate, the read fails and nothing starts.
 */
function chainScript(spec: SandboxSpec, gate: number | null): string {
  assert(gate === null || gate <= 9, `${gate} descriptors are too many for the chain`);
  const limits = hardLimits();
  const openFiles = Math.min(spec.openFiles, limits.openFiles);
  const lockedKilobytes = Math.min(8192, Math.floor(limits.lockedBytes / 1024));
  const wait = gate === null ? "" : `read -r go <&${gate} || exit 125; `;
  const close = gate === null ? "" : ` ${gate}<&-`;
  return (
    `${wait}umask 022; ulimit -c 0; ulimit -n ${openFiles}; ulimit -l ${lockedKilobytes}; ` +
    `exec "$@"${close}`
  );
}

/**
 * A second program joins the app's user namespaces and pid namespace. bubblewrap gave the
 * app two of the former: the outer owns the pid namespace, the inner (whose creation used up
 * the right to make more) is where the app lives.
 */
function joinNamespaces(
  childPid: number,
  own: (descriptor: number) => number,
  table: DescriptorTable,
): NonNullable<ChainDescriptors["join"]> {
  const inner = own(openSync(`/proc/${childPid}/ns/user`, "r"));
  const getParent = 0xb702n;
  const outer = attempt("ioctl NS_GET_PARENT", libc.ioctl(inner, getParent, 0n));
  if (!outer.ok) throw new Error(`user namespace of ${childPid}: ${describe(outer.error)}`);
  const pids = own(openSync(`/proc/${childPid}/ns/pid`, "r"));
  return { outer: table.add(own(outer.value)), inner: table.add(inner), pids: table.add(pids) };
}

/** An empty network is made by bubblewrap, so only a second program can enter it. */
function networkToEnter({ network }: SandboxSpec, childPid: number | null): string | null {
  if (network === "host") return null;
  if (network === "none") return childPid === null ? null : `/proc/${childPid}/ns/net`;
  return network.namespacePath;
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
