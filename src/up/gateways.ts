/**
 * Keeps one gateway process per core alive, and takes over those that an earlier lode left.
 *
 *   absent → launching → serving → ended → launching …   (one slot of the table below)
 *              ↑                     │
 *              └──── adopted ────────┘
 *
 * A slot keeps its listening descriptors here as long as this lode lives: while a gateway is
 * replaced, new connections wait in the kernel's queue instead of being refused.
 */
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock, Random } from "../base/time.ts";
import type { CgroupTree, Freezer } from "../node/cgroup/cgroup.ts";
import { isRunning } from "../node/linux/identity.ts";
import type { ExitWatcher, ProcessIdentity } from "../node/linux/processes.ts";
import { listenTcp } from "../node/linux/sockets.ts";
import { type CloudPaths, dataPaths, gatewayCgroupPrefix } from "../node/paths.ts";
import type { Sandbox } from "../node/sandbox/sandbox.ts";

export interface GatewaysSettings {
  readonly paths: CloudPaths;
  /** How many processes; as many as cores. */
  readonly count: number;
  readonly uid: number;
  readonly httpPort: number;
  readonly httpsPort: number | null;
  /** The program and what it needs to see; changes when Lode is upgraded. */
  readonly program: GatewayProgram;
}

export interface GatewayProgram {
  /** Names this build: a gateway of another build is replaced after a start. */
  readonly build: string;
  readonly argv: readonly string[];
  /** Host files shown inside at the same path. */
  readonly files: readonly string[];
}

/**
 * For JavaScriptCore: a function's code is optimized after ten times as many runs as of itself.
 * Optimizing takes a thread of its own for milliseconds, on a core that a request may be waiting
 * for; a gateway that is asked often has that behind it within seconds all the same
 * (docs/decisions/0026).
 */
const optimizingLate: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeSoon: "10000",
};

/** Where a gateway sees the freezers of the cloud's cgroups. */
const freezerDirectory = "/freezer";

/** What a gateway process finds in the variable LODE_GATEWAY, as JSON. */
export interface GatewayArguments {
  readonly id: string;
  /** Its row of the load table. */
  readonly row: number;
  readonly socketPath: string;
  readonly loadTablePath: string;
  /** In its own sandbox. */
  readonly freezer: Freezer;
  readonly logDirectory: string;
  readonly plainDescriptors: readonly number[];
  readonly tlsDescriptors: readonly number[];
}

export interface GatewaysDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly sandbox: Sandbox;
  readonly cgroups: CgroupTree;
  readonly exits: ExitWatcher;
  /** One line per event. */
  readonly say: (line: string) => void;
}

/** What a gateway's file tells the next lode. */
interface GatewayRecord {
  readonly monitor: ProcessIdentity;
  readonly cgroup: string;
  readonly statusFile: string;
  readonly build: string;
  readonly httpPort: number;
  readonly httpsPort: number | null;
}

interface Slot {
  readonly index: number;
  /** Listening descriptors, IPv4 and IPv6; empty while an adopted gateway has its own. */
  plain: readonly number[];
  secure: readonly number[];
  record: GatewayRecord | null;
  launches: number;
}

export interface Gateways {
  /** Ids of those that run. */
  running(): readonly string[];
  /** Resolves when every slot has a process. */
  start(): Promise<Result<{ adopted: number; launched: number }, string>>;
  /** Leaves them serving; stops watching. */
  close(): void;
  /** Ends them: drained first, killed after `graceMs`. */
  stopAll(graceMs: number): Promise<void>;
}

/** A gateway that ends sooner than this after its launch is started again with a delay. */
const stableAfterMs = 2000;
const relaunchDelayMsMax = 5000;
const stopTimeoutMs = 30_000;

/**
 * Of one gateway, beside apps whose weights come to all cores together (node/decide/cpu-shares.ts):
 * whatever these do, gateways get up to half of the machine when they need it.
 */
