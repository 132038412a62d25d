import type { Timestamp } from "../base/time.ts";

/**
 * `admin` may do everything; `member` what the projects it belongs to allow; `metrics` only read
 * the metrics.
 */
export type Role = "admin" | "member" | "metrics";

/** Who is asking, as far as the way of authentication knows. */
export interface Principal {
  /** Stable, and unique over all ways of authentication: `token:9f2c…`. */
  readonly id: string;
  /** For people to read. */
  readonly name: string;
  readonly roles: readonly Role[];
}

/** The port of authentication: who bears this token? Null: nobody we know. */
export interface Authenticator {
  authenticate(bearerToken: string): Promise<Principal | null>;
}

/** Hard state: a token that was given out. The token itself is nowhere. */
export interface TokenRecord {
  /** The first 16 digits of `hash`. */
  readonly id: string;
  readonly name: string;
  readonly roles: readonly Role[];
  /** SHA-256 of the token, 64 lowercase hexadecimal digits. */
  readonly hash: string;
  readonly createdAt: Timestamp;
  /** Null: never. */
  readonly expiresAt: Timestamp | null;
}

export type IdentityError = {
  readonly code: "invalid" | "notFound" | "unavailable";
  readonly message: string;
};
