/**
 * `lode up`: puts the parts together, and takes them apart again.
 *
 *   check → open → start → ready ─ SIGTERM → leave: lode ends, apps and gateways serve on
 *     └ one line, exit 1           └ SIGINT  → stop:  everything ends, nothing is left
 */
import { chownSync, existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type ApiListener, serveApi } from "../api/native/server.ts";
import { defaultApiLimits } from "../api/native/services.ts";
import { err, ok, type Result } from "../base/result.ts";
import { type Control, createControl } from "../control/control.ts";
import { openSecretBox, type SecretBox } from "../control/secrets.ts";
import { createLoadTable } from "../gateway/load/table.ts";
import { openTokens } from "../identity/local/tokens.ts";
import { formatCloudEndpoint } from "../model/endpoint.ts";
import { type Agent, createAgent } from "../node/agent.ts";
import { noCoresRemark } from "../node/cgroup/cgroup.ts";
import { type CloudPaths, cloudPaths, dataPaths, nodePaths } from "../node/paths.ts";
import { installTools } from "../node/runtime/tools.ts";
import { printEvents } from "./events.ts";
import { prepareGatewayProgram } from "./gateway-program.ts";
import { createGateways, type Gateways } from "./gateways.ts";
import { type CloudIdentity, openIdentity, prepareDataDirectory } from "./identity.ts";
import { type DataLock, lockDataDirectory } from "./lock.ts";
import { type Machine, openMachine } from "./machine.ts";
import { joinPool } from "./node-record.ts";
import type { UpOptions } from "./options.ts";
import type { Fabric, Surroundings } from "./parts.ts";
import { collectWhenQuiet, ownCpuTimeUs } from "./quiet.ts";
import { version } from "./version.ts";

/** Network slots kept ready for the next starts. */
const networkPoolSize = 16;
const gatewayGraceMs = 5000;

export interface RunningCloud {
  /** `http://127.0.0.1:4600` */
  readonly apiUrl: string;
  /** Ends lode alone: apps and gateways serve on. */
  leave(): Promise<void>;
  /** Ends everything and leaves nothing on the machine but the data directory. */
  stop(): Promise<void>;
}

/** Starts a cloud; the error is one line that says what to do. */
export async function up(
  options: UpOptions,
  around: Surroundings,
): Promise<Result<RunningCloud, string>> {
  if (process.getuid?.() !== 0) {
    return err(`lode up needs root to make sandboxes; run "sudo lode up"`);
  }
  // Whatever the caller's: apps must be able to pass through the folders made from here on.
  process.umask(0o022);
  const directory = prepareDataDirectory(options.dataDirectory);
  if (!directory.ok) return directory;
  const lock = lockDataDirectory(options.dataDirectory);
  if (!lock.ok) return lock;
  const starting = new Starting(options, around, lock.value);
  const started = await starting.run();
  if (!started.ok) await starting.undo();
  return started;
}

/** What has been opened so far, in order, so that a failed start can be undone backwards. */
class Starting {
  readonly #options: UpOptions;
  readonly #around: Surroundings;
  readonly #lock: DataLock;
  readonly #undo: (() => unknown)[] = [];
  /** This program, where every uid can reach it; set once the machine is open. */
  #executable = "";

  constructor(options: UpOptions, around: Surroundings, lock: DataLock) {
    this.#options = options;
    this.#around = around;
    this.#lock = lock;
    this.#undo.push(() => lock.release());
  }

