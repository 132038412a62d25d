import type { Timestamp } from "../../base/time.ts";

/** One request, as the access log tells it. */
export interface AccessRecord {
  readonly at: Timestamp;
  readonly requestId: string;
  /** `project/app`, or null when no app was found. */
  readonly app: string | null;
  readonly instance: string | null;
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly status: number;
  /** Bytes of the bodies. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  /** From the request being sent to the instance to its answer's first byte; null: never. */
  readonly upstreamMs: number | null;
  /** How long it was held for an instance; 0: not at all. */
  readonly wakeMs: number;
  readonly client: string;
  readonly protocol: string;
  readonly userAgent: string | null;
}
