import { dlopen, FFIType, ptr } from "bun:ffi";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { createMemoryWire } from "../../fabric/memory/wire.ts";
import { systemClock, systemRandom } from "../../fabric/system.ts";
import type { Wire } from "../../fabric/wire.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { AppName, InstanceId, NodeName, ProjectName } from "../../model/names.ts";
import type {
  AppRoute,
  Certificate,
  RouteAnswer,
  RouteInstance,
  RouteQuery,
  RoutesRequest,
  RouteTable,
} from "../../model/route.ts";
import { type AppCosts, subjects, type WakeReply } from "../../model/wire.ts";
import { type Gateway, startGateway } from "../gateway.ts";
import type { GatewayLimits } from "../limits.ts";
import { createLoadTable } from "../load/table.ts";
import { SocketLoop } from "../sockets/loop.ts";
import { openSockets } from "../sockets/native.ts";

const libc = dlopen("libc.so.6", {
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  setsockopt: {
    args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i32,
  },
  bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  getsockname: { args: [FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
}).symbols;

/** A listening socket on a free loopback port, as a gateway inherits one. */
export function listenOnLoopback(): { readonly descriptor: number; readonly port: number } {
  const descriptor = libc.socket(2, 1, 0);
  const one = new Int32Array([1]);
  libc.setsockopt(descriptor, 1, 15, ptr(one), 4);
  const address = new Uint8Array([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (libc.bind(descriptor, ptr(address), 16) !== 0 || libc.listen(descriptor, 1024) !== 0) {
    throw new Error("cannot listen on the loopback interface");
  }
  libc.getsockname(descriptor, ptr(address), ptr(new Uint32Array([16])));
  return { descriptor, port: (address[2] as number) * 256 + (address[3] as number) };
}

export const runningAt = (endpoint: Endpoint): RouteInstance["state"] => ({
  kind: "running",
  endpoint,
});

export const tcp = (port: number): Endpoint => ({ kind: "tcp", host: "127.0.0.1", port });

let columns = 0;

export function routeInstance(id: string, state: RouteInstance["state"]): RouteInstance {
  columns += 1;
  return {
    instance: id as InstanceId,
    node: "n1" as NodeName,
    column: columns,
    cores: 1,
    state,
  };
}

/** One that listens on a port of this machine. */
export function runningOn(id: string, port: number | undefined): RouteInstance {
  return routeInstance(id, runningAt(tcp(port ?? 0)));
}

export function appRoute(
  name: string,
  instances: readonly RouteInstance[],
  more: Partial<AppRoute> = {},
): AppRoute {
  return {
    project: "default" as ProjectName,
    app: name as AppName,
    release: 1,
    hosts: [`${name}.test`],
    instances,
    requestsPerInstance: 1000,
    draining: [],
    problem: null,
    ...more,
  };
}

/** A raw connection that remembers what came. */
export class RawClient {
  received = "";
  closed = false;
  private readonly socket: Socket<RawClient>;

  private constructor(socket: Socket<RawClient>) {
    this.socket = socket;
  }

  static async connect(port: number): Promise<RawClient> {
    let client: RawClient | null = null;
    const socket = await Bun.connect<RawClient>({
      hostname: "127.0.0.1",
      port,
      socket: {
        open(opened) {
          client = new RawClient(opened as Socket<RawClient>);
        },
        data(_, chunk) {
          if (client !== null) client.received += chunk.toString("latin1");
        },
        close() {
          if (client !== null) client.closed = true;
        },
      },
    });
    return client ?? new RawClient(socket);
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, "latin1"));
  }

  /** Stops and starts reading. */
  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  async until(sign: string | RegExp): Promise<string> {
    await eventually(() =>
      typeof sign === "string" ? this.received.includes(sign) : sign.test(this.received),
    ).catch(() => {
      throw new Error(`never saw ${sign} in ${JSON.stringify(this.received.slice(0, 2000))}`);
    });
    return this.received;
  }

  async untilClosed(): Promise<string> {
    await eventually(() => this.closed);
    return this.received;
  }

  close(): void {
    this.socket.terminate();
  }
}

/** Waits for what must come true, at most 10 s. */
export async function eventually(condition: () => boolean): Promise<void> {
  for (let attempt = 0; !condition(); attempt += 1) {
    if (attempt === 2000) throw new Error("it never came true");
    await Bun.sleep(5);
  }
}

/** A back end that answers bytes with bytes. */
export interface RawServer {
  readonly port: number;
  /** What every connection received so far, in order of accept. */
  readonly seen: { text: string; closed: boolean; readonly socket: Socket<unknown> }[];
  close(): void;
}

/** @param answer called with each connection's bytes so far, after every read. */
export function rawServer(
  answer: (text: string, socket: Socket<unknown>, index: number) => void,
): RawServer {
  const seen: RawServer["seen"] = [];
  const find = (socket: Socket<unknown>) => seen.find((one) => one.socket === socket);
  const listener = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        seen.push({ text: "", closed: false, socket });
      },
      data(socket, chunk) {
        const one = find(socket);
        if (one === undefined) return;
        one.text += chunk.toString("latin1");
        answer(one.text, socket, seen.indexOf(one));
      },
      end(socket) {
        socket.end();
      },
      close(socket) {
        const one = find(socket);
        if (one !== undefined) one.closed = true;
      },
    },
  });
  return { port: listener.port, seen, close: () => listener.stop(true) };
}

