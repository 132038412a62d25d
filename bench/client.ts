import { dlopen, FFIType, ptr } from "bun:ffi";

export interface Target {
  readonly port: number;
  readonly host: string;
  readonly path?: string;
}

/** An answer with status 200. */
export interface Answer {
  /** When its first byte came, by performance.now(). */
  readonly firstByteAtMs: number;
  readonly body: string;
}

/** <sys/socket.h>, <netinet/tcp.h>, <asm-generic/errno.h> */
const internet = 2;
const stream = 1;
const closedOnExec = 0x80000;
const socketLevel = 1;
const receiveTimeout = 20;
const noSignal = 0x4000;

const libc = dlopen("libc.so.6", {
  close: { args: ["i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  recv: { args: ["i32", "ptr", FFIType.u64_fast, "i32"], returns: FFIType.i64_fast },
  send: { args: ["i32", "ptr", FFIType.u64_fast, "i32"], returns: FFIType.i64_fast },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
}).symbols;

const patienceMs = 30_000;
const received = Buffer.from(new ArrayBuffer(64 << 10));

/**
 * Asks over a connection of its own, and waits in the kernel: a runtime's event loop and its
 * threads would be measured as well. While nothing listens it connects again at once.
 *
 * @throws when the answer has another status, or none comes within 30 s.
 */
export async function answerOf(target: Target): Promise<Answer> {
  const deadlineMs = performance.now() + patienceMs;
  for (;;) {
    const answer = tryOnce(target);
    if (answer !== null) return answer;
    if (performance.now() > deadlineMs) throw new Error(`${target.host} did not listen in time`);
    await new Promise((done) => setImmediate(done));
  }
}

/** Milliseconds from `sinceMs` (performance.now) to the first byte of an answer. */
export async function firstByteMs(target: Target, sinceMs: number): Promise<number> {
  return (await answerOf(target)).firstByteAtMs - sinceMs;
}

/** Null: refused. Docker's proxy accepts for a container that does not listen yet, and resets. */
function tryOnce({ host, port, path = "/" }: Target): Answer | null {
  const descriptor = libc.socket(internet, stream | closedOnExec, 0);
  if (descriptor < 0) throw new Error("no socket could be made");
  try {
    const timeout = new BigInt64Array([BigInt(patienceMs / 1000), 0n]);
    libc.setsockopt(descriptor, socketLevel, receiveTimeout, ptr(timeout), timeout.byteLength);
    const address = loopbackAddress(port);
    if (libc.connect(descriptor, ptr(address), address.length) !== 0) return null;
    const request = Buffer.from(
      `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
      "latin1",
    );
    if (libc.send(descriptor, ptr(request), request.length, noSignal) < 0) return null;
    const length = receive(descriptor, 0);
    const firstByteAtMs = performance.now();
    return length <= 0 ? null : { firstByteAtMs, body: restOf(descriptor, length, host) };
  } finally {
    libc.close(descriptor);
  }
}

/** `struct sockaddr_in` */
function loopbackAddress(port: number): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(internet, 0);
  address.writeUInt16BE(port, 2);
  address.set([127, 0, 0, 1], 4);
  return address;
}

function receive(descriptor: number, offset: number): number {
  const free = received.subarray(offset);
  return Number(libc.recv(descriptor, ptr(free), free.length, 0));
}

/** The body of an answer of which `length` bytes are here; the connection ends with it. */
function restOf(descriptor: number, length: number, host: string): string {
  let end = length;
  for (let more = 1; more > 0 && end < received.length; end += more) {
    more = Math.max(0, receive(descriptor, end));
  }
  const text = received.toString("latin1", 0, end);
  const [line = ""] = text.split("\r\n", 1);
  if (line.split(" ")[1] !== "200") throw new Error(`${host} answered: ${line}`);
  return text.slice(text.indexOf("\r\n\r\n") + 4);
}
