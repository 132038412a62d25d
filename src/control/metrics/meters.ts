import type { Clock, Timestamp } from "../../base/time.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import { appKey } from "../../model/keys.ts";
import type { InstanceId } from "../../model/names.ts";
import { coldStartBoundsMs, trafficLayout } from "../../model/traffic.ts";
import {
  type AppTraffic,
  type GatewayLoad,
  type GatewayMetrics,
  type InstanceTotals,
  type NodeChange,
  subjects,
} from "../../model/wire.ts";

/** Apps counted by name; what comes beyond is counted together, as `otherApp`. */
export const appsMax = 500;
/** Process types of an app, the same. */
export const processesMax = 16;
/** No project and no process type has this name. */
export const otherApp = "-/other";
export const otherProcess = "-";

/** Gateways give a sign of life every 5 s. */
const gatewaySilenceMs = 16_000;

export interface ProcessCounts {
  cpuTimeUs: number;
  throttledUs: number;
  confinedUs: number;
  oomKills: number;
  restarts: number;
  wakes: number;
  coldStartMs: number;
  /** See `coldStartBoundsMs`. */
  readonly coldStarts: number[];
}

export interface AppCounts {
  /** See `trafficLayout`. */
  readonly traffic: number[];
  readonly processes: Map<string, ProcessCounts>;
}

export interface GatewayView {
  session: string;
  heardAt: Timestamp;
  connections: number;
  unrouted: number;
  /** Each app's last message of this session. */
  readonly apps: Map<string, AppTraffic>;
  /** Requests in flight by instance; those with none are not here. */
  readonly inFlight: Map<InstanceId, number>;
}

/**
 * Adds up what gateways and nodes count. Both tell ever growing numbers, so a lost message
 * costs nothing, and both begin again from 0 with a life of their own (a session, an agent's
 * epoch): what is added is the growth, and the whole of a number that has fallen. The sums begin
 * at 0 with each life of this process, which Prometheus takes for the reset that it is.
 */
export class Meters {
  readonly apps = new Map<string, AppCounts>();
  readonly other: AppCounts = newApp();
  readonly gateways = new Map<string, GatewayView>();
  /** Requests that an instance was given, since this life began. */
  readonly requests = new Map<InstanceId, number>();
  unrouted = 0;
  readonly #clock: Clock;
  readonly #wire: Wire;
  readonly #nodes = new Map<string, { epoch: string; last: Map<InstanceId, InstanceTotals> }>();
  #subscriptions: Subscription[] = [];

  constructor(wire: Wire, clock: Clock) {
    this.#wire = wire;
    this.#clock = clock;
  }

