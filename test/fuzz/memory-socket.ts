import type { Dice } from "./random.ts";

/** What a connection is told. */
export interface Handlers {
  open(socket: MemorySocket): void;
  data(socket: MemorySocket, chunk: Buffer): void;
  drain(socket: MemorySocket): void;
  end(socket: MemorySocket): void;
  close(socket: MemorySocket): void;
}

/** Bytes that the gateway may read for a side that takes none: what is under way, and heads. */
export interface Patience {
  readonly deliveriesMax: number;
}

/** For an app that takes nothing: one read is under way. */
export const forApp: Patience = { deliveriesMax: 2 };
/** For a client that takes nothing: interim answers are not held back, but they are numbered. */
export const forClient: Patience = { deliveriesMax: 40 };
/** The same where a connection has many streams, each with a read of its own under way. */
export const forHttp2Client: Patience = { deliveriesMax: 400 };

/**
 * One side of a connection, in memory: it takes all, some or none of what is written, as a
 * kernel does, and remembers what became of it.
 */
export class MemorySocket {
  readonly remoteAddress = "127.0.0.1";
  readonly alpnProtocol = "h2";
  data: unknown = undefined;
  paused = false;
  /** Bytes were left over: a drain event is due. */
  blocked = false;
  /** FIN was sent. */
  finished = false;
  terminated = false;
  /** Deliveries to the other side since this one blocked. */
  deliveriesWhileBlocked = 0;
  dice: Dice;
  private readonly patience: Patience;
  private readonly take: (text: string) => void;

  constructor(dice: Dice, patience: Patience, take: (text: string) => void) {
    this.dice = dice;
    this.patience = patience;
    this.take = take;
  }

  get dead(): boolean {
    return this.terminated || this.finished;
  }

  /** Bytes pile up in the gateway, because it reads on while nobody takes what it writes. */
  get overrun(): boolean {
    return this.deliveriesWhileBlocked > this.patience.deliveriesMax;
  }

  write(buffer: Buffer | string, offset = 0, length = buffer.length): number {
    if (this.dead) return -1;
    if (this.blocked) return 0;
    let taken = length;
    if (length > 0 && this.dice.once(16)) {
      taken = this.dice.below(length);
      this.blocked = true;
    }
    const text =
      typeof buffer === "string"
        ? buffer.slice(offset, offset + taken)
        : buffer.toString("latin1", offset, offset + taken);
    if (text !== "") this.take(text);
    return taken;
  }

  getServername(): string {
    return "app.test";
  }

  unblock(): void {
    this.blocked = false;
    this.deliveriesWhileBlocked = 0;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  shutdown(): void {
    this.finished = true;
  }

  end(): void {
    this.finished = true;
    this.terminated = true;
  }

  terminate(): void {
    this.terminated = true;
  }
}
