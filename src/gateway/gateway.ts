import type { Clock, Random } from "../base/time.ts";
import type { Wire } from "../fabric/wire.ts";
import type { InstanceId } from "../model/names.ts";
import { type GatewayContext, Sweeper } from "./context.ts";
import { CostLearning } from "./costs/learning.ts";
import { defaultGatewayLimits, type GatewayLimits } from "./limits.ts";
import { openLoadTable } from "./load/table.ts";
import { noAccessLog, openAccessLog } from "./log/access-log.ts";
import { MetricsPublisher } from "./metrics/publisher.ts";
import { ParserPool } from "./proxy/head-reader.ts";
import { Listeners } from "./proxy/listener.ts";
import { Router } from "./routing/router.ts";
import { RouteSync, requestRoute, requestWake } from "./routing/sync.ts";
import type { Sockets } from "./sockets/sockets.ts";
import { CertificateStore } from "./tls/certificates.ts";

export interface GatewayOptions {
  /** Its name on the wire and in its log's file name: [a-z0-9-]. */
  readonly id: string;
  readonly wire: Wire;
  readonly sockets: Sockets;
  /** Listening sockets, already bound, that this process inherited. */
  readonly plainDescriptors: readonly number[];
  readonly tlsDescriptors: readonly number[];
  readonly loadTablePath: string;
  /** Lets a frozen instance go on before its node is told. False or absent: its node does it. */
  readonly thaw?: (instance: InstanceId) => boolean;
  /** Its row in the load table; no other live gateway may have it. */
  readonly row: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly accessLog: { readonly directory: string } | null;
  readonly limits?: Partial<GatewayLimits>;
  /** Called with broken invariants and unusable certificates. */
  readonly onProblem?: (message: string) => void;
}

export interface Gateway {
  /** Settles once the first route table has come and connections are accepted. */
  readonly ready: Promise<void>;
  readonly connectionCount: number;
  /** Stops accepting, finishes what is in flight up to `limits.closeMs`, then ends all. */
  close(): Promise<void>;
}

/**
 * Starts one gateway in this process. It keeps no state outside what it returns.
 *
 * @throws when the load table cannot be mapped: there is nothing else such a process could do.
 */
export function startGateway(options: GatewayOptions): Gateway {
  const limits = { ...defaultGatewayLimits, ...options.limits };
  const table = openLoadTable(options.loadTablePath, options.row);
  if (!table.ok) throw new Error(`cannot start gateway ${options.id}: ${table.error}`);
  const onProblem = options.onProblem ?? (() => {});
  const context = makeContext(options, limits, onProblem);
  const router = new Router(
    context,
    table.value,
    {
      thaw: options.thaw ?? (() => false),
      wake: (instance) => requestWake(options.wire, instance, limits.holdMs),
    },
    (host) => requestRoute(options.wire, host),
  );
  const certificates = new CertificateStore(onProblem);
  router.onCertificates = (list) => certificates.replace(list);
  const listeners = new Listeners(context, router, certificates);
  context.unrouted = () => {
    router.traffic.unrouted += 1;
  };
  const sync = new RouteSync(options.wire, context, router);
  sync.start();
  const { wire, clock, id, row } = options;
  const metrics = new MetricsPublisher(wire, context, router, () => listeners.connectionCount);
  metrics.start();
  const learning = new CostLearning(wire, clock, id, row, router);
  let closed = false;
  // Until there is a table, connections wait in the kernel's queue rather than see a 404.
  void sync.ready.then(() => {
    if (closed) return;
    for (const descriptor of options.plainDescriptors) listeners.listenPlain(descriptor);
    for (const descriptor of options.tlsDescriptors) listeners.listenTls(descriptor);
  });
  const sweep = options.clock.every(limits.sweepMs, () => {
    context.sweeper.sweep(options.clock.now());
  });
  return {
    ready: sync.ready,
    get connectionCount() {
      return listeners.connectionCount;
    },
    async close() {
      closed = true;
      context.closing = true;
      await listeners.retire(limits.closeMs);
      sync.close();
      metrics.close();
      learning.close();
      sweep.cancel();
      await context.accessLog.close();
    },
  };
}

function makeContext(
  options: GatewayOptions,
  limits: GatewayLimits,
  onProblem: (message: string) => void,
): GatewayContext {
  const report = (error: unknown) => {
    onProblem(error instanceof Error ? (error.stack ?? error.message) : String(error));
  };
  const prefix = `${options.id}-${options.random.token(6)}-`;
  let requests = 0;
  return {
    id: options.id,
    limits,
    clock: options.clock,
    random: options.random,
    parsers: new ParserPool(limits.head),
    sockets: options.sockets,
    sweeper: new Sweeper(report),
    accessLog:
      options.accessLog === null
        ? noAccessLog
        : openAccessLog(options.accessLog.directory, options.id, options.clock, limits.accessLog),
    nextRequestId() {
      requests += 1;
      return prefix + requests.toString(36);
    },
    unrouted() {},
    report,
    closing: false,
  };
}
