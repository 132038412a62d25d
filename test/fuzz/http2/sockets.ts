// Mutated connections of HTTP/2 over real sockets: through a gateway process to a real back end,
// which tells in each answer what it took the request for. Behind each connection's bytes a
// marked request must get its own answer on it, where it is still open.

import tls from "node:tls";
import { defaultGatewayLimits } from "../../../src/gateway/limits.ts";
import { frame, headers, windowUpdate } from "../../../src/gateway/testing/frames.ts";
import { cutAnywhere } from "../mutate.ts";
import { Dice } from "../random.ts";
import { emptySocketSum } from "../sockets.ts";
import { toldFault } from "../told.ts";
import { host, mutatedConnection } from "./mutate.ts";
import type { Http2Seed } from "./script.ts";
import type { StreamTwin } from "./stream-twin.ts";
import { Http2Twin } from "./twin.ts";

const bounds = defaultGatewayLimits.http2;
/** Nothing in a case takes a back end on this machine so long. */
const answerMsMax = 20_000;
const piecesMax = 30;
/** Proxies and kernels wait for one another now and then: others go on meanwhile. */
const clientsCount = 48;
const findingsMax = 20;
/** All that an echo answers, and pages. */
const answerBytesMax = 10_000;

/** A client's connection, and all that came on it. */
class Line {
  closed = false;
  text = "";
  private readonly socket: tls.TLSSocket;
  private wake: () => void = () => {};

  constructor(port: number) {
    this.socket = tls.connect({
      ...{ port, host: "127.0.0.1", servername: host, ALPNProtocols: ["h2"] },
      rejectUnauthorized: false,
    });
    this.socket.setNoDelay(true);
    this.socket.on("data", (bytes: Buffer) => {
      this.text += bytes.toString("latin1");
      this.wake();
    });
    this.socket.on("error", () => {});
    for (const event of ["end", "close"]) {
      this.socket.on(event, () => {
        this.closed = true;
        this.wake();
      });
    }
  }

  write(bytes: Buffer): void {
    if (!this.closed) this.socket.write(bytes);
  }

  close(): void {
    this.socket.destroy();
  }

  /** Waits for more, or the end. False: neither came in time. */
  async more(deadline: number): Promise<boolean> {
    const left = deadline - performance.now();
    if (left <= 0) return false;
    return await new Promise((settle) => {
      const timer = setTimeout(() => settle(false), left);
      this.wake = () => {
        clearTimeout(timer);
        settle(true);
      };
    });
  }
}

const marked = (target: string) =>
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":authority", host],
    [":path", target],
  ] as const;

const seenOf = (stream: StreamTwin) => stream.fields.find(([name]) => name === "x-seen")?.[1];

export class Http2SocketFuzz {
  readonly sum = emptySocketSum();
  private readonly port: number;
  private readonly corpus: readonly Http2Seed[];
  private readonly seed: number;

  constructor(tlsPort: number, corpus: readonly Http2Seed[], seed: number) {
    this.port = tlsPort;
    this.corpus = corpus;
    this.seed = seed;
  }

  /** Cases [0, count), several at a time. */
  async run(count: number, onProgress: (cases: number) => void): Promise<void> {
    let next = 0;
    const clients = Array.from({ length: clientsCount }, async () => {
      while (next < count && this.sum.findings.length < findingsMax) {
        next += 1;
        await this.runCase(next - 1);
        if (this.sum.cases % 1000 === 0) onProgress(this.sum.cases);
      }
    });
    await Promise.all(clients);
  }

  private async runCase(index: number): Promise<void> {
    const dice = Dice.of(this.seed, index);
    const bytes = mutatedConnection(dice, this.corpus);
    const line = new Line(this.port);
    const faults: string[] = [];
    try {
      const pieces = cutAnywhere(bytes, dice);
      for (const piece of pieces.length > piecesMax ? [bytes] : pieces) {
        line.write(piece);
        // Now and then the gateway gets its pieces one by one.
        if (dice.once(3)) await new Promise((settle) => setImmediate(settle));
      }
      faults.push(...(await this.judge(line, bytes, index)));
    } finally {
      line.close();
    }
    this.sum.cases += 1;
    if (faults.length > 0) this.sum.findings.push({ index, sent: bytes.toString("hex"), faults });
  }

  private async judge(line: Line, bytes: Buffer, index: number): Promise<string[]> {
    const before = new Http2Twin(bounds);
    before.receiveWindow = bounds.connectionWindowBytes;
    before.observe(bytes);
    const target = `/after-${index}`;
    const isOpen = before.failed === null && before.atBoundary && !before.goesAway;
    const last = before.lastId + 2 - ((before.lastId + 1) % 2);
    const follows = isOpen && last < 2 ** 31;
    const isNarrow = before.streamSendWindow < answerBytesMax;
    const request = [
      // Its answer tells that all was read.
      ...(isOpen ? [frame(6, 0, 0, Buffer.from("is it it"))] : []),
      ...(follows ? [headers(last, marked(target))] : []),
      ...(follows && isNarrow ? [windowUpdate(last, answerBytesMax)] : []),
    ];
    line.write(Buffer.concat(request));
    const sent = Buffer.concat([bytes, ...request]);
    const twin = await this.settle(line, sent);
    const faults = [...twin.faults];
    if (twin.failed !== null) this.sum.refused += 1;
    for (const stream of twin.streams.values()) {
      const fault = this.streamFault(stream, twin.failed !== null);
      if (fault !== null) faults.push(`stream ${stream.id}: ${fault}`);
    }
    const after = twin.streams.get(last);
    if (follows && twin.failed === null && after !== undefined) {
      const told = Buffer.from(seenOf(after) ?? "", "base64url").toString();
      if (told.includes(`${target}"`)) this.sum.followed += 1;
      else if (after.resetAt === 0) faults.push(`the marked request: ${after.status} ${told}`);
    }
    return faults;
  }

  /** Waits until all is answered that must be, or the connection has ended. */
  private async settle(line: Line, sent: Buffer): Promise<Http2Twin> {
    const deadline = performance.now() + answerMsMax;
    for (;;) {
      const twin = new Http2Twin(bounds);
      // The app may break off, and what came first is not known.
      twin.appIsRude = true;
      twin.sent(line.text);
      twin.observe(sent);
      const isOwed = twin.failed !== null || twin.pongs.length > 0 || twin.isWaiting;
      if (line.closed || twin.goaway > 0 || !isOwed) return twin;
      if (!(await line.more(deadline))) {
        twin.faults.push(`it hangs, failed ${twin.failed}`);
        return twin;
      }
    }
  }

  private streamFault(stream: StreamTwin, isOver: boolean): string | null {
    const { verdict, status, answeredAt } = stream;
    if (answeredAt === 0) return null;
    if (verdict.kind === "malformed") return "an answer to what is malformed";
    if (verdict.kind === "page") {
      this.sum.refused += 1;
      return status === verdict.status ? null : `status ${status}, not ${verdict.status}`;
    }
    const seen = seenOf(stream);
    if (seen !== undefined) {
      this.sum.answered += 1;
      const body = stream.body.join("");
      const whole = verdict.length >= 0 ? body.slice(0, verdict.length) : body;
      const isCut = !stream.ended || isOver;
      return isCut ? null : toldFault({ ...verdict, body: verdict.upgrade ? "" : whole }, seen);
    }
    if (status === 502) this.sum.broken += 1;
    else if (status >= 400 && status !== 504 && status !== 408) this.sum.refusedBehind += 1;
    else return `status ${status} without a word on what was seen`;
    return null;
  }
}