const weightCores = 1;

/**
 * What a gateway's collector takes for the machine's memory, in bytes: it lets garbage grow by as
 * much again as is used, not by some multiple of that. Requests cost the same (measured), and what
 * a gateway holds does not swing with the bodies that pass through.
 */
const collectorMemoryBytes = 256 * 1024 * 1024;

/** Where a program finds the first inherited descriptor. */
const inheritedFirst = 3;

export function createGateways(
  settings: GatewaysSettings,
  dependencies: GatewaysDependencies,
): Gateways {
  return new GatewaySet(settings, dependencies);
}

class GatewaySet implements Gateways {
  readonly #settings: GatewaysSettings;
  readonly #deps: GatewaysDependencies;
  readonly #slots: readonly Slot[];
  readonly #directory: string;
  #closed = false;

  constructor(settings: GatewaysSettings, dependencies: GatewaysDependencies) {
    this.#settings = settings;
    this.#deps = dependencies;
    this.#directory = join(settings.paths.run, "gateways");
    this.#slots = Array.from({ length: settings.count }, (_, index) => ({
      index,
      plain: [],
      secure: [],
      record: null,
      launches: 0,
    }));
  }

  async start(): Promise<Result<{ adopted: number; launched: number }, string>> {
    mkdirSync(this.#directory, { recursive: true, mode: 0o755 });
    const adopted = this.#slots.filter((slot) => this.#adopt(slot));
    const current = adopted.filter((slot) => this.#isCurrent(slot));
    await this.#removeStrays();
    if (adopted.length === 0) {
      const taken = this.#portTaken();
      if (taken !== null) return err(taken);
    }
    for (const slot of this.#slots) {
      if (current.includes(slot)) continue;
      const predecessor = slot.record;
      const listening = this.#listen(slot);
      if (!listening.ok) return listening;
      const launched = await this.#launch(slot);
      if (!launched.ok) return launched;
      if (predecessor !== null) void this.#retire(predecessor, stopTimeoutMs);
    }
    for (const slot of current) this.#watch(slot);
    return ok({ adopted: current.length, launched: this.#slots.length - current.length });
  }

  running(): readonly string[] {
    return this.#slots.filter((slot) => slot.record !== null).map(gatewayName);
  }

  close(): void {
    this.#closed = true;
    for (const slot of this.#slots) this.#closeListeners(slot);
  }

  async stopAll(graceMs: number): Promise<void> {
    this.close();
    await Promise.all(
      this.#slots.map(async (slot) => {
        if (slot.record !== null) await this.#retire(slot.record, graceMs);
        rmSync(this.#recordFile(slot), { force: true });
      }),
    );
  }

  /** Gateways that no record names: of a larger count, or of a lode that died while starting. */
  async #removeStrays(): Promise<void> {
    const kept = new Set(this.#slots.map((slot) => slot.record?.cgroup));
    for (const name of await this.#deps.cgroups.list()) {
      if (!name.startsWith(gatewayCgroupPrefix) || kept.has(name)) continue;
      const cgroup = await this.#deps.cgroups.open(name);
      await cgroup?.kill();
      await cgroup?.remove();
    }
  }

  #recordFile(slot: Slot): string {
    return join(this.#directory, `${slot.index}.json`);
  }

  #adopt(slot: Slot): boolean {
    let record: GatewayRecord;
    try {
      record = JSON.parse(readFileSync(this.#recordFile(slot), "utf8")) as GatewayRecord;
    } catch {
      return false;
    }
    if (!isRunning(record.monitor)) return false;
    slot.record = record;
    return true;
  }

  #isCurrent(slot: Slot): boolean {
    const { program, httpPort, httpsPort } = this.#settings;
    const record = slot.record;
    return (
      record !== null &&
      record.build === program.build &&
      record.httpPort === httpPort &&
      record.httpsPort === httpsPort
    );
  }

  /** SO_REUSEPORT would let a second cloud share a port in silence: try without it first. */
  #portTaken(): string | null {
    for (const port of [this.#settings.httpPort, this.#settings.httpsPort]) {
      const probe = port === null ? ok([]) : listenEverywhere(port, false);
      if (!probe.ok) return probe.error;
      for (const descriptor of probe.value) closeSync(descriptor);
    }
    return null;
  }

  #listen(slot: Slot): Result<void, string> {
    const { httpPort, httpsPort } = this.#settings;
    const plain = listenEverywhere(httpPort, true);
    if (!plain.ok) return plain;
    slot.plain = plain.value;
    const secure = httpsPort === null ? ok([]) : listenEverywhere(httpsPort, true);
    if (!secure.ok) return secure;
    slot.secure = secure.value;
    return ok(undefined);
  }

  #closeListeners(slot: Slot): void {
    for (const descriptor of [...slot.plain, ...slot.secure]) closeSync(descriptor);
    slot.plain = [];
    slot.secure = [];
  }

  async #launch(slot: Slot): Promise<Result<void, string>> {
    const { paths, uid, program, httpPort, httpsPort } = this.#settings;
    const name = gatewayName(slot);
    const logs = join(paths.data, "gateways");
    const directory = join(logs, name);
    mkdirSync(logs, { recursive: true, mode: 0o711 });
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    chownSync(directory, uid, uid);
    slot.launches += 1;
    const cgroupName = `${name}-${this.#deps.random.token(6)}`;
    const statusFile = join(this.#directory, `${cgroupName}.status`);
    const output = openSync(join(logs, `${name}.log`), "a", 0o600);
    try {
      const cgroup = await this.#deps.cgroups.create(cgroupName);
      cgroup.setCpuWeight(weightCores);
      const inherited = [...slot.plain, ...slot.secure];
      const { monitorPid, monitorStartTicks } = await this.#deps.sandbox.launch(
        this.#specOf(slot, name, directory),
        cgroup,
        { statusFile, stdin: null, stdout: output, stderr: output, inherited },
      );
      slot.record = {
        monitor: { pid: monitorPid, startTicks: monitorStartTicks },
        cgroup: cgroupName,
        ...{ statusFile, build: program.build, httpPort, httpsPort },
      };
    } catch (cause) {
      return err(`cannot start gateway ${slot.index}: ${(cause as Error).message}`);
    } finally {
      closeSync(output);
    }
    const file = this.#recordFile(slot);
    writeFileSync(`${file}.new`, JSON.stringify(slot.record));
    renameSync(`${file}.new`, file);
    this.#watch(slot);
    return ok(undefined);
  }

  #specOf(slot: Slot, name: string, directory: string) {
    const { paths, uid, program } = this.#settings;
    const { cgroups } = this.#deps;
    const shown = (path: string, writable: boolean) => ({
      source: path,
      destination: path,
      writable,
    });
    return {
      uid,
      hostname: name,
      network: "host" as const,
      binds: [
        ...program.files.map((path) => shown(path, false)),
        shown(dataPaths.appSockets(paths), false),
        shown(dirname(dataPaths.gatewaySocket(paths)), false),
        shown(dataPaths.loadTable(paths), true),
        { source: directory, destination: "/data", writable: true },
        // The files there are root's, but for those of what is frozen.
        { source: cgroups.freezer.directory, destination: freezerDirectory, writable: true },
      ],
      tmpBytes: 16 * 1024 * 1024,
      workingDirectory: "/",
      env: {
        HOME: "/data",
        // One collector thread: a gateway has one core, and each further marker costs 5 MB.
        BUN_JSC_numberOfGCMarkers: "1",
        BUN_JSC_forceRAMSize: String(collectorMemoryBytes),
        // Bun would collect each second that requests come, a millisecond each time. What is
        // allocated asks for collections by itself, and a gateway that becomes quiet for one.
        BUN_GC_TIMER_DISABLE: "1",
        ...optimizingLate,
        // What was compiled stays so: else the first full collection after 15 s throws it away, and
        // who asks once a minute meets the interpreter each time.
        BUN_JSC_forceCodeBlockLiveness: "1",
        LODE_GATEWAY: JSON.stringify(this.#argumentsOf(slot)),
      },
      argv: program.argv,
      openFiles: 1_048_576,
    };
  }

  #argumentsOf(slot: Slot): GatewayArguments {
    const { paths } = this.#settings;
    const secureFirst = inheritedFirst + slot.plain.length;
    return {
      id: gatewayName(slot),
      row: slot.index,
      socketPath: dataPaths.gatewaySocket(paths),
      loadTablePath: dataPaths.loadTable(paths),
      freezer: { ...this.#deps.cgroups.freezer, directory: freezerDirectory },
      logDirectory: "/data",
      plainDescriptors: slot.plain.map((_, at) => inheritedFirst + at),
      tlsDescriptors: slot.secure.map((_, at) => secureFirst + at),
    };
  }

  #watch(slot: Slot): void {
    const record = slot.record;
    if (record === null) return;
    const launchedAt = this.#deps.clock.now();
    void this.#deps.exits.ended(record.monitor).then(async () => {
      if (this.#closed || slot.record !== record) return;
      const exit = await this.#deps.sandbox.exitOf(record.statusFile);
      await this.#remove(record);
      const how = exit.kind === "exit" ? `exit code ${exit.code}` : JSON.stringify(exit);
      this.#deps.say(`gateway ${slot.index} ended (${how}); starting it again`);
      const young = this.#deps.clock.now() - launchedAt < stableAfterMs;
      if (!young) slot.launches = 0;
      const delayMs = young ? Math.min(50 * 2 ** slot.launches, relaunchDelayMsMax) : 0;
      if (delayMs === 0) void this.#relaunch(slot);
      else this.#deps.clock.after(delayMs, () => void this.#relaunch(slot));
    });
  }

  async #relaunch(slot: Slot): Promise<void> {
    if (this.#closed) return;
    const listening = slot.plain.length === 0 ? this.#listen(slot) : ok(undefined);
    const launched = listening.ok ? await this.#launch(slot) : listening;
    if (launched.ok) return;
    this.#deps.say(launched.error);
    this.#deps.clock.after(relaunchDelayMsMax, () => void this.#relaunch(slot));
  }

  /** Lets it finish its requests (SIGTERM), ends it after `graceMs` and removes its traces. */
  async #retire(record: GatewayRecord, graceMs: number): Promise<void> {
    const { sandbox, exits, clock } = this.#deps;
    const child = await sandbox.childPidOf(record.statusFile);
    if (child !== null && isRunning(record.monitor)) process.kill(child, "SIGTERM");
    const timedOut = new Promise<void>((resolve) => {
      clock.after(graceMs, resolve);
    });
    await Promise.race([exits.ended(record.monitor), timedOut]);
    await this.#remove(record);
  }

  async #remove(record: GatewayRecord): Promise<void> {
    const cgroup = await this.#deps.cgroups.open(record.cgroup);
    await cgroup?.kill();
    await cgroup?.remove();
    rmSync(record.statusFile, { force: true });
  }
}

function gatewayName(slot: Slot): string {
  return `${gatewayCgroupPrefix}${slot.index}`;
}

/** One socket for IPv4 and, where the kernel has it, one for IPv6. */
function listenEverywhere(port: number, reusePort: boolean): Result<number[], string> {
  const descriptors: number[] = [];
  for (const host of existsSync("/proc/net/if_inet6") ? ["0.0.0.0", "::"] : ["0.0.0.0"]) {
    const listening = listenTcp({ host, port, backlog: 4096, reusePort });
    if (!listening.ok) {
      for (const descriptor of descriptors) closeSync(descriptor);
      return listening;
    }
    descriptors.push(listening.value);
  }
  return ok(descriptors);
}
