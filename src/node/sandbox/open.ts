import { existsSync, lstatSync, mkdirSync, readlinkSync } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { CgroupTree } from "../cgroup/cgroup.ts";
import type { Network } from "../network/network.ts";
import { shell, startChain } from "./chain.ts";
import { makeEtc } from "./etc.ts";
import { type HostView, procMasks, procReadOnly } from "./launch.ts";
import { LaunchMounts } from "./launch-mounts.ts";
import type { Sandbox } from "./sandbox.ts";
import { writeSeccompFilter } from "./seccomp.ts";
import { runSelfTest } from "./self-test.ts";
import { childPidOf, exitOf } from "./status.ts";

export interface OpenSandboxOptions {
  /** The cloud's run directory; made with mode 0711 when absent, so that apps can pass it. */
  readonly runDirectory: string;
  /** Directories that most of what sandboxes are shown lies in; others only cost time. */
  readonly shown: readonly string[];
  /** Addresses that sandboxes find in their resolv.conf. */
  readonly nameServers: readonly string[];
  /** For the self-test, which goes through the whole chain. */
  readonly cgroups: CgroupTree;
  readonly network: Network;
  readonly clock: Clock;
  readonly bubblewrap?: string;
}

/** Prepares what every launch shares: the filter, the /etc, the view of the host. */
export function openSandbox(options: OpenSandboxOptions): Result<Sandbox, string> {
  const bubblewrap = options.bubblewrap ?? "/usr/bin/bwrap";
  for (const program of [bubblewrap, shell]) {
    if (!existsSync(program)) return err(`${program} is missing: apt install bubblewrap dash`);
  }
  const { runDirectory } = options;
  mkdirSync(runDirectory, { recursive: true, mode: 0o711 });
  const seccompFile = `${runDirectory}/seccomp.bpf`;
  const written = writeSeccompFilter(seccompFile);
  if (!written.ok) return written;
  const etcDirectory = `${runDirectory}/etc`;
  makeEtc(etcDirectory, options.nameServers);
  const host = viewHost(bubblewrap, etcDirectory);
  const mounts = new LaunchMounts([runDirectory, ...options.shown], options.clock);
  const shared = { host, mounts, seccompFile };
  const sandbox: Sandbox = {
    launch: async (spec, cgroup, io) => startChain({ ...shared, spec, cgroup, io, childPid: null }),
    enter: async (childPid, spec, cgroup, io) =>
      startChain({ ...shared, spec, cgroup, io, childPid }),
    exitOf,
    childPidOf,
    close: () => mounts.close(),
    selfTest: (runtime) => runSelfTest({ ...options, sandbox, runtime }),
  };
  return ok(sandbox);
}

function viewHost(bubblewrap: string, etcDirectory: string): HostView {
  const names = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"].filter(existsSync);
  const links = names.filter((path) => lstatSync(path).isSymbolicLink());
  return {
    bubblewrap,
    etcDirectory,
    systemLinks: links.map((path) => ({ path, target: readlinkSync(path) })),
    systemDirectories: names.filter((path) => !links.includes(path)),
    procMasks: procMasks.filter((path) => existsSync(path)),
    procReadOnly: procReadOnly.filter((path) => existsSync(path)),
  };
}
