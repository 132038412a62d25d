import { accessSync, closeSync, constants, existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Random } from "../base/time.ts";
import { formatBytes } from "../base/units.ts";
import { type CgroupTree, noCoresRemark } from "./cgroup/cgroup.ts";
import { openCgroupTree } from "./cgroup/detect.ts";
import { type KernelEvents, openKernelEvents } from "./linux/kernel-events.ts";
import { listenTcp } from "./linux/sockets.ts";
import { type OpenedNetwork, openNetwork } from "./network/open.ts";
import { readResolvers } from "./network/resolvers.ts";
import { cloudPaths, dataPaths } from "./paths.ts";
import { installTools } from "./runtime/tools.ts";
import { openSandbox } from "./sandbox/open.ts";
import { closeDisk, openDisk } from "./volume/disk.ts";

export interface DiagnoseOptions {
  readonly dataDirectory: string;
  /** TCP ports that the cloud would listen on; none while it runs. */
  readonly ports: readonly number[];
  readonly clock: Clock;
  readonly random: Random;
}

export interface Diagnosis {
  readonly check: string;
  readonly ok: boolean;
  /** What was found. */
  readonly detail: string;
  /** What to do; empty when all is well. */
  readonly remedy: string;
}

/**
 * Everything a node needs, tried rather than looked up where that is possible: a cgroup, a
 * disk, a network and a sandboxed program are really made, under a name of their own, and removed.
 * Works beside a running cloud.
 */
export async function diagnose(options: DiagnoseOptions): Promise<readonly Diagnosis[]> {
  const { dataDirectory, ports } = options;
  const root = checkRoot();
  const programs = await Promise.all(neededPrograms.map(checkProgram));
  const kernel = [checkUserNamespaces(), checkResolvers(), await checkForeignRules()];
  const places = [await checkDirectory(dataDirectory), ...ports.map(checkPort)];
  const before = [root, ...programs, ...kernel, ...places];
  const canTry = [root, ...programs].every(({ ok }) => ok);
  return canTry ? [...before, ...(await tryMachine(options))] : before;
}

function good(check: string, detail: string): Diagnosis {
  return { check, ok: true, detail, remedy: "" };
}

function bad(check: string, detail: string, remedy: string): Diagnosis {
  return { check, ok: false, detail, remedy };
}

function checkRoot(): Diagnosis {
  const uid = process.getuid?.();
  return uid === 0
    ? good("root", "running as root")
    : bad("root", `running as uid ${uid}`, "run it with sudo");
}

const neededPrograms = [
  { name: "bwrap", versionFlag: "--version", package: "bubblewrap", least: [0, 8] },
  { name: "nft", versionFlag: "--version", package: "nftables", least: [1, 0] },
  { name: "ip", versionFlag: "-V", package: "iproute2", least: [5, 0] },
  { name: "mkfs.btrfs", versionFlag: "--version", package: "btrfs-progs", least: [5, 0] },
] as const;

async function checkProgram(program: (typeof neededPrograms)[number]): Promise<Diagnosis> {
  const install = `apt install ${program.package}`;
  const path = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    .map((directory) => `${directory}/${program.name}`)
    .find((candidate) => existsSync(candidate));
  if (path === undefined) return bad(program.name, "not installed", install);
  const child = Bun.spawn([path, program.versionFlag], { stdout: "pipe", stderr: "ignore" });
  const text = (await child.stdout.text()).trim();
  const found = /(\d+)\.(\d+)/.exec(text);
  const [major, minor] = [Number(found?.[1] ?? 0), Number(found?.[2] ?? 0)];
  const [leastMajor, leastMinor] = program.least;
  const recent = major > leastMajor || (major === leastMajor && minor >= leastMinor);
  if (recent) return good(program.name, text);
  const least = program.least.join(".");
  return bad(program.name, `${text} is older than ${least}`, `${install} (${least} or later)`);
}

function checkUserNamespaces(): Diagnosis {
  const name = "user namespaces";
  const most = readNumber("/proc/sys/user/max_user_namespaces");
  if (most === 0) {
    return bad(name, "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=65536");
  }
  // Debian's switch, and Ubuntu's by AppArmor.
  if (readNumber("/proc/sys/kernel/unprivileged_userns_clone") === 0) {
    return bad(name, "switched off", "sysctl -w kernel.unprivileged_userns_clone=1");
  }
  const restriction = "kernel.apparmor_restrict_unprivileged_userns";
  if (readNumber("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") === 1) {
    return bad(name, "restricted by AppArmor", `sysctl -w ${restriction}=0`);
  }
  return good(name, `up to ${most}`);
}

function checkResolvers(): Diagnosis {
  const resolvers = readResolvers();
  return resolvers.length > 0
    ? good("resolver", resolvers.join(", "))
    : bad(
        "resolver",
        "no IPv4 name server in /etc/resolv.conf",
        "add a line like: nameserver 9.9.9.9",
      );
}

/** Another program's rules can drop what ours let through: every table has its say. */
async function checkForeignRules(): Promise<Diagnosis> {
  const name = "forwarding rules";
  if (!existsSync("/usr/sbin/nft")) return good(name, "not looked at: nft is missing");
  const child = Bun.spawn(["/usr/sbin/nft", "list", "chains"], { stderr: "ignore" });
  const text = await child.stdout.text();
  const dropping = /hook forward[^;]*; policy drop;/.test(text);
  if (!dropping) return good(name, "no other program drops forwarded packets by default");
  return bad(
    name,
    "a firewall (Docker, ufw) drops forwarded packets: apps cannot reach the internet",
    "let it pass lode's bridges: iptables -I FORWARD -i 'lode-+' -j ACCEPT; " +
      "iptables -I FORWARD -o 'lode-+' -j ACCEPT",
  );
}

