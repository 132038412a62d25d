import type { Json } from "../../base/json.ts";
import type { Result } from "../../base/result.ts";
import type { Clock, Random, Timestamp } from "../../base/time.ts";
import type { Operations } from "../../control/operations.ts";
import type { IdentityError, Role, TokenRecord } from "../../identity/identity.ts";

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

/** A token without its secret. */
export type TokenView = Omit<TokenRecord, "hash">;

/** Where tokens are kept, if they are kept here and not in a directory of users. */
export interface Tokens {
  /** The only time that the token itself is seen. */
  create(request: {
    readonly name: string;
    readonly roles: readonly Role[];
    readonly expiresAt: Timestamp | null;
  }): Promise<Result<{ readonly token: string; readonly view: TokenView }, IdentityError>>;
  list(): Promise<Result<readonly TokenView[], IdentityError>>;
  revoke(id: string): Promise<Result<void, IdentityError>>;
}
