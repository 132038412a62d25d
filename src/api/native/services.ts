import type { Json } from "../../base/json.ts";
import type { Clock, Random } from "../../base/time.ts";
import type { Actor, Operations, Outcome } from "../../control/operations.ts";

export interface ApiSettings {
  readonly version: string;
  /** Names besides `localhost` and literal addresses that the API answers to. */
  readonly hostNames: readonly string[];
  readonly limits: {
    /** Body of an ordinary request. */
    readonly bodyBytesMax: number;
    /** Body of a deploy: its manifest. */
    readonly manifestBytesMax: number;
    readonly blobBytesMax: number;
    /** An upload that brings nothing for so long is cut. */
    readonly uploadStallMs: number;
    /** Between two signs of life on streams and sockets. */
    readonly heartbeatMs: number;
  };
}

export const defaultApiLimits: ApiSettings["limits"] = {
  bodyBytesMax: 1024 ** 2,
  manifestBytesMax: 64 * 1024 ** 2,
  blobBytesMax: 4 * 1024 ** 3,
  uploadStallMs: 60_000,
  heartbeatMs: 10_000,
};

export type ApiLog = (event: string, fields: Readonly<Record<string, Json>>) => void;

/** What every route may use. */
export interface Services {
  readonly operations: Operations;
  readonly tokens: Tokens;
  readonly clock: Clock;
  readonly random: Random;
  readonly settings: ApiSettings;
  readonly log: ApiLog;
}

/** Who holds a bearer token. Part of the identity port. */
export interface Authenticator {
  authenticate(bearer: string): Promise<{ readonly id: string } | null>;
}

/** A token without its secret. */
export interface TokenView {
  readonly id: string;
  readonly name: string;
  readonly createdAt: number;
}

export interface Tokens {
  /** `secret` is shown this once. */
  create(name: string, actor: Actor): Outcome<{ token: TokenView; secret: string }>;
  list(): Outcome<readonly TokenView[]>;
  revoke(id: string, actor: Actor): Outcome<void>;
}
