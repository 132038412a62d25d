import type { Json } from "../../base/json.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import { type AppTraffic, type GatewayMetrics, subjects } from "../../model/wire.ts";
import type { GatewayContext } from "../context.ts";
import type { Router } from "../routing/router.ts";

const periodMs = 1000;
/** Without a change it gives a sign of life this often. */
const heartbeatMs = 5000;
const appsPerMessage = 100;

/**
 * Tells what was counted, at most once a second while something changed:
 *
 *   session (counts from 0) ─→ the wire breaks: nothing is told, counting goes on
 *        ▲                                        │ it is back
 *        └── a new session, which begins with what no earlier one was told
 *
 * So a lode that comes back counts what happened while it was away, and nothing twice. Within a
 * session the numbers only grow, and a lost message is made up for by the next.
 */
export class MetricsPublisher {
  private readonly wire: Wire;
  private readonly context: GatewayContext;
  private readonly router: Router;
  private readonly connectionCount: () => number;
  private connection: Subscription | null = null;
  private timer: { cancel(): void } | null = null;
  private connected = false;
  private session = "";
  private saidAt = 0;
  private connections = -1;
  private unrouted = -1;

  constructor(wire: Wire, context: GatewayContext, router: Router, connectionCount: () => number) {
    this.wire = wire;
    this.context = context;
    this.router = router;
    this.connectionCount = connectionCount;
  }

  start(): void {
    this.connection = this.wire.onConnection((connected) => {
      if (connected && !this.connected) this.beginSession();
      this.connected = connected;
    });
    this.timer = this.context.clock.every(periodMs, () => this.publish());
  }

  close(): void {
    this.publish();
    this.connection?.cancel();
    this.timer?.cancel();
  }

  private beginSession(): void {
    this.session = this.context.random.token(8);
    this.saidAt = 0;
    this.router.traffic.beginSession();
  }

  private publish(): void {
    if (!this.connected) return;
    const now = this.context.clock.now();
    const { traffic } = this.router;
    const connections = this.connectionCount();
    const apps = traffic.takeChanged();
    const isNews = connections !== this.connections || traffic.unrouted !== this.unrouted;
    if (apps.length === 0 && !isNews && now - this.saidAt < heartbeatMs) return;
    this.connections = connections;
    this.unrouted = traffic.unrouted;
    this.saidAt = now;
    for (let from = 0; from === 0 || from < apps.length; from += appsPerMessage) {
      this.send(apps.slice(from, from + appsPerMessage));
    }
  }

  private send(apps: readonly AppTraffic[]): void {
    const { id, clock } = this.context;
    const metrics: GatewayMetrics = {
      gateway: id,
      session: this.session,
      at: clock.now(),
      connections: this.connections,
      unrouted: this.unrouted,
      apps,
    };
    this.wire.publish(subjects.gatewayMetrics(id), metrics as unknown as Json);
  }
}
