import type { Result } from "../../base/result.ts";
import type { Timestamp } from "../../base/time.ts";
import type { FoundRoute, RouteAnswer } from "../../model/route.ts";
import type { GatewayContext } from "../context.ts";
import type { AppState } from "./app.ts";

export type Found =
  | { readonly kind: "app"; readonly app: AppState }
  /** Nobody has the host. */
  | { readonly kind: "absent" }
  /** Not found out in time. */
  | { readonly kind: "unclear" };

/** The table that what is found goes into. */
export interface KnownRoutes {
  readonly epoch: string | null;
  readonly revision: number;
  find(host: string): AppState | null;
  learn(found: FoundRoute): AppState;
}

/** Hosts asked for at one time; further ones are turned away. */
const lookupsMax = 256;
/** Hosts that nobody has are remembered, so many and so long; a change that names one ends it. */
const absentMax = 4096;
const absentMs = 5000;
const retryMs = 250;
/** Answers older than the table are asked for again, but not for ever. */
const staleMax = 3;

/**
 * Finds apps that this gateway has not had to do with, by asking for the host:
 *
 *   asked ─→ answered ─→ known here, or remembered as absent
 *     └─→ not reached, or older than the table: again, until a request is held no longer
 *
 * All requests for one host share one question.
 */
export class RouteFinder {
  private readonly context: GatewayContext;
  private readonly routes: KnownRoutes;
  private readonly ask: (host: string) => Promise<Result<RouteAnswer, string>>;
  private readonly underWay = new Map<string, Promise<Found>>();
  /** Host → until when. */
  private readonly absent = new Map<string, Timestamp>();

  constructor(
    context: GatewayContext,
    routes: KnownRoutes,
    ask: (host: string) => Promise<Result<RouteAnswer, string>>,
  ) {
    this.context = context;
    this.routes = routes;
    this.ask = ask;
  }

  find(host: string): Promise<Found> {
    const until = this.absent.get(host);
    if (until !== undefined) {
      if (until > this.context.clock.now()) return Promise.resolve({ kind: "absent" });
      this.absent.delete(host);
    }
    const known = this.underWay.get(host);
    if (known !== undefined) return known;
    if (this.underWay.size >= lookupsMax) {
      return Promise.resolve({ kind: "unclear" });
    }
    const finding = this.findAnew(host).finally(() => this.underWay.delete(host));
    this.underWay.set(host, finding);
    return finding;
  }

  /** A change names the host: somebody has it now. */
  appeared(host: string): void {
    if (this.absent.size > 0) this.absent.delete(host);
  }

  private async findAnew(host: string): Promise<Found> {
    const { clock, limits } = this.context;
    const giveUpAt = clock.now() + limits.holdMs;
    for (let stale = 0; ; ) {
      const asked = await this.ask(host);
      // A change may have told of it meanwhile, and what it told is newer.
      const app = this.routes.find(host);
      if (app !== null) return { kind: "app", app };
      if (asked.ok) {
        const { found } = asked.value;
        const isOlder = this.isOlder(asked.value);
        if (isOlder && ++stale < staleMax) continue;
        if (found !== null) return { kind: "app", app: this.routes.learn(found) };
        this.remember(host);
        return { kind: "absent" };
      }
      if (clock.now() >= giveUpAt) return { kind: "unclear" };
      await new Promise<void>((resolve) => clock.after(retryMs, resolve));
    }
  }

  private isOlder({ epoch, revision }: RouteAnswer): boolean {
    return epoch !== this.routes.epoch || revision < this.routes.revision;
  }

  private remember(host: string): void {
    const now = this.context.clock.now();
    for (const [other, until] of this.absent) {
      if (until > now && this.absent.size < absentMax) break;
      this.absent.delete(other);
    }
    this.absent.set(host, now + absentMs);
  }
}