  async undo(): Promise<void> {
    for (const step of this.#undo.reverse()) await step();
  }

  async run(): Promise<Result<RunningCloud, string>> {
    const options = this.#options;
    const identity = openIdentity(options.dataDirectory, this.#around.random);
    if (!identity.ok) return identity;
    const paths = cloudPaths(options.dataDirectory, identity.value.cloud);
    const opened = await this.#open(paths, identity.value);
    if (!opened.ok) return opened;
    const { machine, fabric, secrets } = opened.value;
    const started = await this.#start(paths, identity.value, machine, fabric, secrets);
    if (!started.ok) return started;
    const { gateways, control, agent, api } = started.value;
    const events = printEvents(fabric.wire, this.#around.say);
    const collecting = collectWhenQuiet(this.#around.clock, ownCpuTimeUs, () => Bun.gc(true));
    const end = async () => {
      events.cancel();
      collecting.cancel();
      await api.stop();
      await control.close();
    };
    return ok({
      apiUrl: `http://127.0.0.1:${options.apiPort}`,
      leave: async () => {
        await end();
        await agent.close();
        gateways.close();
        await fabric.close();
        await machine.close();
        this.#lock.release();
      },
      stop: async () => {
        await end();
        await Promise.all([agent.stopAll(), gateways.stopAll(gatewayGraceMs)]);
        await fabric.close();
        await machine.destroy();
        await machine.close();
        this.#lock.release();
      },
    });
  }

  async #open(
    paths: CloudPaths,
    { uidBase }: CloudIdentity,
  ): Promise<Result<{ machine: Machine; fabric: Fabric; secrets: SecretBox }, string>> {
    const isFresh = !existsSync(paths.run);
    const machine = await openMachine(paths, this.#around.clock, networkPoolSize, uidBase);
    if (!machine.ok) return machine;
    this.#undo.push(async () => {
      // What an earlier lode left serves on; what only this start made would be rubbish.
      if (isFresh) await machine.value.destroy();
      await machine.value.close();
    });
    this.#executable = installTools(nodePaths.runtime(paths)).bun;
    const missing = await machine.value.sandbox.selfTest(this.#executable);
    if (missing !== null) {
      return err(`the sandbox does not hold here: ${missing}; "lode doctor" tells more`);
    }
    const secrets = openSecretBox(dataPaths.secretsKey(paths));
    if (!secrets.ok) return secrets;
    const fabric = await this.#around.openFabric(paths);
    if (!fabric.ok) return fabric;
    this.#undo.push(() => fabric.value.close());
    return ok({ machine: machine.value, fabric: fabric.value, secrets: secrets.value });
  }

  async #start(
    paths: CloudPaths,
    identity: CloudIdentity,
    machine: Machine,
    fabric: Fabric,
    secretBox: SecretBox,
  ): Promise<
    Result<{ gateways: Gateways; control: Control; agent: Agent; api: ApiListener }, string>
  > {
    const { clock, random, say } = this.#around;
    const { node, uidBase } = identity;
    const joined = await joinPool(fabric.ledger, clock, node);
    if (!joined.ok) return joined;
    const gateways = await this.#gateways(paths, uidBase, machine, fabric);
    if (!gateways.ok) return gateways;
    // They find out first whether the ports are free, and wait for routes by themselves.
    const serving = await gateways.value.start();
    if (!serving.ok) return serving;
    if (serving.value.adopted > 0) say(`took over ${serving.value.adopted} gateways`);
    if (!machine.cgroups.canConfine) say(noCoresRemark);
    const agent = createAgent({
      ...{ node, paths, clock, random, uidBase },
      ...{ ledger: fabric.ledger, wire: fabric.wire, blobs: fabric.blobs },
      ...{ cgroups: machine.cgroups, network: machine.network },
      ...{ sandbox: machine.sandbox, exits: machine.exits },
      openSecret: (sealed) => secretBox.open(sealed),
      gateways: () => gateways.value.running(),
      readyMax: this.#options.readyMax,
    });
    const control = this.#control(fabric, secretBox, node);
    const api = await this.#api(paths, control, fabric);
    if (!api.ok) return api;
    this.#undo.push(() => api.value.stop());
    // What runs is the agent's to know, and nobody waits for control to have read its index.
    const [running, agentStarted] = await Promise.all([control.start(), agent.start()]);
    this.#undo.push(() => control.close());
    if (!running.ok) return err(`control cannot start: ${running.error.message}`);
    if (!agentStarted.ok) return agentStarted;
    this.#undo.push(() => agent.close());
    return ok({ gateways: gateways.value, control, agent, api: api.value });
  }

  #control(fabric: Fabric, secretBox: SecretBox, replica: string): Control {
    const { clock, random, say } = this.#around;
    const { domain, httpPort, httpsPort, releasesKept } = this.#options;
    return createControl({
      ...{ ledger: fabric.ledger, wire: fabric.wire, blobs: fabric.blobs },
      ...{ clock, random, secretBox },
      settings: { version, domain, httpPort, httpsPort, releasesKept, replica },
      onProblem: (message) => say(`control: ${message}`),
      onNotice: say,
    });
  }

  async #api(
    paths: CloudPaths,
    control: Control,
    fabric: Fabric,
  ): Promise<Result<ApiListener, string>> {
    const { clock, random, say } = this.#around;
    const { apiPort } = this.#options;
    const identity = await openTokens({ ledger: fabric.ledger, clock });
    if (!identity.ok) return identity;
    const ensured = await identity.value.ensureAdminToken(dataPaths.adminToken(paths));
    if (!ensured.ok) return ensured;
    try {
      const listener = serveApi({
        operations: control.operations,
        ...{ authenticator: identity.value, tokens: identity.value, clock, random },
        settings: { version, hostNames: [], limits: defaultApiLimits },
        log: (event, fields) => say(`${event} ${JSON.stringify(fields)}`),
        port: apiPort,
      });
      this.#writeEndpoint(paths);
      return ok(listener);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EADDRINUSE") throw cause;
      return err(
        `cannot serve the API on 127.0.0.1 port ${apiPort}: another program has it; ` +
          "choose another with --api-port",
      );
    }
  }

  #writeEndpoint(paths: CloudPaths): void {
    const apiUrl = `http://127.0.0.1:${this.#options.apiPort}`;
    const file = dataPaths.endpoint(paths);
    const text = formatCloudEndpoint({ apiUrl, pid: process.pid, version });
    writeFileSync(`${file}.new`, text, { mode: 0o644 });
    renameSync(`${file}.new`, file);
  }

  async #gateways(
    paths: CloudPaths,
    uid: number,
    machine: Machine,
    fabric: Fabric,
  ): Promise<Result<Gateways, string>> {
    const { clock, random, say } = this.#around;
    const { httpPort, httpsPort } = this.#options;
    const socketPath = dataPaths.gatewaySocket(paths);
    for (const directory of [dirname(socketPath), dataPaths.appSockets(paths)]) {
      mkdirSync(directory, { recursive: true, mode: 0o711 });
    }
    const count = navigator.hardwareConcurrency;
    const table = createLoadTable(dataPaths.loadTable(paths), count);
    if (!table.ok) return table;
    chownSync(dataPaths.loadTable(paths), uid, uid);
    const served = await fabric.serveGateways(socketPath, uid);
    if (!served.ok) return served;
    const program = await prepareGatewayProgram(
      this.#executable,
      join(dataPaths.node(paths), "bin"),
    );
    const gateways = createGateways(
      { paths, count, uid, httpPort, httpsPort, program },
      {
        clock,
        random,
        sandbox: machine.sandbox,
        cgroups: machine.cgroups,
        exits: machine.exits,
        say,
      },
    );
    this.#undo.push(() => gateways.close());
    return ok(gateways);
  }
}
