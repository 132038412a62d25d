import type { Field } from "./hpack-twin.ts";
import type { Verdict } from "./request-twin.ts";

/** One stream as a strict client knows it. */
export class StreamTwin {
  readonly id: number;
  /** Of the requests that the gateway began, the how manieth; -1: it was not looked at. */
  readonly order: number;
  readonly verdict: Verdict;
  /** What the client sent. */
  readonly body: string[] = [];
  bodyBytes = 0;
  /** Steps in which END_STREAM came, a reset by either side, the answer's end; 0: not yet. */
  endedAt: number;
  resetByClientAt = 0;
  resetAt = 0;
  answeredAt = 0;
  /** By a fault of the client that has its answer at once. */
  refused: number | null = null;
  readonly mayReset = new Set<number>();
  resetCode: number | null = null;
  /** What the client may still send, and the gateway. */
  receiveWindow: number;
  sendWindow: number;
  /** The answer. */
  status = 0;
  interims = 0;
  fields: readonly Field[] = [];
  readonly answer: string[] = [];
  answerBytes = 0;

  constructor(
    id: number,
    order: number,
    verdict: Verdict,
    endedAt: number,
    receiveWindow: number,
    sendWindow: number,
  ) {
    this.id = id;
    this.order = order;
    this.verdict = verdict;
    this.endedAt = endedAt;
    this.receiveWindow = receiveWindow;
    this.sendWindow = sendWindow;
  }

  get ended(): boolean {
    return this.endedAt > 0;
  }

  /** As far as the client can know by the frames up to now. */
  get closed(): boolean {
    const isOver = this.ended && this.answeredAt > 0;
    return this.refused !== null || this.resetByClientAt > 0 || this.resetAt > 0 || isOver;
  }

  /** What a HEADERS frame would tell of the body, and what came, do not agree. */
  get mismatched(): boolean {
    if (this.verdict.kind !== "forward" || this.verdict.upgrade) return false;
    const { length } = this.verdict;
    return length >= 0 && (this.bodyBytes > length || (this.ended && this.bodyBytes < length));
  }

  /** All of a good request went to the gateway. */
  get whole(): boolean {
    return this.verdict.kind === "forward" && this.ended && !this.mismatched;
  }
}
