// The stage: one cloud with a hostile app for each runtime and a neighbour, and what must not
// change on the host while they run.

import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { Cloud, repository } from "../harness/cloud.ts";
import { freePorts, isAlive } from "../harness/host.ts";
import { becomeHeavy } from "./heavy.ts";
import type { Surroundings } from "./probes.ts";

export const runtimes = ["native", "node", "bun"] as const;
export type Runtime = (typeof runtimes)[number];

const folder = join(repository, "test/sandbox");
const neighbour = "neighbour";

/** Bounds as an ordinary app would have them: a bomb meets them sooner. */
const hostileToml = `
[resources]
cpu = "1"
memory = "384M"
openFiles = 4096
disk = "16M"
[scale]
min = 1
`;

const starts: Readonly<Record<Runtime, string>> = {
  native: 'run = "./probe serve"',
  node: 'run = "node server.mjs"',
  bun: "",
};

/** This one's app runs in a sandbox that was made ahead, the others' in one made for a start. */
const madeAhead: Runtime = "bun";

export interface Stage {
  readonly cloud: Cloud;
  /** The probes as a program of this machine. */
  readonly program: string;
  /** The client that asks the neighbour. */
  readonly visitor: string;
  readonly around: Surroundings;
  readonly neighbour: string;
  readonly neighbourPid: number;
  hostile(runtime: Runtime): string;
  folderOf(runtime: Runtime): string;
  /** What must not change, as text; comparable. */
  canaries(): Promise<string>;
  close(): Promise<string[]>;
}

/** Compiles the probes; `directory` gets `probe`, `probe.so` and `visitor`. */
export function compile(directory: string): void {
  const sources = readdirSync(join(folder, "native")).filter((name) => name.endsWith(".c"));
  const paths = sources.map((name) => join(folder, "native", name));
  const common = ["-O1", "-pthread"];
  execFileSync("gcc", [...common, "-o", join(directory, "probe"), ...paths]);
  const shared = ["-shared", "-fPIC", "-o", join(directory, "probe.so")];
  execFileSync("gcc", [...common, ...shared, ...paths]);
  execFileSync("gcc", ["-O1", "-o", join(directory, "visitor"), join(folder, "visitor.c")]);
}

export async function openStage(chosen: readonly Runtime[]): Promise<Stage> {
  const heavy = becomeHeavy();
  const cloud = await Cloud.start();
  heavy.raise(cloud.id());
  const programs = mkdtempSync(join(cloud.scratch, "programs-"));
  chmodSync(programs, 0o755);
  compile(programs);
  const folders = new Map(chosen.map((runtime) => [runtime, layOut(cloud, programs, runtime)]));
  await deployNeighbour(cloud);
  for (const [runtime, path] of folders) await cloud.deploy(path, `hostile-${runtime}`);
  if (chosen.includes(madeAhead)) await wakeFromReady(cloud, `hostile-${madeAhead}`);
  const host = await openHost(cloud, programs);
  const neighbourPid = await cloud.pidOf(neighbour);
  return {
    ...{ cloud, neighbour, neighbourPid, around: host.around },
    program: join(programs, "probe"),
    visitor: join(programs, "visitor"),
    hostile: (runtime) => `hostile-${runtime}`,
    folderOf: (runtime) => folders.get(runtime) ?? "",
    canaries: () => host.canaries(neighbourPid),
    async close() {
      host.close();
      const left = await cloud.stop();
      heavy.close();
      return left;
    },
  };
}

async function wakeFromReady(cloud: Cloud, app: string): Promise<void> {
  await cloud.ok(["scale", `${app}=0`]);
  const [waiting] = await cloud.untilReady(app);
  await cloud.get(app);
  if ((await cloud.pidOf(app)) !== waiting) throw new Error(`${app} was started anew`);
  await cloud.ok(["scale", `${app}=1`]);
}

function layOut(cloud: Cloud, programs: string, runtime: Runtime): string {
  const path = mkdtempSync(join(cloud.scratch, `${runtime}-`));
  for (const name of ["probe", "probe.so"]) {
    copyFileSync(join(programs, name), join(path, name));
    chmodSync(join(path, name), 0o755);
  }
  if (runtime !== "native") cpSync(join(folder, "apps", runtime), path, { recursive: true });
  writeFileSync(join(path, "lode.toml"), `${starts[runtime]}\n${hostileToml}`);
  return path;
}

