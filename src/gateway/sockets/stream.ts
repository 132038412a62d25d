import { epollEvent, type SocketLoop, type Watcher } from "./loop.ts";
import type { ConnectHandlers, OwnedSocket, SocketHandlers } from "./sockets.ts";
import { addressOf, calls, errno, errorName, errorNumber, FixedBytes } from "./system-calls.ts";

/** <sys/socket.h>, <netinet/tcp.h> */
const option = { socket: 1, error: 4, linger: 13, tcp: 6, noDelay: 1 } as const;
const shutWriting = 1;
const noSignal = 0x4000;

const always = epollEvent.in | epollEvent.peerHangup | epollEvent.edge;
const gone = epollEvent.error | epollEvent.hangup;

/** One socket must not keep the others waiting: after so many reads in a row they get a turn. */
const readsPerTurn = 8;
/** What is smaller is copied to where the kernel may read, because it may lie where it moves. */
const copyBytesMax = 4096;

const outgoing = new FixedBytes(copyBytesMax);
const words = new FixedBytes(8);

/**
 * A connected stream socket, or one that is about to be:
 *
 *   connecting ─→ open ─────────→ closed
 *        └──────(refused)──────────┘
 *
 * While it is open, its reading side goes reading ⇄ paused ─→ ended (FIN), and its writing side
 * free ⇄ blocked (the kernel takes no more) ─→ finished (FIN); with both sides at their end it is
 * closed. Events come by edge: what is known to be
 * there but was not read yet is `readable`.
 */
export class StreamSocket<Owner> implements OwnedSocket<Owner>, Watcher {
  data: Owner;
  remoteAddress: string | undefined = undefined;
  private readonly loop: SocketLoop;
  private readonly descriptor: number;
  private readonly handlers: SocketHandlers<OwnedSocket<Owner>>;
  /** Null once it is connected. */
  private connecting: ConnectHandlers<Owner> | null;
  private paused = false;
  private readable = false;
  /** FIN or a reset is known to have come, though perhaps not to have been read. */
  private peerLeft = false;
  private ended = false;
  private blocked = false;
  /** FIN was sent. */
  private finished = false;
  private closed = false;

  /** @param connecting tells how it went; null: it is connected. */
  constructor(
    loop: SocketLoop,
    descriptor: number,
    handlers: SocketHandlers<OwnedSocket<Owner>>,
    connecting: ConnectHandlers<Owner> | null,
    owner: Owner,
  ) {
    this.loop = loop;
    this.descriptor = descriptor;
    this.handlers = handlers;
    this.connecting = connecting;
    this.data = owner;
    const events = connecting === null ? always : always | epollEvent.out;
    loop.watch(descriptor, events, this);
  }

  // ——— from the loop

  ready(events: number): void {
    if (this.closed) return;
    if (this.connecting !== null) {
      if ((events & (epollEvent.out | gone)) !== 0) this.finishConnecting(this.connecting);
      if (this.closed || this.connecting !== null) return;
    }
    if ((events & (epollEvent.peerHangup | gone)) !== 0) this.peerLeft = true;
    if (this.blocked && (events & epollEvent.out) !== 0) {
      this.blocked = false;
      this.loop.modify(this.descriptor, always);
      this.handlers.drain(this);
    }
    if ((events & ~epollEvent.out) !== 0) {
      this.readable = true;
      this.read();
    }
    // Nobody will read this any more, or not now: a reset is told all the same.
    if ((events & epollEvent.error) !== 0) this.shut();
  }

  private finishConnecting(handlers: ConnectHandlers<Owner>): void {
    words.buffer.writeInt32LE(0, 0);
    words.buffer.writeInt32LE(4, 4);
    calls.getsockopt(
      this.descriptor,
      option.socket,
      option.error,
      words.address,
      words.address + 4,
    );
    const failure = words.buffer.readInt32LE(0);
    if (failure !== 0) {
      this.release();
      handlers.connectError(this.data, errorName(failure));
      return;
    }
    this.loop.modify(this.descriptor, always);
    this.opened();
  }

  /** The connection came about at once; its events may have told so by now. */
  opened(): void {
    if (this.closed || this.connecting === null) return;
    this.connecting = null;
    this.handlers.open(this);
  }

  private readonly read = (): void => {
    const { loop } = this;
    const { buffer, address } = loop.readBuffer;
    for (let reads = 0; reads < readsPerTurn; reads += 1) {
      if (this.closed || this.paused || this.ended || !this.readable) return;
      const count = calls.recv(this.descriptor, address, buffer.length, 0);
      if (count > 0) {
        // A read that is not full has emptied the socket, but for a FIN.
        if (count < buffer.length && !this.peerLeft) this.readable = false;
        this.handlers.data(this, buffer, 0, count);
        loop.scrub(count);
      } else {
        this.readable = false;
        if (count === 0) {
          this.ended = true;
          this.handlers.end(this);
          if (this.finished) this.shut();
        } else if (errorNumber() !== errno.again) this.shut();
      }
    }
    loop.defer(this.read);
  };

  // ——— for its owner

  write(data: Buffer, byteOffset: number, byteLength: number): number {
    if (this.closed) return -1;
    if (this.blocked) return 0;
    const { readBuffer } = this.loop;
    let address = outgoing.address;
    if (data === readBuffer.buffer) address = readBuffer.address + byteOffset;
    else if (byteLength > copyBytesMax) address = addressOf(data) + byteOffset;
    else data.copy(outgoing.buffer, 0, byteOffset, byteOffset + byteLength);
    const sent = calls.send(this.descriptor, address, byteLength, noSignal);
    if (sent === byteLength) return sent;
    if (sent < 0 && errorNumber() !== errno.again) {
      this.loop.defer(() => this.shut());
      return -1;
    }
    this.blocked = true;
    this.loop.modify(this.descriptor, always | epollEvent.out);
    return Math.max(0, sent);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    // Not at once: whoever calls may be in the middle of a read.
    if (this.readable) this.loop.defer(this.read);
  }

  shutdown(): void {
    if (this.closed || this.finished) return;
    this.finished = true;
    calls.shutdown(this.descriptor, shutWriting);
    if (this.ended) this.loop.defer(() => this.shut());
  }

  end(): void {
    this.shut();
  }

  terminate(): void {
    if (this.closed) return;
    // struct linger: on, no time
    words.buffer.writeInt32LE(1, 0);
    words.buffer.writeInt32LE(0, 4);
    calls.setsockopt(this.descriptor, option.socket, option.linger, words.address, 8);
    this.shut();
  }

  private shut(): void {
    if (this.closed) return;
    this.release();
    if (this.connecting === null) this.handlers.close(this);
  }

  private release(): void {
    this.closed = true;
    this.loop.forget(this.descriptor);
    calls.close(this.descriptor);
  }
}

/** Sends small writes at once (TCP_NODELAY). */
export function sendAtOnce(descriptor: number): void {
  words.buffer.writeInt32LE(1, 0);
  calls.setsockopt(descriptor, option.tcp, option.noDelay, words.address, 4);
}
