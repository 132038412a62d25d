// Mutated requests over real sockets: through a gateway process to a real back end, which tells
// in each answer what it took the request for. Behind each case a marked request must get its
// own answer, on the same connection where that is still open.

import type { Seed } from "./corpus.ts";
import { type Expectation, type Expected, expectationOf } from "./expect.ts";
import { cutAnywhere, mutatedStream } from "./mutate.ts";
import { Dice } from "./random.ts";
import { withHost } from "./requests.ts";
import { bodyHidden, toldFault } from "./told.ts";
import { type AnswerRead, type Request, readAnswer, valuesOf } from "./twin.ts";

export interface SocketSum {
  cases: number;
  /** Answers in which the back end described the request as it was meant. */
  answered: number;
  /** Requests that the gateway passed on and the back end itself refused. */
  refusedBehind: number;
  /** Connections on which the back end broke off: 502. */
  broken: number;
  /** Cases that ended with a refusal by the gateway. */
  refused: number;
  /** Marked requests that got their own answer. */
  followed: number;
  readonly findings: { index: number; sent: string; faults: string[] }[];
}

export const emptySocketSum = (): SocketSum => ({
  ...{ cases: 0, answered: 0, refusedBehind: 0, broken: 0, refused: 0, followed: 0 },
  findings: [],
});

/** Byte by byte is for sockets in memory. */
const piecesMax = 30;

/** Nothing in a case takes a back end on this machine so long. */
const answerMsMaxUsual = 20_000;

/** One client's connection, and all that came on it. */
class Line {
  text = "";
  closed = false;
  private wake: () => void = () => {};
  private send: (bytes: Buffer) => void = () => {};
  private end: () => void = () => {};

  private readonly answerMsMax: number;

  private constructor(answerMsMax: number) {
    this.answerMsMax = answerMsMax;
  }

  static async open(port: number, answerMsMax: number): Promise<Line> {
    const line = new Line(answerMsMax);
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data(_, bytes) {
          line.text += bytes.toString("latin1");
          line.wake();
        },
        close() {
          line.closed = true;
          line.wake();
        },
      },
    });
    let pending = Buffer.alloc(0);
    line.send = (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      const written = socket.write(pending);
      pending = pending.subarray(Math.max(0, written));
      if (pending.length > 0 && !line.closed) setTimeout(() => line.send(Buffer.alloc(0)), 1);
    };
    line.end = () => socket.terminate();
    return line;
  }

  write(bytes: Buffer): void {
    this.send(bytes);
  }

  close(): void {
    this.end();
  }

  /** Waits until `isDone` or the connection is closed; false: neither came. */
  async until(isDone: () => boolean): Promise<boolean> {
    const deadline = performance.now() + this.answerMsMax;
    while (!isDone() && !this.closed) {
      const left = deadline - performance.now();
      if (left <= 0) return false;
      await new Promise<void>((settle) => {
        const timer = setTimeout(settle, left);
        this.wake = () => {
          clearTimeout(timer);
          settle();
        };
      });
    }
    return true;
  }
}

/** What came as answer number `index`, by how many the connection still goes on. */
function judgeAnswer(
  message: Expected,
  read: Extract<AnswerRead, { kind: "answer" }>,
  sum: SocketSum,
): string | null {
  const { answer } = read;
  if (!message.forwarded) return answer.status === 404 ? null : `status ${answer.status}`;
  const seen = valuesOf(answer.fields, "x-seen")[0];
  if (seen !== undefined) {
    sum.answered += 1;
    const { method, target } = message.request;
    return toldFault({ method, target, body: message.body.body }, seen);
  }
  if (answer.status === 502) sum.broken += 1;
  else if (answer.status >= 400 && answer.status !== 504 && answer.status !== 408) {
    sum.refusedBehind += 1;
  } else return `status ${answer.status} without a word on what was seen`;
  return null;
}

const asked = ({ request }: Expected) => ({ method: request.method, upgrade: null });

/** How many of the expected answers are there, and where they end. */
function readAll(line: Line, expectation: Expectation) {
  const answers: Extract<AnswerRead, { kind: "answer" }>[] = [];
  let at = 0;
  for (const message of expectation.messages) {
    const read = readAnswer(line.text, at, asked(message));
    if (read.kind === "malformed") return { answers, at, malformed: true };
    if (read.kind === "more") break;
    answers.push(read);
    at = read.answer.end;
  }
  return { answers, at, malformed: false };
}

