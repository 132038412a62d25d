/**
 * A gateway's first requests run in code that is not compiled yet, and each is joined by the
 * compiler's thread, on a core that the app or lode would have (docs/decisions/0026). So before
 * it has had guests, a gateway process plays requests through a second gateway of the same code,
 * to an app of this file's. Nothing of that is seen outside: it has its own wire, routes, load
 * table and log, in a folder that goes at the end.
 *
 *   opened → playing (some turns, with pauses, so that who comes meanwhile need not wait) → closed
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Json } from "../base/json.ts";
import { createMemoryWire } from "../fabric/memory/wire.ts";
import { connectWire } from "../fabric/unix/client.ts";
import { permissionsOf, serveWire } from "../fabric/unix/server.ts";
import type { Wire } from "../fabric/wire.ts";
import { type GatewayOptions, startGateway } from "../gateway/gateway.ts";
import { createLoadTable } from "../gateway/load/table.ts";
import type { UnixEndpoint } from "../model/instance.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../model/names.ts";
import type { AppRoute, RouteChange, RouteInstance, RouteTable } from "../model/route.ts";
import { subjects, type WakeReply } from "../model/wire.ts";
import { thaw } from "../node/cgroup/control-files.ts";
import { listeningPort, listenTcp } from "../node/linux/sockets.ts";
import { pause } from "../node/linux/time.ts";

/** Enough for all that a request runs through to be compiled, though not optimized. */
export const rehearsalTurns = 80;
const pauseMs = 5;

export interface Rehearsed {
  /** Requests that were answered. */
  readonly requests: number;
  /** Those for which the app had to be woken. */
  readonly wakes: number;
}

/** What both gateways of the process have in common. */
type Around = Pick<GatewayOptions, "clock" | "random" | "sockets">;

interface Stage {
  readonly port: number;
  readonly wakes: () => number;
  /** The gateway is told that the app is frozen. */
  freeze(): void;
  close(): Promise<void>;
}

const key = "rehearsal/app";
const host = "rehearsal.internal";
const node = "stage" as NodeName;
const instance = "irehearsal01" as InstanceId;
const everything = { publish: [">"], subscribe: [">"], request: [">"], respond: [">"] };

/**
 * @param within where its folder is made
 * @throws when the stage cannot be built or a request is not answered as it must be.
 */
export async function rehearse(around: Around, turns: number, within: string): Promise<Rehearsed> {
  const folder = mkdtempSync(join(within, "rehearsal-"));
  let stage: Stage | null = null;
  try {
    stage = await build(folder, around);
    let requests = 0;
    for (let turn = 0; turn < turns; turn++) {
      if (turn % 2 === 0) stage.freeze();
      await pause(around.clock, pauseMs);
      requests += await visit(stage.port);
    }
    return { requests, wakes: stage.wakes() };
  } finally {
    await stage?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function build(folder: string, { clock, random, sockets }: Around): Promise<Stage> {
  const endpoint: UnixEndpoint = { kind: "unix", path: join(folder, "app") };
  const socketPath = join(folder, "wire");
  const loadTablePath = join(folder, "load");
  const hub = createMemoryWire({ clock });
  const control = answerAs(hub, endpoint);
  const permissions = permissionsOf(everything);
  const server = await serveWire({ wire: hub, socketPath, permissions, mode: 0o600 });
  if (!server.ok) throw new Error(server.error.message);
  const table = createLoadTable(loadTablePath, 1);
  if (!table.ok) throw new Error(table.error);
  const listening = listenTcp({ host: "127.0.0.1", port: 0, backlog: 16, reusePort: false });
  if (!listening.ok) throw new Error(listening.error);
  const app = serveApp(endpoint);
  const wire = connectWire({ socketPath, clock });
  const freezer = { directory: folder, file: "state", thawed: "1" };
  mkdirSync(join(folder, instance));
  const gateway = startGateway({
    thaw: (frozen) => thaw(freezer, frozen),
    ...{ id: "rehearsal", row: 0, loadTablePath, wire, clock, random, sockets },
    ...{ plainDescriptors: [listening.value], tlsDescriptors: [] },
    accessLog: { directory: folder },
  });
  const port = listeningPort(listening.value);
  await gateway.ready;
  return {
    port,
    ...control,
    async close() {
      await gateway.close();
      await wire.close();
      app.stop(true);
      await server.value.close();
      await hub.close();
    },
  };
}

/** Control and node as the gateway meets them. */
function answerAs(hub: Wire, endpoint: UnixEndpoint): Pick<Stage, "wakes" | "freeze"> {
  let revision = 1;
  let wakes = 0;
  const epoch = "rehearsal";
  const running: RouteInstance["state"] = { kind: "running", endpoint };
  hub.respond(subjects.routesSnapshot, async () => {
    const apps = { [key]: routeOf(running) };
    const snapshot: RouteTable = { epoch, revision, apps, certificates: [], costs: [] };
    return snapshot as unknown as Json;
  });
  hub.respond(subjects.nodeWake(node), async () => {
    wakes += 1;
    const reply: WakeReply = { ok: true, endpoint };
    return reply as unknown as Json;
  });
  return {
    wakes: () => wakes,
    freeze() {
      const change: RouteChange = {
        ...{ epoch, from: revision, to: revision + 1 },
        apps: { [key]: routeOf({ kind: "asleep", socket: endpoint }) },
        ...{ certificates: null, costs: [] },
      };
      revision += 1;
      hub.publish(subjects.routesChanged, change as unknown as Json);
    },
  };
}

function routeOf(state: RouteInstance["state"]): AppRoute {
  const entry = { instance, node, column: 0, cores: 1, state };
  return {
    ...{ project: "rehearsal" as ProjectName, app: "app" as AppName, release: 1, hosts: [host] },
    ...{ instances: [entry], requestsPerInstance: 100, draining: [], problem: null },
  };
}

const answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

function serveApp({ path }: UnixEndpoint) {
  return Bun.listen({ unix: path, socket: { data: (socket) => void socket.write(answer) } });
}

const request = `GET /?turn=1 HTTP/1.1\r\nHost: ${host}\r\nAccept: */*\r\nUser-Agent: it\r\n`;

/** Two requests on a connection, the second its last; resolves with their number. */
function visit(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let answers = 0;
    let received = "";
    const socket = {
      open: (peer: Bun.Socket) => void peer.write(`${request}\r\n`),
      data: (peer: Bun.Socket, chunk: Buffer) => {
        received += chunk.toString("latin1");
        if (!received.endsWith("hello\n")) return;
        received = "";
        answers += 1;
        if (answers === 1) peer.write(`${request}Connection: close\r\n\r\n`);
      },
      close: () => {
        if (answers === 2) resolve(answers);
        else reject(new Error(`a rehearsed connection ended after: ${received}`));
      },
      connectError: (_: Bun.Socket, error: Error) => reject(error),
    };
    Bun.connect({ hostname: "127.0.0.1", port, socket }).catch(reject);
  });
}
