// The app behind the gateway in memory: it reads what comes with the naive twin, strictly, asks
// every lax reader whether it would have seen the same, and answers.

import { endFor, personalities } from "./personalities.ts";
import type { Dice } from "./random.ts";
import { type Field, type Request, readRequestBody, readRequestHead, roomy } from "./twin.ts";

/** One request as the app got it, and what it answered. */
export interface Received {
  /** Grows with every request that any connection got. */
  readonly order: number;
  readonly request: Request;
  readonly body: string;
  readonly trailers: readonly Field[];
  /** The body of the answer that the client must get; null: what was sent was mutated. */
  readonly answered: string | null;
  readonly switched: boolean;
  /** Its answer has no length that HTTP/1.0 knows. */
  readonly unbounded: boolean;
}

export type AnswerPiece =
  /** `whole`: it arrives in one read. */
  { readonly bytes: string; readonly whole?: boolean } | { readonly fin: true };

export interface Answering {
  /** Bytes of the answer to a complete request. */
  readonly pieces: readonly AnswerPiece[];
  readonly body: string | null;
  readonly switched?: boolean;
  readonly unbounded?: boolean;
}

export type Answerer = (request: Request, dice: Dice) => Answering;

/** The body that an answer has. */
export interface Made {
  readonly order: number;
  readonly body: string | null;
}

let answers = 0;
let orders = 0;

const bodiless = (request: Request, status: number) =>
  request.method === "HEAD" || status === 204 || status === 304;

function chunked(body: string, dice: Dice): string {
  let text = "";
  for (let at = 0; at < body.length; ) {
    const length = 1 + dice.below(body.length - at);
    const extension = dice.once(8) ? ";a=b" : "";
    text += `${length.toString(16)}${extension}\r\n${body.slice(at, at + length)}\r\n`;
    at += length;
  }
  return `${text}0\r\n${dice.once(8) ? "X-Sum: 1\r\n" : ""}\r\n`;
}

/** Well-formed answers of every framing; each tells which request it is for. */
export function answerWell(request: Request, dice: Dice): Answering {
  answers += 1;
  const id = request.fields.findLast(([name]) => name === "X-Request-Id")?.[1];
  const whole = `${request.method} ${id} ${answers};`.repeat(
    dice.once(20) ? (dice.once(20) ? 12_000 : 100) : 1,
  );
  const interim = dice.once(12) ? "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" : "";
  if (request.upgrade !== null && dice.once(2)) {
    const head = `HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: ${request.upgrade}\r\n`;
    return { pieces: [{ bytes: `${head}\r\n` }], body: "", switched: true };
  }
  const status = dice.once(16) ? dice.pick([204, 304, 404, 500]) : 200;
  const start = `${interim}HTTP/1.${dice.once(8) ? 0 : 1} ${status} Some reason\r\n`;
  const none = bodiless(request, status);
  const body = none ? "" : whole;
  const kind = dice.below(4);
  // Without a length only the end of the connection ends it; HTTP/1.0 knows no chunks.
  if (kind === 0 && !none) {
    const bytes = `${interim}HTTP/1.1 ${status} A\r\nTransfer-Encoding: chunked\r\n\r\n`;
    return { pieces: [{ bytes: bytes + chunked(body, dice) }], body, unbounded: true };
  }
  if (kind === 1) {
    const close = `${start}Connection: close\r\n\r\n${body}`;
    return { pieces: [{ bytes: close }, { fin: true }], body, unbounded: !none };
  }
  const bytes = `${start}Content-Length: ${whole.length}\r\nX-A: b\r\n\r\n${body}`;
  return { pieces: [{ bytes }], body };
}

/** The app's end of one connection from the gateway. */
export class AppConnection {
  readonly received: Received[] = [];
  /** Every answer begun, also those that did not wait for the request's end. */
  readonly made: Made[] = [];
  /** What is on its way back. */
  readonly pieces: AnswerPiece[] = [];
  tunnel: string | null = null;
  private text = "";
  private answer: Answerer;
  private readonly answersEarly: () => boolean;
  private dice: Dice;
  private early: Answering | null = null;
  private interimSent = false;
  /** A whole request was read; until its answer is out nothing may follow. */
  private complete = false;
  private leaving = false;
  private readonly report: (problem: string) => void;

  constructor(
    answer: Answerer,
    answersEarly: () => boolean,
    dice: Dice,
    report: (problem: string) => void,
  ) {
    this.answer = answer;
    this.answersEarly = answersEarly;
    this.dice = dice;
    this.report = report;
  }

  /** For the next case, whose dice and answers are its own. */
  renew(dice: Dice, answer: Answerer): void {
    this.dice = dice;
    this.answer = answer;
    this.received.length = 0;
    this.made.length = 0;
  }

  take(text: string): void {
    if (this.tunnel !== null) {
      this.tunnel += text;
      return;
    }
    // It is about to close: what comes now is not for it any more.
    if (this.leaving) return;
    if (this.pieces.length === 0) this.complete = false;
    if (this.complete) {
      this.report(`bytes before the last request was answered: ${JSON.stringify(text)}`);
    }
    this.text += text;
    this.read();
  }

  private read(): void {
    const head = readRequestHead(this.text, 0, roomy);
    if (head.kind === "more") return;
    if (head.kind === "refused") {
      this.report(`the app was sent what is no request (${head.status}): ${quote(this.text)}`);
      return;
    }
    const { request } = head;
    const body = readRequestBody(this.text, request);
    if (body.kind === "refused") {
      this.report(`the app was sent a body it cannot read: ${quote(this.text)}`);
      return;
    }
    if (body.kind === "more") {
      this.answerBefore(request);
      return;
    }
    this.compareReaders(body.end);
    const answering = this.early ?? this.send(request);
    this.early = null;
    this.complete = true;
    this.interimSent = false;
    const rest = this.text.slice(body.end);
    this.text = "";
    if (rest !== "") this.report(`bytes after a request: ${quote(rest)}`);
    if (answering.switched === true) this.tunnel = "";
    orders += 1;
    this.received.push({
      order: orders,
      ...{ request, body: body.body, trailers: body.trailers },
      answered: answering.body,
      switched: answering.switched === true,
      unbounded: answering.unbounded === true,
    });
  }

  /** An app may ask for the body, or answer without waiting for it. */
  private answerBefore(request: Request): void {
    if (this.early !== null) return;
    if (this.answersEarly()) {
      this.early = this.send(request);
    } else if (request.expects && !this.interimSent && this.dice.once(2)) {
      this.interimSent = true;
      this.pieces.push({ bytes: "HTTP/1.1 100 Continue\r\n\r\n" });
    }
  }

  private send(request: Request): Answering {
    const answering = this.answer(request, this.dice);
    orders += 1;
    this.made.push({ order: orders, body: answering.body });
    this.pieces.push(...answering.pieces);
    this.leaving = answering.pieces.some((piece) => "fin" in piece);
    return answering;
  }

  private compareReaders(end: number): void {
    const text = this.text.slice(0, end);
    for (const reader of personalities) {
      const seen = endFor(reader, `${text}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
      if (seen !== end) {
        this.report(`a reader (${reader.name}) ends at ${seen}, not ${end}: ${quote(text)}`);
      }
    }
  }
}

export const quote = (text: string): string => JSON.stringify(text.slice(0, 1500));