async function deployNeighbour(cloud: Cloud): Promise<void> {
  const path = mkdtempSync(join(cloud.scratch, "neighbour-"));
  cpSync(join(folder, "apps/neighbour"), path, { recursive: true });
  const env = '[env]\nCANARY_SECRET = "the neighbour\'s"\n';
  const toml = `${env}[resources]\ncpu = "0.5::"\n[scale]\nmin = 1\n`;
  writeFileSync(join(path, "lode.toml"), toml);
  await cloud.deploy(path, neighbour);
}

async function openHost(cloud: Cloud, programs: string) {
  const open = join(cloud.scratch, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  const canaryFile = join(open, "canary");
  writeFileSync(canaryFile, "intact\n");
  chmodSync(canaryFile, 0o666);
  const sleeper = Bun.spawn(["sleep", "100000"]);
  const abstractName = `lode-canary-${cloud.id()}`;
  const socketPath = join(open, "canary.sock");
  const servers = [`\0${abstractName}`, socketPath].map((path) => createServer().listen(path));
  await Promise.all(servers.map((server) => new Promise((done) => server.on("listening", done))));
  chmodSync(socketPath, 0o777);
  const [freePort = 0] = await freePorts(1);
  const volumes = join(cloud.dataDirectory, "node/disk/volumes/default");
  putSetuidFiles(volumes, programs);
  const gatewayAddress = addressOf(new RegExp(`: lode-${cloud.id()} `), null);
  const other = addressOf(/scope global/, await cloud.pidOf(neighbour));
  const around: Surroundings = {
    ...{ canaryPid: sleeper.pid, canaryFile, abstractName, socketPath, freePort },
    ...{ gatewayAddress, otherAddress: other },
    secretPaths: [
      ...[join(volumes, neighbour, "secret"), "/etc/shadow", canaryFile, "/root"],
      ...[join(cloud.dataDirectory, "ledger.sqlite"), join(cloud.dataDirectory, "admin.token")],
      join(cloud.dataDirectory, "secrets.key"),
    ],
    ports: [
      ...["127.0.0.1", gatewayAddress, hostAddress()].flatMap((address) => [
        `${address}:${cloud.apiPort}`,
        `${address}:${cloud.httpPort}`,
      ]),
      `${other}:8080`,
    ],
  };
  return {
    around,
    canaries: async (neighbourPid: number) =>
      JSON.stringify({
        canaryFile: readFileSync(canaryFile, "utf8"),
        open: readdirSync(open).sort(),
        process: isAlive(sleeper.pid),
        neighbour: isAlive(neighbourPid),
        secret: readFileSync(join(volumes, neighbour, "secret"), "utf8"),
        corePattern: readFileSync("/proc/sys/kernel/core_pattern", "utf8"),
        hostName: readFileSync("/proc/sys/kernel/hostname", "utf8"),
        terminal: existsSync("/dev/ptmx") && spawnSync("script", ["-qc", ":", "/dev/null"]).status,
        portFree: await refuses(freePort),
        portToHave: (await freePorts(1)).length,
        logsBounded: blocksBelow(join(cloud.dataDirectory, "node/logs")) < 128 * 1024 ** 2,
      }),
    close() {
      sleeper.kill();
      for (const server of servers) server.close();
      rmSync(socketPath, { force: true });
    },
  };
}

/** As if somebody had put a setuid-root program into the folder of an app. */
function putSetuidFiles(volumes: string, programs: string): void {
  for (const app of readdirSync(volumes).filter((name) => name.startsWith("hostile-"))) {
    const file = join(volumes, app, "setuid");
    copyFileSync(join(programs, "probe"), file);
    chmodSync(file, 0o4755);
  }
}

/** Of the interface, in the network of `pid` or in the host's. */
function addressOf(name: RegExp, pid: number | null): string {
  const inside = pid === null ? [] : ["nsenter", "-t", String(pid), "-n"];
  const [command = "", ...rest] = [...inside, "ip", "-4", "-o", "address", "show"];
  const lines = execFileSync(command, rest).toString().split("\n");
  return /inet ([\d.]+)/.exec(lines.find((line) => name.test(line)) ?? "")?.[1] ?? "";
}

/** The address from which this machine would speak to others. */
function hostAddress(): string {
  const route = execFileSync("ip", ["-4", "route", "get", "192.0.2.1"]).toString();
  return /src ([\d.]+)/.exec(route)?.[1] ?? "127.0.0.1";
}

async function refuses(port: number): Promise<boolean> {
  try {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    socket.end();
    return false;
  } catch {
    return true;
  }
}

function blocksBelow(path: string): number {
  const found = lstatSync(path);
  const below = found.isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [];
  return below.reduce((sum, one) => sum + blocksBelow(one), found.blocks * 512);
}