let shared: SocketLoop | null = null;
let users = 0;

/** The loop of this process, for who gives it back: two would sleep in each other's time. */
function borrowLoop(): SocketLoop {
  users += 1;
  // Timers of tests and of what they talk to are Bun's own.
  shared ??= new SocketLoop({
    ...{ clock: systemClock, waitMsMax: 1, scrubs: true },
    onProblem: (error) => {
      setImmediate(() => {
        throw error;
      });
    },
  });
  return shared;
}

function returnLoop(): void {
  users -= 1;
  if (users > 0) return;
  shared?.close();
  shared = null;
}

/** A gateway on real sockets, with everything around it played by the test. */
export interface Rig {
  readonly gateway: Gateway;
  readonly wire: Wire;
  readonly port: number;
  readonly tlsPort: number;
  readonly directory: string;
  readonly problems: string[];
  /** Publishes a change of the table. */
  setApps(apps: Readonly<Record<string, AppRoute | null>>, costs?: readonly AppCosts[]): void;
  setCertificates(certificates: readonly Certificate[]): void;
  /** Answers wake requests from now on; a second call replaces the first. */
  onWake(handler: (instance: InstanceId) => Promise<WakeReply>): void;
  /** Answers look-ups from now on; null: the table does. */
  onLookUp(handler: ((host: string) => Promise<RouteAnswer["found"]>) | null): void;
  onSnapshot(handler: (keep: readonly string[]) => void): void;
  /** As after a restart of the publisher. */
  newEpoch(): void;
  close(): Promise<void>;
}

export async function startRig(
  apps: Readonly<Record<string, AppRoute>>,
  options: {
    readonly limits?: Partial<GatewayLimits>;
    readonly certificates?: readonly Certificate[];
    readonly accessLog?: boolean;
    readonly thaw?: (instance: InstanceId) => boolean;
  } = {},
): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), "lode-gateway-"));
  const wire = createMemoryWire();
  let table: RouteTable = {
    epoch: "e1",
    revision: 1,
    apps: { ...apps },
    certificates: options.certificates ?? [],
    costs: [],
  };
  const lookInTable = async (host: string): Promise<RouteAnswer["found"]> => {
    const [key, route] =
      Object.entries(table.apps).find(([, { hosts }]) => hosts.includes(host)) ?? [];
    return key === undefined || route === undefined ? null : { key, route, costs: null };
  };
  let look = lookInTable;
  const looked = new Map<string, AppRoute>();
  let onSnapshot: (keep: readonly string[]) => void = () => {};
  wire.respond(subjects.routesSnapshot, async (payload) => {
    const { keep } = payload as unknown as RoutesRequest;
    onSnapshot(keep);
    const kept = keep.flatMap((key) => {
      const route = looked.get(key);
      return route === undefined ? [] : [[key, route] as const];
    });
    return { ...table, apps: { ...table.apps, ...Object.fromEntries(kept) } } as never;
  });
  wire.respond(subjects.routesFind, async (payload) => {
    const { host } = payload as unknown as RouteQuery;
    const found = await look(host);
    if (found !== null) looked.set(found.key, found.route);
    return { epoch: table.epoch, revision: table.revision, found } as never;
  });
  const loadTablePath = join(directory, "load.table");
  createLoadTable(loadTablePath, 2);
  const plain = listenOnLoopback();
  const tls = listenOnLoopback();
  const problems: string[] = [];
  const loop = borrowLoop();
  const gateway = startGateway({
    id: "g0",
    wire,
    sockets: openSockets(loop),
    plainDescriptors: [plain.descriptor],
    tlsDescriptors: [tls.descriptor],
    loadTablePath,
    row: 0,
    clock: loop.clock,
    random: systemRandom,
    accessLog: options.accessLog === true ? { directory } : null,
    limits: { sweepMs: 20, closeMs: 500, ...options.limits },
    ...(options.thaw === undefined ? {} : { thaw: options.thaw }),
    onProblem: (message) => problems.push(message),
  });
  await gateway.ready;
  const publish = (change: Partial<RouteTable>, changed: Record<string, AppRoute | null>) => {
    const from = table.revision;
    table = { ...table, ...change, revision: from + 1 };
    wire.publish(subjects.routesChanged, {
      epoch: table.epoch,
      from,
      to: table.revision,
      apps: changed,
      certificates: change.certificates ?? null,
      costs: change.costs ?? [],
    } as never);
  };
  return {
    gateway,
    wire,
    port: plain.port,
    tlsPort: tls.port,
    directory,
    problems,
    setApps(changed, costs = []) {
      const next = { ...table.apps };
      for (const [key, route] of Object.entries(changed)) {
        if (route === null) delete next[key];
        else next[key] = route;
      }
      publish({ apps: next, costs }, { ...changed });
    },
    setCertificates: (certificates) => publish({ certificates }, {}),
    onWake(handler) {
      wire.respond(subjects.nodeWake("*"), async (payload) => {
        const { instance } = payload as unknown as { instance: InstanceId };
        return (await handler(instance)) as never;
      });
    },
    onLookUp(handler) {
      look = handler ?? lookInTable;
    },
    onSnapshot(handler) {
      onSnapshot = handler;
    },
    newEpoch() {
      table = { ...table, epoch: `${table.epoch}+` };
      publish({}, {});
    },
    async close() {
      await gateway.close();
      returnLoop();
      await wire.close();
      rmSync(directory, { recursive: true });
    },
  };
}
