import { closeSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/time.ts";
import type { Cgroup, CgroupTree } from "../cgroup/cgroup.ts";
import { makePipe } from "../linux/files.ts";
import type { Network, NetworkSlot } from "../network/network.ts";
import { judgeProbe, type ProbeReport, probeSource } from "./probe.ts";
import type { Sandbox, SandboxSpec } from "./sandbox.ts";

export interface SelfTestOptions {
  readonly sandbox: Sandbox;
  readonly cgroups: CgroupTree;
  readonly network: Network;
  readonly runDirectory: string;
  readonly clock: Clock;
  /** This very executable, which acts as Bun when told so, where any uid can reach it. */
  readonly runtime: string;
}

/** A host uid that no app has: those are handed out from below. */
const probeUid = 0x7fff_0000;
const timeoutMs = 20_000;
const cgroupName = "self-test";

/**
 * Runs `probe.ts` through the whole chain and reads what it could do. The sentence names the
 * first protection that did not hold, or what stopped the chain.
 */
export async function runSelfTest(options: SelfTestOptions): Promise<string | null> {
  const cgroup = await options.cgroups.create(cgroupName);
  const directory = await mkdtemp(join(options.runDirectory, "self-test-"));
  let slot: NetworkSlot | null = null;
  try {
    slot = await options.network.acquire({ kind: "public" });
    return await probeWith(options, cgroup, slot, directory);
  } catch (error) {
    return `the launch chain failed: ${error instanceof Error ? error.message : String(error)}`;
  } finally {
    await cgroup.kill();
    await cgroup.remove();
    if (slot !== null) await options.network.release(slot);
    await rm(directory, { recursive: true, force: true });
  }
}

async function probeWith(
  options: SelfTestOptions,
  cgroup: Cgroup,
  slot: NetworkSlot,
  directory: string,
): Promise<string | null> {
  const { gatewayAddress } = options.network;
  const listener = Bun.listen({ hostname: gatewayAddress, port: 0, socket: { data: () => {} } });
  const output = makePipe();
  const errors = makePipe();
  const start = makePipe();
  const spec = probeSpec(options.runtime, slot, [gatewayAddress, String(listener.port)]);
  const io = {
    statusFile: join(directory, "status"),
    stdin: start.read,
    stdout: output.write,
    stderr: errors.write,
  };
  const expiry = options.clock.after(timeoutMs, () => void cgroup.kill());
  try {
    const launched = await options.sandbox.launch(spec, cgroup, io);
    const members = await cgroup.pids();
    writeSync(start.write, "\n");
    for (const descriptor of [output.write, errors.write]) closeSync(descriptor);
    const [text, complaint] = await Promise.all([readAll(output.read), readAll(errors.read)]);
    if (!members.includes(launched.monitorPid)) return "the chain did not join its cgroup";
    const report = parseReport(text);
    if (report === null) return `the launch chain failed: ${lastLine(complaint)}`;
    return judgeProbe(report);
  } finally {
    expiry.cancel();
    listener.stop(true);
    for (const descriptor of [output.read, errors.read, start.read, start.write]) {
      closeSync(descriptor);
    }
  }
}

/** The probe waits for a line, so that it is still there when its cgroup is looked at. */
function probeSpec(source: string, slot: NetworkSlot, args: readonly string[]): SandboxSpec {
  const runtime = "/lode/bun";
  return {
    uid: probeUid,
    hostname: "self-test",
    network: slot,
    binds: [{ source, destination: runtime, writable: false }],
    tmpBytes: 16 * 1024 * 1024,
    workingDirectory: "/tmp",
    env: { PATH: "/usr/bin:/bin", HOME: "/tmp", BUN_BE_BUN: "1" },
    argv: ["/bin/sh", "-c", 'read -r go; exec "$@"', "sh", runtime, "-e", probeSource, ...args],
    openFiles: 1024,
  };
}

async function readAll(descriptor: number): Promise<string> {
  return await new Response(Bun.file(descriptor).stream()).text();
}

function parseReport(text: string): ProbeReport | null {
  try {
    return JSON.parse(text) as ProbeReport;
  } catch {
    return null;
  }
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) || "no output from the probe";
}
