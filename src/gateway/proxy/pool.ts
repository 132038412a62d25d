import type { Timestamp } from "../../base/time.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { GatewayContext } from "../context.ts";
import { UpstreamConnection, type UpstreamHome } from "./upstream.ts";

/** The idle connections to one instance; the last used is taken first. */
export class UpstreamPool implements UpstreamHome {
  private readonly idle: UpstreamConnection[] = [];
  private readonly context: GatewayContext;
  private open = true;
  private onAhead: (() => void) | null = null;

  constructor(context: GatewayContext) {
    this.context = context;
  }

  /**
   * @param repeatable the request may be sent again if the connection turns out to be dead;
   *   others only take one so fresh that this is next to impossible.
   */
  take(now: Timestamp, repeatable: boolean): UpstreamConnection | null {
    const connection = this.idle[this.idle.length - 1];
    if (connection === undefined || connection.deadlineAt <= now) return null;
    if (!repeatable && now - connection.idleSince > this.context.limits.upstreamFreshMs)
      return null;
    this.idle.pop();
    return connection;
  }

  get hasIdle(): boolean {
    return this.idle.length > 0;
  }

  /** One more, before there is a request to be sent on it. */
  connectAhead(endpoint: Endpoint, onReady: () => void): void {
    if (!this.open || this.idle.length > 0) return;
    this.onAhead = onReady;
    new UpstreamConnection(this.context, this, endpoint, null);
  }

  keep(connection: UpstreamConnection): boolean {
    const { limits, clock } = this.context;
    if (!this.open || this.idle.length >= limits.upstreamIdleMax) return false;
    const now = clock.now();
    const { keepAliveSeconds } = connection;
    // A second before the instance itself would close it.
    const patienceMs =
      keepAliveSeconds === null ? limits.upstreamIdleMs : (keepAliveSeconds - 1) * 1000;
    if (patienceMs <= 0) return false;
    connection.idleSince = now;
    connection.deadlineAt = now + Math.min(limits.upstreamIdleMs, patienceMs);
    this.idle.push(connection);
    const { onAhead } = this;
    this.onAhead = null;
    onAhead?.();
    return true;
  }

  forget(connection: UpstreamConnection): void {
    const index = this.idle.lastIndexOf(connection);
    if (index >= 0) this.idle.splice(index, 1);
  }

  closeIdle(): void {
    for (const connection of [...this.idle]) connection.close();
  }

  /** For good: connections in use are closed once their request ends. */
  close(): void {
    this.open = false;
    this.closeIdle();
  }
}
