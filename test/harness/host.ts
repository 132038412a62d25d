import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { patienceMs } from "./pace.ts";

const firstPort = 10_000;
const portsGiven = new Set<number>();

/**
 * Ports that nothing listened on a moment ago, each given once. They are none of those that the
 * kernel takes for connections: of these any may be in use again before it is listened on, and
 * while who listens there starts anew.
 */
export async function freePorts(count: number): Promise<number[]> {
  const range = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8");
  const end = Math.max(Number.parseInt(range, 10), 2 * firstPort);
  const ports: number[] = [];
  while (ports.length < count) {
    const port = firstPort + Math.floor(Math.random() * (end - firstPort));
    if (portsGiven.has(port) || !(await isFree(port))) continue;
    portsGiven.add(port);
    ports.push(port);
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listens = await new Promise<boolean>((settle) => {
    server.once("error", () => settle(false));
    server.listen(port, "0.0.0.0", () => settle(true));
  });
  if (listens) await new Promise((done) => server.close(done));
  return listens;
}

export async function sleep(durationMs: number): Promise<void> {
  await Bun.sleep(durationMs);
}

/** Polls until `probe` returns something; fails with `what` when that never happens. */
export async function until<Value>(
  what: string,
  probe: () => Promise<Value | null | false> | Value | null | false,
  timeoutMs = 15_000,
): Promise<Value> {
  const limitMs = patienceMs(timeoutMs);
  const deadline = performance.now() + limitMs;
  for (;;) {
    const value = await probe();
    if (value !== null && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await sleep(25);
  }
}

export function isAlive(pid: number): boolean {
  const stat = readOrNull(`/proc/${pid}/stat`);
  return stat !== null && !/^\d+ \(.*\) [ZX]/s.test(stat);
}

/** Null when there is no such process. */
export function commandLineOf(pid: number): string | null {
  return readOrNull(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ").trim() ?? null;
}

/** The program's own short name: a sandbox's helper shows its child's arguments, not its own. */
export function programOf(pid: number): string | null {
  return readOrNull(`/proc/${pid}/comm`)?.trim() ?? null;
}

/** The text of /proc/PID/cgroup; empty when there is no such process. */
export function cgroupsOf(pid: number): string {
  return readOrNull(`/proc/${pid}/cgroup`) ?? "";
}

export function processIds(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Programs of an instance that were started ahead, not bubblewrap: they read their pipe. */
export function waitingPids(cloud: string, instance: string): number[] {
  const group = `lode-${cloud}/${instance}`;
  return processIds().filter((pid) => {
    if (!cgroupsOf(pid).includes(group) || programOf(pid) === "bwrap") return false;
    return readOrNull(`/proc/${pid}/wchan`)?.includes("pipe_read") === true;
  });
}

/**
 * Everything on this machine that carries a cloud's name, one line each; empty after
 * `lode down`. Other clouds may run beside it: theirs have other names.
 */
export function leftovers(cloud: string, dataDirectory: string): string[] {
  const found: string[] = [];
  const note = (kind: string, lines: readonly string[]) => {
    for (const line of lines) if (line.includes(cloud)) found.push(`${kind}: ${line}`);
  };
  for (const pid of processIds()) {
    // A hierarchy's name may hold the cloud's, too: what counts is the path in it.
    const isInside = cgroupsOf(pid).includes(`:/lode-${cloud}`);
    const command = commandLineOf(pid) ?? "";
    if (pid !== process.pid && (isInside || command.includes(dataDirectory))) {
      found.push(`process: ${pid} ${command}`);
    }
  }
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  note("mount", mounts);
  found.push(...mounts.filter((line) => line.includes(dataDirectory)).map((at) => `mount: ${at}`));
  const loops = output(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
  for (const line of loops.split("\n")) {
    if (line.includes(dataDirectory)) found.push(`loop device: ${line}`);
  }
  note("interface", readdirSync("/sys/class/net"));
  note("network namespace", list("/run/netns"));
  note("run directory", list("/run"));
  note("nft table", output(["nft", "list", "tables"]).split("\n"));
  for (const hierarchy of ["", ...list("/sys/fs/cgroup")]) {
    note("cgroup", list(`/sys/fs/cgroup/${hierarchy}`));
  }
  return found;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function output(command: string[]): string {
  return Bun.spawnSync(command, { stderr: "ignore" }).stdout.toString();
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