/** A request that nobody mutated, marked, and its answer. */
async function follow(
  line: Line,
  host: string,
  index: number,
  sum: SocketSum,
): Promise<string | null> {
  const at = line.text.length;
  const target = `/after-${index}`;
  line.write(Buffer.from(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
  const read = () => readAnswer(line.text, at, { method: "GET", upgrade: null });
  const isThere = await line.until(() => read().kind === "answer");
  const got = read();
  if (!isThere) return "the marked request was never answered";
  if (got.kind !== "answer")
    return `the marked request: closed, with ${JSON.stringify(line.text.slice(at, at + 300))}`;
  const seen = valuesOf(got.answer.fields, "x-seen")[0] ?? "";
  const told = Buffer.from(seen, "base64url").toString();
  if (!told.includes(`${target}"`)) return `the marked request got another's answer: ${told}`;
  sum.followed += 1;
  return null;
}

/** A refusal, perhaps after "100 Continue". */
const refusal = /^(?:HTTP\/1\.1 100 [^\r]*\r\n\r\n)?HTTP\/1\.1 [45]\d\d /;

/** The last thing said to a client whose bytes ended badly. */
function tailFault(line: Line, expectation: Expectation, at: number): string | null {
  const { tail } = expectation;
  const rest = line.text.slice(at);
  if (tail.kind === "badHead" || tail.kind === "badBody") {
    const status = tail.kind === "badHead" ? tail.status : 400;
    // A back end may have refused half a body by itself.
    const half = tail.kind === "badBody" ? tail.request : undefined;
    const isBehind = half !== undefined && refusal.test(rest);
    if (answeredEarly(half)) return rest.split("X-Seen:").length > 2 ? "two answers" : null;
    if (!rest.startsWith(`HTTP/1.1 ${status} `) && !isBehind)
      return `refused with ${JSON.stringify(rest.slice(0, 200))}, not ${status}`;
    return rest.split("\r\nX-Seen:").length > 1 ? "a request was smuggled" : null;
  }
  const isInterim = /^(?:HTTP\/1\.1 1\d\d [^\r]*\r\n(?:[^\r]+\r\n)*\r\n)*$/.test(rest);
  const half = tail.kind === "halfBody" ? tail.request : undefined;
  const isRefusedHalf = half !== undefined && refusal.test(rest);
  const isEarly = answeredEarly(half) && rest.split("X-Seen:").length === 2;
  if (isInterim || isRefusedHalf || isEarly) return null;
  return `more than was asked for: ${JSON.stringify(rest.slice(0, 300))}`;
}

/** `Bun.serve` does not wait for the last two bytes of chunks, nor for a body it never shows. */
const answeredEarly = (request: Request | undefined): boolean =>
  request !== undefined &&
  (request.framing === "chunked" ||
    (request.framing === "length" && bodyHidden.test(request.method)));

export class SocketFuzz {
  readonly sum = emptySocketSum();
  private readonly port: number;
  private readonly host: string;
  private readonly corpus: readonly Seed[];
  private readonly seed: number;
  private readonly answerMsMax: number;

  constructor(
    port: number,
    host: string,
    corpus: readonly Seed[],
    seed: number,
    answerMsMax: number = answerMsMaxUsual,
  ) {
    this.answerMsMax = answerMsMax;
    this.port = port;
    this.host = host;
    this.corpus = corpus;
    this.seed = seed;
  }

  /** Cases [0, count), several at a time. */
  async run(count: number, onProgress: (cases: number) => void): Promise<void> {
    let next = 0;
    const findingsMax = 20;
    const clients = Array.from({ length: 16 }, async () => {
      while (next < count && this.sum.findings.length < findingsMax) {
        next += 1;
        await this.runCase(next - 1);
        if (this.sum.cases % 1000 === 0) onProgress(this.sum.cases);
      }
    });
    await Promise.all(clients);
  }

  async runCase(index: number): Promise<void> {
    const dice = Dice.of(this.seed, index);
    await this.runStream(withHost(mutatedStream(dice, this.corpus), this.host), dice, index);
  }

  async runStream(sent: string, dice: Dice, index: number): Promise<void> {
    const line = await Line.open(this.port, this.answerMsMax);
    const faults: string[] = [];
    try {
      const bytes = Buffer.from(sent, "latin1");
      const pieces = cutAnywhere(bytes, dice);
      for (const piece of pieces.length > piecesMax ? [bytes] : pieces) {
        line.write(piece);
        // Now and then the gateway gets its pieces one by one.
        if (dice.once(3)) await new Promise((settle) => setImmediate(settle));
      }
      const fault = await this.judge(line, sent, index);
      if (fault !== null) faults.push(fault);
    } finally {
      line.close();
    }
    this.sum.cases += 1;
    if (faults.length > 0) this.sum.findings.push({ index, sent, faults });
  }

  private async judge(line: Line, sent: string, index: number): Promise<string | null> {
    const { sum } = this;
    const expectation = expectationOf(
      sent,
      (host) => host === this.host,
      () => undefined,
    );
    const { messages, tail } = expectation;
    const isBad = tail.kind === "badHead" || tail.kind === "badBody";
    const isEnough = () => readAll(line, expectation).answers.length === messages.length;
    const ended = isBad || tail.kind === "closed";
    const came = await line.until(() => isEnough() && !ended);
    const { answers, at, malformed } = readAll(line, expectation);
    if (malformed) return `a malformed answer: ${JSON.stringify(line.text.slice(at, at + 300))}`;
    for (const [number, read] of answers.entries()) {
      const fault = judgeAnswer(messages[number] as Expected, read, sum);
      if (fault !== null) return `request ${number}: ${fault}`;
    }
    if (!came) {
      const rest = JSON.stringify(line.text.slice(at, at + 300));
      return `it hangs: ${answers.length} of ${messages.length} answers, ${tail.kind}, ${rest}`;
    }
    // A back end that refused a request with a body may have had the connection closed.
    const last = answers.at(-1)?.answer;
    // … and an HTTP/1.0 client's, after an answer whose length that does not know.
    const isOld = messages[answers.length - 1]?.request.minorVersion === 0;
    const isHasty = answeredEarly(messages[answers.length - 1]?.request);
    const gaveUp = line.closed && last !== undefined && (last.status >= 400 || isOld || isHasty);
    if (answers.length < messages.length) return gaveUp ? null : "closed before all was answered";
    if (gaveUp && at === line.text.length) return null;
    if (isBad) sum.refused += 1;
    const fault = tailFault(line, expectation, at);
    // After these the connection may end, once its answer is there.
    const isEnding = isOld || isHasty || (last !== undefined && last.status >= 400);
    if (fault !== null || tail.kind !== "open" || isEnding) return fault;
    return await follow(line, this.host, index, sum);
  }
}
