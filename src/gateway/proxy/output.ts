import type { ByteSocket } from "../sockets/sockets.ts";

/** The client's address; IPv4 as such, also where it came through an IPv6 socket. */
export function addressOf(socket: ByteSocket): string {
  const address = socket.remoteAddress ?? "unknown";
  return address.startsWith("::ffff:") ? address.slice(7) : address;
}

/** What is small is copied together, so that one system call sends it. */
const copyBytesMax = 16_384;

interface Pending {
  readonly buffer: Buffer;
  start: number;
  readonly end: number;
}

/**
 * The writing side of a socket. What the kernel does not take waits here, in order; whoever
 * writes stops reading its source while `write` says false, so no more than a read waits.
 */
export class Output {
  private readonly socket: ByteSocket;
  private pending: Pending[] | null = null;
  private ending = false;

  constructor(socket: ByteSocket) {
    this.socket = socket;
  }

  get empty(): boolean {
    return this.pending === null;
  }

  /** True: all went out; false: wait for `flush`. */
  write(buffer: Buffer, start: number, end: number): boolean {
    if (this.pending !== null) {
      this.pending.push(keep(buffer, start, end));
      return false;
    }
    const written = this.socket.write(buffer, start, end - start);
    // A closed socket takes nothing; its close event tells the rest.
    if (written < 0 || written === end - start) return true;
    this.pending = [keep(buffer, start + written, end)];
    return false;
  }

  /** Writes `head` and a range of `body` as one if they are small. */
  writeBoth(head: Buffer, body: Buffer, start: number, end: number): boolean {
    const length = head.length + end - start;
    if (length > copyBytesMax) {
      this.write(head, 0, head.length);
      return this.write(body, start, end);
    }
    const both = Buffer.allocUnsafe(length);
    head.copy(both, 0);
    body.copy(both, head.length, start, end);
    return this.write(both, 0, length);
  }

  /** On the socket's drain event. True: nothing waits any more. */
  flush(): boolean {
    const { pending } = this;
    if (pending === null) return true;
    for (let first = pending[0]; first !== undefined; first = pending[0]) {
      const length = first.end - first.start;
      const written = this.socket.write(first.buffer, first.start, length);
      if (written < 0) break;
      first.start += written;
      if (written < length) return false;
      pending.shift();
    }
    this.pending = null;
    if (this.ending) this.socket.shutdown();
    return true;
  }

  /** Sends FIN after what waits. */
  end(): void {
    this.ending = true;
    if (this.pending === null) this.socket.shutdown();
  }
}

/** What was read lies where the next read will. */
function keep(buffer: Buffer, start: number, end: number): Pending {
  return { buffer: Buffer.from(buffer.subarray(start, end)), start: 0, end: end - start };
}
