import { drainMicrotasks } from "bun:jsc";
import { type Answerer, AppConnection } from "./app.ts";
import type { Dialled, Front } from "./memory-gateway.ts";
import { forApp, forClient, forHttp2Client, type Handlers, MemorySocket } from "./memory-socket.ts";
import type { Dice } from "./random.ts";

/** The gateway's connections to the app outlive a case, as they do in life. */
interface Line {
  readonly app: AppConnection;
  readonly socket: MemorySocket;
  readonly handlers: Handlers;
  opened: boolean;
  /** The app has said FIN. */
  ended: boolean;
}

/** Sees a connection of HTTP/2 while it goes on. */
export interface Watcher {
  sent(text: string): void;
  /** What was sent up to now is all that came of this read; null: of none. */
  observe(chunk: Buffer | null): void;
  /** When all is at rest: what more the client sends. */
  atRest(): readonly Buffer[];
  /** When all is at rest again, and the client leaves. @param finished the gateway said FIN. */
  atEnd(finished: boolean): void;
}

export interface CaseOptions {
  readonly dice: Dice;
  /** What the client sends, cut as it arrives. */
  readonly chunks: readonly Buffer[];
  readonly answer: Answerer;
  /** The app may answer before it has read the body. */
  readonly early: boolean;
  /** At the end the client goes silent instead of saying goodbye. */
  readonly silent: boolean;
  /** Null: the client speaks HTTP/1. */
  readonly watcher: Watcher | null;
}

/** What became of one case. */
export interface Outcome {
  /** All that the client was sent. */
  readonly text: string;
  /** What the client was sent until it said goodbye, or its time was over. */
  readonly textBefore: string;
  /** The gateway had ended the connection by then: with FIN, or abruptly. */
  readonly closedBefore: boolean;
  readonly cut: boolean;
  readonly lines: readonly AppConnection[];
  readonly problems: readonly string[];
}

const stepsMax = 200_000;
/** What one read brings at most, so that something large takes many. */
export const pieceBytesMax = 4096;

/**
 * Clients, gateway and app on one thread: at each step the dice choose one of the things that
 * could happen next, and nothing else happens.
 */
export class World {
  readonly front: Front;
  private lines: Line[] = [];
  private problems: string[] = [];
  private options: CaseOptions | null = null;
  /** The last read, where all that came of it could not be sent yet. */
  private unobserved: Buffer | null = null;

  constructor(front: Front) {
    this.front = front;
    front.onDial((dialled) => this.dialled(dialled));
  }

  /** Connections to the app that are open. */
  get lineCount(): number {
    return this.lines.length;
  }

  run(options: CaseOptions): Outcome {
    this.options = options;
    this.problems = [];
    for (const line of this.lines) {
      line.socket.dice = options.dice;
      line.app.renew(options.dice, options.answer);
    }
    const { watcher } = options;
    let text = "";
    const patience = watcher === null ? forClient : forHttp2Client;
    const client = new MemorySocket(options.dice, patience, (bytes) => {
      text += bytes;
      watcher?.sent(bytes);
    });
    if (watcher === null) this.front.open(client);
    else this.front.openHttp2(client);
    let used = this.settle(client, [...options.chunks]);
    if (watcher !== null) {
      const more = this.settle(client, [...watcher.atRest()]);
      used = [...new Set([...used, ...more])];
      watcher.atEnd(client.finished);
    }
    const textBefore = text;
    const closedBefore = client.dead;
    const cut = client.terminated && !client.finished;
    this.leave(client, options.silent, used);
    const problems = [...this.problems, ...this.front.problems.splice(0)];
    return { text, textBefore, closedBefore, cut, lines: used, problems };
  }

  /** Every connection ends, and the gateway stops. */
  async stop(): Promise<void> {
    // Beyond every deadline.
    this.front.advance(10_000_000);
    this.sweepDead();
    await this.front.stop();
  }

  private dialled({ handlers, owner }: Dialled): void {
    const options = this.options as CaseOptions;
    const report = (problem: string) => void this.problems.push(problem);
    const app = new AppConnection(
      options.answer,
      () => this.options?.early === true,
      options.dice,
      report,
    );
    const socket = new MemorySocket(options.dice, forApp, (text) => app.take(text));
    socket.data = owner;
    this.lines.push({ app, socket, handlers, opened: false, ended: false });
  }

