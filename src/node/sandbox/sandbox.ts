import type { Cgroup } from "../cgroup/cgroup.ts";
import type { NetworkSlot } from "../network/network.ts";

/** One path of the host shown inside. Destinations are absolute; order is the mount order. */
export interface BindMount {
  readonly source: string;
  readonly destination: string;
  readonly writable: boolean;
}

/** Everything a launch depends on, as data. */
export interface SandboxSpec {
  /** Host uid and gid, never 0. */
  readonly uid: number;
  readonly hostname: string;
  /**
   * `host`: the node's own network (only for gateways). `none`: an empty namespace with no
   * interface but loopback.
   */
  readonly network: NetworkSlot | "host" | "none";
  readonly binds: readonly BindMount[];
  /** Size of the tmpfs on /tmp, bytes (charged to the instance's memory). */
  readonly tmpBytes: number;
  readonly workingDirectory: string;
  readonly env: Readonly<Record<string, string>>;
  readonly argv: readonly string[];
  readonly openFiles: number;
}

export interface LaunchedSandbox {
  /** bubblewrap's outer process: the instance has ended when it has. */
  readonly monitorPid: number;
  /** Start time of the monitor in clock ticks since boot (field 22 of /proc/PID/stat). */
  readonly monitorStartTicks: number;
}

export type SandboxExit =
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "signal"; readonly signal: string }
  | { readonly kind: "unknown" };

/**
 * Starts programs by the launch chain: cgroup joined first → network namespace → the app's
 * uid → bubblewrap with seccomp → program. Nothing started here is tied to lode's life.
 */
export interface Sandbox {
  /**
   * `statusFile` receives bubblewrap's JSON status (child pid, exit code) and outlives lode.
   * `stdin`, `stdout`, `stderr` are open file descriptors of this process, or null for
   * /dev/null.
   */
  launch(
    spec: SandboxSpec,
    cgroup: Cgroup,
    io: {
      readonly statusFile: string;
      readonly stdin: number | null;
      readonly stdout: number | null;
      readonly stderr: number | null;
      /** Further descriptors; the program finds them at 3, 4, … in this order. */
      readonly inherited?: readonly number[];
    },
  ): Promise<LaunchedSandbox>;
  /** Joins the namespaces of a running sandbox under its uid, seccomp filter and cgroup. */
  enter(
    childPid: number,
    spec: SandboxSpec,
    cgroup: Cgroup,
    io: {
      readonly statusFile: string;
      readonly stdin: number;
      readonly stdout: number;
      readonly stderr: number;
    },
  ): Promise<LaunchedSandbox>;
  /** How it ended, from its status file. */
  exitOf(statusFile: string): Promise<SandboxExit>;
  /** The program's pid as the host sees it, once known. */
  childPidOf(statusFile: string): Promise<number | null>;
  /**
   * Starts a probe under the full chain; null when it holds, else what is missing. `runtime` is
   * a Bun, or this very executable, where any uid can reach it.
   */
  selfTest(runtime: string): Promise<string | null>;
  /** Nothing is launched any more: lets go of the host's mounts. */
  close(): void;
}
