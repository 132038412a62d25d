import type { Json } from "../base/json.ts";
import type { Result } from "../base/result.ts";

export interface Message {
  readonly subject: string;
  readonly payload: Json;
}

export interface Subscription {
  cancel(): void;
}

export type WireError = {
  /** `noResponder`: nobody answers on the subject. `timeout`: somebody may have acted. */
  readonly code: "noResponder" | "timeout" | "disconnected" | "refused" | "failed";
  readonly message: string;
};

/**
 * Soft state: publish/subscribe and request/reply, at most once. Subjects are tokens joined by
 * dots; a subscription may use `*` for one token and a last `>` for the rest (as NATS has it).
 * Handlers run in order of arrival per subscription; a slow subscriber loses its oldest
 * messages, never delays another. `wire.SPEC.md` numbers the rules.
 */
export interface Wire {
  publish(subject: string, payload: Json): void;
  subscribe(subject: string, handler: (message: Message) => void): Subscription;
  request(
    subject: string,
    payload: Json,
    options: { readonly timeoutMs: number },
  ): Promise<Result<Json, WireError>>;
  /** One responder a subject. A handler that throws answers `failed`. */
  respond(
    subject: string,
    handler: (payload: Json, subject: string) => Promise<Json>,
  ): Subscription;
  /** Calls back after each loss and return of the connection; at once with the present state. */
  onConnection(callback: (connected: boolean) => void): Subscription;
  close(): Promise<void>;
}