  /** Lets things happen until nothing can; returns the connections that took part. */
  private settle(client: MemorySocket, chunks: Buffer[]): AppConnection[] {
    const used = new Set<AppConnection>();
    const { dice } = this.options as CaseOptions;
    const actions: (() => void)[] = [];
    for (let step = 0; ; step += 1) {
      // What follows at once from what happened last, happens first.
      drainMicrotasks();
      actions.length = 0;
      if (this.front.deferred.length > 0) actions.push(() => this.endTurn());
      if (chunks.length > 0 && !client.paused && !client.terminated) {
        actions.push(() => this.deliver(client, chunks));
      }
      if (client.blocked && !client.dead) actions.push(() => this.drain(client, this.front));
      const [question] = this.front.questions;
      if (question !== undefined) {
        actions.push(() => {
          this.front.questions.shift();
          question();
        });
      }
      for (const line of this.lines) {
        const before = actions.length;
        this.offer(line, client, actions);
        if (actions.length > before || line.app.received.length > 0) used.add(line.app);
      }
      const action = actions.length === 1 ? actions[0] : actions[dice.below(actions.length)];
      if (action === undefined) break;
      action();
      this.sweepDead();
      if (step === stepsMax) {
        this.problems.push("it never comes to rest");
        break;
      }
    }
    this.observe();
    return [...used];
  }

  private offer(line: Line, client: MemorySocket, actions: (() => void)[]): void {
    const { socket, handlers, app } = line;
    if (!line.opened) {
      actions.push(() => {
        line.opened = true;
        handlers.open(socket);
      });
      return;
    }
    if (socket.blocked) actions.push(() => this.drain(socket, handlers));
    const [piece] = app.pieces;
    if (piece === undefined || socket.paused) return;
    actions.push(() => {
      if (client.blocked) client.deliveriesWhileBlocked += 1;
      if (client.overrun) this.problems.push("reads on from the app while its client is stuck");
      if ("fin" in piece) {
        app.pieces.shift();
        line.ended = true;
        handlers.end(socket);
        return;
      }
      const { dice } = this.options as CaseOptions;
      const most = Math.min(piece.bytes.length, pieceBytesMax);
      const cut = dice.once(2) ? most : 1 + dice.below(most);
      const isWhole = piece.whole === true || cut === piece.bytes.length;
      const bytes = isWhole ? piece.bytes : piece.bytes.slice(0, cut);
      if (isWhole) app.pieces.shift();
      else app.pieces[0] = { bytes: piece.bytes.slice(cut) };
      handlers.data(socket, Buffer.from(bytes, "latin1"));
    });
  }

  private deliver(client: MemorySocket, chunks: Buffer[]): void {
    if (this.options?.watcher != null) return this.deliverWatched(client, chunks);
    for (const { socket } of this.lines) {
      if (!socket.blocked) continue;
      socket.deliveriesWhileBlocked += 1;
      if (socket.overrun) this.problems.push("reads on from the client while the app is stuck");
    }
    this.front.data(client, chunks.shift() as Buffer);
  }

  /** A socket is read at most once in a turn: what came of the read before is on its way. */
  private deliverWatched(client: MemorySocket, chunks: Buffer[]): void {
    this.endTurn();
    if (client.paused || client.terminated) return;
    this.observe();
    const chunk = chunks.shift() as Buffer;
    // Nothing is read any more of who was told that the connection is over.
    this.unobserved = client.finished ? null : chunk;
    this.front.data(client, chunk);
    this.endTurn();
    if (!client.blocked) this.observe();
  }

  private observe(): void {
    const { unobserved } = this;
    this.unobserved = null;
    this.options?.watcher?.observe(unobserved);
  }

  private endTurn(): void {
    for (const action of this.front.deferred.splice(0)) action();
  }

  private drain(socket: MemorySocket, handlers: { drain(socket: MemorySocket): void }): void {
    socket.unblock();
    handlers.drain(socket);
  }

  /** What the gateway closed is gone for good; what both sides ended, too. */
  private sweepDead(): void {
    let dead = 0;
    for (const { socket, ended } of this.lines)
      if (socket.terminated || (ended && socket.finished)) dead += 1;
    if (dead === 0) return;
    this.lines = this.lines.filter((line) => {
      const { socket, handlers, ended } = line;
      if (!socket.terminated && !(ended && socket.finished)) return true;
      handlers.close(socket);
      return false;
    });
  }

  /** The client's end: nothing of it may be left in the gateway. */
  private leave(client: MemorySocket, silent: boolean, used: AppConnection[]): void {
    if (silent) {
      // The deadlines of what is under way, of the connection itself, of a tunnel; of a stream
      // that is not read, and again of its connection.
      for (const durationMs of [70_000, 70_000, 4_000_000, 70_000, 70_000]) {
        if (!client.dead) this.front.advance(durationMs);
        for (const app of this.settle(client, [])) if (!used.includes(app)) used.push(app);
      }
      if (!client.dead) this.problems.push("a silent client's connection never ends");
    } else if (!client.terminated) this.front.end(client);
    client.terminated = true;
    this.front.close(client);
    this.settle(client, []);
    this.sweepDead();
    if (this.front.connectionCount !== 0) this.problems.push("a connection is still counted");
  }
}