async function checkDirectory(directory: string): Promise<Diagnosis> {
  const name = "data directory";
  const existing = nearestExisting(directory);
  try {
    accessSync(existing, constants.W_OK);
  } catch {
    return bad(name, `${existing} cannot be written`, "choose another with --data-dir");
  }
  const { bavail, bsize } = await statfs(existing);
  const free = bavail * bsize;
  const least = 1024 ** 3;
  if (free < least) {
    return bad(name, `${formatBytes(free)} free on ${existing}`, "make room: 1 GB at the least");
  }
  return good(name, `${directory}, ${formatBytes(free)} free`);
}

function nearestExisting(path: string): string {
  let candidate = path;
  while (!existsSync(candidate)) candidate = candidate.replace(/\/[^/]*$/, "") || "/";
  return candidate;
}

function checkPort(port: number): Diagnosis {
  const name = `port ${port}`;
  const opened = listenTcp({ host: "0.0.0.0", port, backlog: 1, reusePort: false });
  if (!opened.ok) return bad(name, opened.error, "stop the other program or choose another port");
  closeSync(opened.value);
  return good(name, "free");
}

/** Everyone may pass through it, and it is no tmpfs: Bun alone has 90 MB. */
const scratchParent = "/var/tmp";

/** Makes a little cloud: cgroups, a network, and the launch chain's self-test. */
async function tryMachine({ clock, random }: DiagnoseOptions): Promise<readonly Diagnosis[]> {
  const cloud = random.token(6);
  const runDirectory = `/run/lode-${cloud}`;
  await mkdir(runDirectory, { mode: 0o711 });
  const found: Diagnosis[] = [];
  const undo: (() => Promise<void>)[] = [() => rm(runDirectory, { recursive: true })];
  try {
    const events = openKernelEvents();
    if (!events.ok) return [bad("kernel events", events.error, "raise fs.aio-max-nr")];
    undo.push(async () => events.value.close());
    const shared = { cloud, runDirectory, clock };
    const cgroups = await tryCgroups(shared, events.value, found);
    if (cgroups !== null) undo.push(() => cgroups.destroy());
    found.push(await tryDisk(cloud));
    const network = await tryNetwork(shared, found);
    if (network !== null) undo.push(() => network.network.destroy());
    if (cgroups !== null && network !== null) {
      found.push(await trySandbox(shared, cgroups, network));
    }
    return found;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

interface Shared {
  readonly cloud: string;
  readonly runDirectory: string;
  readonly clock: Clock;
}

async function tryCgroups(
  shared: Shared,
  events: KernelEvents,
  found: Diagnosis[],
): Promise<CgroupTree | null> {
  const cgroups = openCgroupTree({ ...shared, events });
  if (!cgroups.ok) {
    found.push(bad("cgroups", cgroups.error, "run on the host itself, with cgroup v2"));
    return null;
  }
  const { version, canConfine } = cgroups.value;
  const lack = canConfine ? "" : `; ${noCoresRemark}`;
  found.push(good("cgroups", `version ${version}, controllers writable${lack}`));
  return cgroups.value;
}

async function tryDisk(cloud: string): Promise<Diagnosis> {
  const scratch = await mkdtemp(join(scratchParent, "lode-doctor-"));
  const paths = cloudPaths(scratch, cloud);
  try {
    await mkdir(dataPaths.node(paths));
    const disk = openDisk(paths);
    if (disk.ok) return good("disk of apps", "a file system with limits can be mounted");
    return bad("disk of apps", disk.error, "apt install btrfs-progs; run on the host itself");
  } finally {
    await closeDisk(paths);
    await rm(scratch, { recursive: true, force: true });
  }
}

async function tryNetwork(shared: Shared, found: Diagnosis[]): Promise<OpenedNetwork | null> {
  const network = await openNetwork({ ...shared, poolSize: 1 });
  if (!network.ok) {
    const remedy = "load the kernel modules bridge, veth and nf_tables; run on the host itself";
    found.push(bad("network", network.error, remedy));
    return null;
  }
  found.push(good("network", "bridge, namespaces and packet rules can be made"));
  return network.value;
}

async function trySandbox(
  shared: Shared,
  cgroups: CgroupTree,
  { network, nameServers }: OpenedNetwork,
): Promise<Diagnosis> {
  const sandbox = openSandbox({ ...shared, shown: [], nameServers, cgroups, network });
  if (!sandbox.ok) return bad("sandbox", sandbox.error, "apt install bubblewrap libseccomp2");
  const scratch = await mkdtemp(join(scratchParent, "lode-doctor-"));
  const missing = await sandbox.value
    .selfTest(installTools(scratch).bun)
    .finally(() => rm(scratch, { recursive: true, force: true }));
  sandbox.value.close();
  return missing === null
    ? good("sandbox", "a program was started and could not get out")
    : bad("sandbox", missing, "run on the host itself; see the checks above");
}

function readNumber(path: string): number | null {
  return existsSync(path) ? Number(readFileSync(path, "utf8")) : null;
}
