// One case of HTTP/2: a mutated connection through the whole gateway, judged by the twin while it
// goes on, and by what the app saw in the end.

import { headers, preface, settings, windowUpdate } from "../../../src/gateway/testing/frames.ts";
import { piecesOf } from "../answers.ts";
import { answerWell, quote, type Received } from "../app.ts";
import type { Seed } from "../corpus.ts";
import { cutAnywhere, mutatedAnswer } from "../mutate.ts";
import { Dice } from "../random.ts";
import type { Sum } from "../requests.ts";
import type { Outcome, Watcher, World } from "../world.ts";
import { host, mutatedConnection } from "./mutate.ts";
import type { Forwarded } from "./request-twin.ts";
import { bytesOfScript, type Http2Seed } from "./script.ts";
import type { StreamTwin } from "./stream-twin.ts";
import { Http2Twin } from "./twin.ts";

/** What the gateway is sent at the end, so that nothing waits for a window. */
const wideBytes = 1_000_000;

class Client implements Watcher {
  readonly twin: Http2Twin;
  /** The stream of the request that must still be served behind all else; 0: it cannot be. */
  followed = 0;

  constructor(twin: Http2Twin) {
    this.twin = twin;
  }

  sent(text: string): void {
    this.twin.sent(text);
  }

  observe(chunk: Buffer | null): void {
    this.twin.observe(chunk);
  }

  atRest(): readonly Buffer[] {
    const { twin } = this;
    if (twin.failed !== null || !twin.atBoundary) return [];
    const frames: Buffer[] = [];
    const widen = (id: number, window: number) => {
      // Some of these the gateway takes for a flood.
      if (window >= wideBytes / 2 || twin.windowUpdatesLeft - frames.length < 2) return;
      frames.push(windowUpdate(id, wideBytes - window));
    };
    widen(0, twin.sendWindow);
    for (const { id, closed, sendWindow } of twin.streams.values()) {
      if (!closed) widen(id, sendWindow);
    }
    const next = twin.lastId + 2 - ((twin.lastId + 1) % 2);
    const isFull = twin.openCount >= twin.bounds.streamsMax;
    if (!twin.goesAway && !isFull && next < 2 ** 31) {
      this.followed = next;
      frames.push(headers(next, followUp));
      widen(next, twin.streamSendWindow);
    }
    return frames.length === 0 ? [] : [Buffer.concat(frames)];
  }

  atEnd(finished: boolean): void {
    if (this.twin.failed !== null || this.twin.atBoundary) this.twin.conclude(finished);
    this.twin.silent = true;
  }
}

const followUp: readonly (readonly [string, string])[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":authority", host],
  [":path", "/followed"],
];

const idOf = (received: Received): number => {
  const id = received.request.fields.findLast(([name]) => name === "X-Request-Id")?.[1] ?? "";
  return Number.parseInt(id.split("-").at(-1) ?? "", 36);
};

/** Runs cases one after the other through one gateway. */
export class Http2Fuzz {
  private readonly world: World;
  private readonly corpus: readonly Http2Seed[];
  private readonly answers: readonly Seed[];
  /** The number in the last id that the gateway gave to a request. */
  private lastId = 0;

  constructor(world: World, corpus: readonly Http2Seed[], answers: readonly Seed[]) {
    this.world = world;
    this.corpus = corpus;
    this.answers = answers;
    this.findCount();
  }

  /** Case `index` of the run with this seed. */
  run(seed: number, index: number, sum: Sum): void {
    const dice = Dice.of(seed, index);
    // The seeds themselves come first.
    const own = this.corpus[index];
    const bytes = own ? bytesOfScript(own.script, dice) : mutatedConnection(dice, this.corpus);
    this.runBytes(bytes, dice, index, sum);
  }

  runBytes(bytes: Buffer, dice: Dice, index: number, sum: Sum): void {
    const twin = new Http2Twin(this.world.front.http2);
    const early = dice.once(10);
    const rude = dice.once(10);
    twin.appIsRude = early || rude;
    const outcome = this.world.run({
      ...{ dice, chunks: cutAnywhere(bytes, dice), early, silent: dice.once(16) },
      answer: (request, own) => {
        if (!rude || own.once(2)) return answerWell(request, own);
        const text = mutatedAnswer(own, this.answers).replaceAll("{host}", host);
        return { pieces: piecesOf({ text, fin: true }, request), body: null };
      },
      watcher: new Client(twin),
    });
    const faults = [...twin.faults, ...outcome.problems, ...this.appFaults(twin, outcome)];
    this.lastId += twin.begun;
    sum.cases += 1;
    // Those that the gateway got to; more went with connections that had ended.
    sum.requests += twin.begun + twin.refusedIds.size;
    const forwarded = outcome.lines.reduce((count, line) => count + line.received.length, 0);
    sum.forwarded += forwarded;
    if (forwarded === 0) sum.stopped += 1;
    if (twin.failed !== null) sum.refused += 1;
    if (faults.length === 0) return;
    sum.findings.push({ index, sent: bytes.toString("hex"), faults });
    this.findCount();
  }

