import type { Clock, Random, Timestamp } from "../base/time.ts";
import type { GatewayLimits } from "./limits.ts";
import type { AccessLog } from "./log/access-log.ts";
import type { ParserPool } from "./proxy/head-reader.ts";
import type { Sockets } from "./sockets/sockets.ts";

/** Something with a deadline that moves too often for a timer of its own. */
export interface Deadlined {
  /** Infinity: none at present. */
  deadlineAt: Timestamp;
  expire(now: Timestamp): void;
}

/** Looks at all deadlines a few times a second: moving one costs a store. */
export class Sweeper {
  private readonly members = new Set<Deadlined>();
  private readonly report: (error: unknown) => void;

  constructor(report: (error: unknown) => void) {
    this.report = report;
  }

  add(member: Deadlined): void {
    this.members.add(member);
  }

  remove(member: Deadlined): void {
    this.members.delete(member);
  }

  sweep(now: Timestamp): void {
    for (const member of this.members) {
      if (member.deadlineAt > now) continue;
      try {
        member.expire(now);
      } catch (error) {
        this.report(error);
      }
    }
  }
}

/** What every part of one gateway shares. */
export interface GatewayContext {
  readonly id: string;
  readonly limits: GatewayLimits;
  readonly clock: Clock;
  readonly random: Random;
  readonly parsers: ParserPool;
  readonly sockets: Sockets;
  readonly sweeper: Sweeper;
  readonly accessLog: AccessLog;
  /** Unique among gateways and their lives. */
  nextRequestId(): string;
  /** Counts a request that no app was found for. */
  unrouted(): void;
  /** A broken invariant: it is told, and costs one connection. */
  report(error: unknown): void;
  /** Connections end after the request they are in. */
  closing: boolean;
}