  start(): void {
    const { gatewayMetrics, gatewayLoads, nodeStatus } = subjects;
    this.#subscriptions = [
      this.#wire.subscribe(gatewayMetrics("*"), ({ payload }) =>
        this.#addTraffic(payload as unknown as GatewayMetrics),
      ),
      this.#wire.subscribe(gatewayLoads, ({ payload }) =>
        this.#takeLoad(payload as unknown as GatewayLoad),
      ),
      this.#wire.subscribe(nodeStatus("*"), ({ payload }) =>
        this.#addTotals(payload as unknown as NodeChange),
      ),
    ];
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.cancel();
  }

  /** The counts that stand for an app: its own, or those of all that came too late for some. */
  countsOf(app: string): AppCounts {
    const known = this.apps.get(app);
    if (known !== undefined) return known;
    if (this.apps.size >= appsMax) return this.other;
    const made = newApp();
    this.apps.set(app, made);
    return made;
  }

  /** The name that stands for a process type. */
  processOf(app: string, process: string): string {
    const counts = this.countsOf(app);
    if (counts === this.other) return otherProcess;
    if (counts.processes.has(process)) return process;
    return counts.processes.size < processesMax ? process : otherProcess;
  }

  /** An app was removed: its name's place is free. */
  keep(exists: (app: string) => boolean): void {
    for (const app of this.apps.keys()) if (!exists(app)) this.apps.delete(app);
  }

  /** Those heard lately; the others' present numbers are no longer true. */
  *liveGateways(): Iterable<readonly [string, GatewayView]> {
    const now = this.#clock.now();
    for (const [name, gateway] of this.gateways) {
      if (now - gateway.heardAt > gatewaySilenceMs) this.gateways.delete(name);
      else yield [name, gateway];
    }
  }

  #gateway(name: string): GatewayView {
    const known = this.gateways.get(name);
    if (known !== undefined) {
      known.heardAt = this.#clock.now();
      return known;
    }
    const made: GatewayView = {
      ...{ session: "", heardAt: this.#clock.now(), connections: 0, unrouted: 0 },
      ...{ apps: new Map(), inFlight: new Map() },
    };
    this.gateways.set(name, made);
    return made;
  }

  #addTraffic(message: GatewayMetrics): void {
    const gateway = this.#gateway(message.gateway);
    if (gateway.session !== message.session) {
      gateway.session = message.session;
      gateway.apps.clear();
      gateway.unrouted = 0;
    }
    this.unrouted += growth(message.unrouted, gateway.unrouted);
    gateway.unrouted = message.unrouted;
    gateway.connections = message.connections;
    for (const traffic of message.apps) {
      const last = gateway.apps.get(traffic.app)?.counts;
      const sums = this.countsOf(traffic.app).traffic;
      addGrowth(sums, traffic.counts, last);
      if (traffic.last === true) gateway.apps.delete(traffic.app);
      else gateway.apps.set(traffic.app, traffic);
    }
  }

  #takeLoad({ gateway: name, instances }: GatewayLoad): void {
    const gateway = this.#gateway(name);
    for (const { instance, requests, inFlight } of instances) {
      this.requests.set(instance, (this.requests.get(instance) ?? 0) + requests);
      if (inFlight > 0) gateway.inFlight.set(instance, inFlight);
      else gateway.inFlight.delete(instance);
    }
  }

  #addTotals({ node, epoch, totals, removed }: NodeChange): void {
    const known = this.#nodes.get(node);
    const view = known?.epoch === epoch ? known : { epoch, last: new Map() };
    this.#nodes.set(node, view);
    for (const total of totals) {
      this.#add(total, view.last.get(total.instance));
      if (total.last === true) view.last.delete(total.instance);
      else view.last.set(total.instance, total);
    }
    for (const instance of removed) {
      view.last.delete(instance);
      this.requests.delete(instance);
      for (const { inFlight } of this.gateways.values()) inFlight.delete(instance);
    }
  }

  #add(total: InstanceTotals, last: InstanceTotals | undefined): void {
    const app = appKey(total.project, total.app);
    const { processes } = this.countsOf(app);
    const process = this.processOf(app, total.process);
    const sums = processes.get(process) ?? newProcess();
    processes.set(process, sums);
    for (const name of sumNames) sums[name] += growth(total[name], last?.[name] ?? 0);
    addGrowth(sums.coldStarts, total.coldStarts, last?.coldStarts);
  }
}

const sumNames = [
  ...(["cpuTimeUs", "throttledUs", "confinedUs", "oomKills"] as const),
  ...(["restarts", "wakes", "coldStartMs"] as const),
] as const;

function newApp(): AppCounts {
  return { traffic: new Array<number>(trafficLayout.length).fill(0), processes: new Map() };
}

function newProcess(): ProcessCounts {
  return {
    ...{ cpuTimeUs: 0, throttledUs: 0, confinedUs: 0, oomKills: 0 },
    ...{ restarts: 0, wakes: 0, coldStartMs: 0 },
    coldStarts: new Array<number>(coldStartBoundsMs.length + 1).fill(0),
  };
}

/** By how much a counter grew; one that fell began again. */
function growth(now: number, last: number): number {
  return now >= last ? now - last : now;
}

function addGrowth(
  sums: number[],
  now: readonly number[],
  last: readonly number[] | undefined,
): void {
  for (let index = 0; index < Math.min(sums.length, now.length); index += 1) {
    sums[index] = (sums[index] ?? 0) + growth(now[index] ?? 0, last?.[index] ?? 0);
  }
}