  /** What the app saw, against what went to it; and the answers, against what it said. */
  private appFaults(twin: Http2Twin, outcome: Outcome): string[] {
    const faults: string[] = [];
    const streams = new Map([...twin.streams.values()].map((stream) => [stream.order, stream]));
    const seen = new Map<StreamTwin, Received>();
    for (const received of outcome.lines.flatMap((line) => line.received)) {
      const stream = streams.get(idOf(received) - this.lastId - 1);
      const fault = stream === undefined ? "it was never sent" : receivedFault(stream, received);
      if (fault !== null) faults.push(`${received.request.target} at the app: ${fault}`);
      if (stream === undefined) continue;
      // An idempotent one is sent again where the app ended an idle connection.
      if (seen.has(stream) && !twin.appIsRude)
        faults.push(`stream ${stream.id} came to the app twice`);
      seen.set(stream, received);
    }
    for (const stream of streams.values()) {
      const fault = answerFault(stream, seen.get(stream), twin.appIsRude);
      if (fault !== null) faults.push(`stream ${stream.id}: ${fault}`);
    }
    return faults;
  }

  /** A request that is right, alone: it tells what number the gateway is at. */
  private findCount(): void {
    const outcome = this.world.run({
      ...{ dice: new Dice(1), early: false, silent: false, answer: answerWell },
      chunks: [Buffer.concat([preface, settings(), headers(1, followUp)])],
      watcher: new Client(new Http2Twin(this.world.front.http2)),
    });
    const ids = outcome.lines.flatMap(({ received }) => received).map(idOf);
    this.lastId = Math.max(...ids);
  }
}

/** Null: the app saw what the client sent, and might see it. */
function receivedFault(stream: StreamTwin, received: Received): string | null {
  const { verdict } = stream;
  if (verdict.kind !== "forward") return `it had to be refused: ${verdict.kind}`;
  const { request, body, trailers } = received;
  const sent = stream.body.join("");
  if (request.method !== verdict.method) return `method ${request.method}`;
  if (request.target !== verdict.target) return `target ${request.target}`;
  if (trailers.length > 0) return `trailers ${JSON.stringify(trailers)}`;
  const fault = fieldsFault(verdict, request.fields);
  if (fault !== null) return fault;
  if (verdict.upgrade) return body === "" ? null : "a body before the tunnel";
  if (verdict.length >= 0) {
    if (body.length !== verdict.length || !sent.startsWith(body)) return `body ${quote(body)}`;
    return null;
  }
  if (!stream.ended) return "it saw an end that the client never sent";
  return body === sent ? null : `body ${quote(body)}, not ${quote(sent)}`;
}

const added = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"];
const forUpgrade = ["Connection", "Upgrade", "Sec-WebSocket-Key"];

function fieldsFault(
  verdict: Forwarded,
  seen: readonly (readonly [string, string, string])[],
): string | null {
  const { fields } = verdict;
  const differs = fields.some(([name, value], at) => {
    return seen[at]?.[2] !== name || seen[at]?.[1] !== value;
  });
  if (differs) return `fields ${JSON.stringify(seen)}, not ${JSON.stringify(fields)}`;
  const names = seen.slice(fields.length).map(([name]) => name);
  const wanted = [...added, ...(verdict.upgrade ? forUpgrade : [])];
  if (verdict.acceptsTrailers) wanted.push("TE");
  return names.join() === wanted.join() ? null : `added ${names.join()}, not ${wanted.join()}`;
}

function answerFault(
  stream: StreamTwin,
  received: Received | undefined,
  isRude: boolean,
): string | null {
  const { verdict, answeredAt, status } = stream;
  if (answeredAt === 0 || verdict.kind !== "forward" || isRude) return null;
  if (received === undefined) return status === 408 ? null : `status ${status} by nobody`;
  const { answered } = received;
  if (answered === null || verdict.method === "HEAD" || received.switched) return null;
  const body = stream.answer.join("");
  return body === answered ? null : `another's: ${quote(body)}, not ${quote(answered)}`;
}
