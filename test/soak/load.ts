// What the gateways are put through: each kind of client is a loop of its own until the end.

import { readFileSync } from "node:fs";
import { connect } from "node:http2";
import { Connection } from "./connection.ts";

export interface Target {
  readonly httpPort: number;
  readonly httpsPort: number;
  /** Host of the app, without a port. */
  readonly host: string;
}

/** What was done and what went wrong, while it goes on. */
export class Tally {
  readonly done = new Map<string, number>();
  readonly faults = new Map<string, number>();
  stopped = false;
  /** What requests that come all the time wait in between, as a part of their usual pause. */
  pace = 1;

  count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }

  fault(what: string): void {
    this.faults.set(what, (this.faults.get(what) ?? 0) + 1);
  }
}

const get = (target: Target, path: string) =>
  `GET ${path} HTTP/1.1\r\nHost: ${target.host}\r\n\r\n`;

/** Repeats an action until the end; what it throws is a fault of that kind. */
async function repeat(tally: Tally, what: string, action: () => Promise<void>): Promise<void> {
  while (!tally.stopped) {
    try {
      await action();
      tally.count(what);
    } catch (error) {
      if (tally.stopped) return;
      tally.fault(`${what}: ${error instanceof Error ? error.message : error}`);
      await Bun.sleep(1000);
    }
  }
}

async function verify(connection: Connection, target: Target, id: string): Promise<void> {
  const answer = await connection.ask(get(target, `/?id=${id}`));
  if (answer.body !== `hello ${id}`)
    throw new Error(`${answer.status} ${answer.body.slice(0, 80)}`);
}

/** Connections that are open all the time and say something every `pauseMs` or so. */
export function keepOpen(
  target: Target,
  tally: Tally,
  options: { what: string; count: number; pauseMs: number; tls: boolean; isIdle?: boolean },
): Promise<void>[] {
  const { what, count, pauseMs, tls, isIdle } = options;
  return Array.from({ length: count }, async (_, index) => {
    // Not all at once: neither the accept queue nor the handshakes are what is measured.
    await Bun.sleep((index / count) * Math.min(pauseMs, 20_000));
    let connection: Connection | null = null;
    let round = 0;
    await repeat(tally, what, async () => {
      if (connection === null || connection.closed) {
        const port = tls ? target.httpsPort : target.httpPort;
        connection = await Connection.open(port, tls ? target.host : null);
        tally.count(`${what}: connected`);
      }
      round += 1;
      await verify(connection, target, `${what[0]}${index}-${round}`);
      await Bun.sleep(pauseMs * (isIdle === true ? 1 : tally.pace) * (0.9 + 0.2 * Math.random()));
    });
    (connection as Connection | null)?.close();
  });
}

/** Sends `request`, calls `each` for every piece of the answer, and waits for the end. */
function converse(
  target: Target,
  request: string,
  each: (socket: { terminate(): void; pause(): void; resume(): void }, bytes: Buffer) => void,
): Promise<void> {
  return new Promise((settle, fail) => {
    Bun.connect({
      hostname: "127.0.0.1",
      port: target.httpPort,
      socket: {
        open: (socket) => void socket.write(request),
        data: (socket, bytes) => each(socket, bytes),
        close: () => settle(),
      },
    }).catch(fail);
  });
}

/** Leaves an endless answer in the middle. */
export function abortAnswers(target: Target, tally: Tally, pauseMs: number): Promise<void> {
  return repeat(tally, "answers left in the middle", async () => {
    const wanted = Math.random() * 1_000_000;
    let seen = 0;
    await converse(target, get(target, "/stream?bytes=1000000000"), (socket, bytes) => {
      seen += bytes.length;
      if (seen > wanted) socket.terminate();
    });
    await Bun.sleep(pauseMs * tally.pace);
  });
}

/** Leaves its own upload in the middle. */
export function abortUploads(target: Target, tally: Tally, pauseMs: number): Promise<void> {
  const head = `POST /upload HTTP/1.1\r\nHost: ${target.host}\r\nContent-Length: 1000000\r\n\r\n`;
  return repeat(tally, "uploads left in the middle", async () => {
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: target.httpPort,
      socket: { data() {} },
    });
    socket.write(head + "x".repeat(50_000));
    await Bun.sleep(pauseMs * tally.pace);
    socket.terminate();
  });
}

/** Reads a large answer in sips, from `startMs` on. */
export async function readSlowly(
  target: Target,
  tally: Tally,
  bytes: number,
  startMs: number,
): Promise<void> {
  // Each one's start fills all buffers on the way: not all at once.
  await Bun.sleep(startMs);
  await repeat(tally, "answers read slowly", async () => {
    let seen = 0;
    const close = "Connection: close\r\n\r\n";
    const request = `GET /stream?bytes=${bytes} HTTP/1.1\r\nHost: ${target.host}\r\n${close}`;
    await converse(target, request, (socket, piece) => {
      seen += piece.length;
      socket.pause();
      setTimeout(() => (tally.stopped ? socket.terminate() : socket.resume()), 1500);
    });
    if (seen < bytes && !tally.stopped) throw new Error(`${seen} of ${bytes} bytes`);
  });
}

/** Sends a body of `pieces` kilobytes, ten a second. */
export function writeSlowly(target: Target, tally: Tally, pieces: number): Promise<void> {
  const head = `POST /upload HTTP/1.1\r\nHost: ${target.host}\r\nContent-Length: ${pieces * 1000}`;
  return repeat(tally, "uploads written slowly", async () => {
    let answer = "";
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: target.httpPort,
      socket: {
        data(_, bytes) {
          answer += bytes.toString("latin1");
        },
      },
    });
    socket.write(`${head}\r\n\r\n`);
    for (let piece = 0; piece < pieces && !tally.stopped; piece += 1) {
      socket.write("x".repeat(1000));
      await Bun.sleep(100);
    }
    for (let wait = 0; wait < 200 && !answer.endsWith(String(pieces * 1000)); wait += 1) {
      await Bun.sleep(50);
    }
    socket.terminate();
    if (!answer.endsWith(String(pieces * 1000))) throw new Error(`answered ${answer.slice(0, 40)}`);
  });
}

/** Streams of HTTP/2: most are whole, every tenth is cancelled in the middle. */
export async function streamHttp2(target: Target, tally: Tally, pauseMs: number): Promise<void> {
  const origin = `https://127.0.0.1:${target.httpsPort}`;
  const session = connect(origin, { servername: target.host, rejectUnauthorized: false });
  session.on("error", (error) => tally.fault(`HTTP/2 session: ${error.message}`));
  const ask = (path: string, cancelAfterBytes: number) =>
    new Promise<string>((settle, fail) => {
      const stream = session.request({ ":path": path, ":authority": target.host });
      let body = "";
      stream.on("data", (bytes: Buffer) => {
        body = (body + bytes.toString("latin1")).slice(-100);
        cancelAfterBytes -= bytes.length;
        if (cancelAfterBytes < 0) stream.close(8);
      });
      stream.on("close", () => settle(body));
      stream.on("error", (error) => (cancelAfterBytes < 0 ? settle(body) : fail(error)));
    });
  let round = 0;
  await repeat(tally, "HTTP/2 streams", async () => {
    round += 1;
    if (round % 10 === 0) {
      await ask("/stream?bytes=100000000", 200_000);
      tally.count("HTTP/2 streams cancelled");
    } else if ((await ask(`/?id=${round}`, 1000)) !== `hello ${round}`) {
      throw new Error("a wrong answer");
    }
    await Bun.sleep(pauseMs * tally.pace);
  });
  session.destroy();
}

/** Asks the app how far it got; its own connection, so that nothing else is in the way. */
async function madeSoFar(target: Target, id: string): Promise<number> {
  const connection = await Connection.open(target.httpPort);
  const { body } = await connection.ask(get(target, `/made?id=${id}`));
  connection.close();
  return Number(body);
}

/** The largest buffer that the kernel gives a TCP socket, in bytes. */
const bufferBytesMax = (name: "tcp_rmem" | "tcp_wmem"): number =>
  Number(readFileSync(`/proc/sys/net/ipv4/${name}`, "utf8").trim().split(/\s+/)[2]);

/** What may be on the way in one direction: two sockets on each side of a gateway, and a read. */
export const heldBytesMax = 2 * (bufferBytesMax("tcp_rmem") + bufferBytesMax("tcp_wmem")) + 1e6;

/** A reader that reads nothing: the app must stop making more, wherever bytes could pile up. */
export function stallReading(target: Target, tally: Tally, number: number): Promise<void> {
  let round = 0;
  return repeat(tally, "readers that stall: the app was stopped", async () => {
    round += 1;
    const id = `stall-${number}-${round}`;
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: target.httpPort,
      socket: {
        open(opened) {
          opened.write(get(target, `/stream?bytes=1000000000&id=${id}`));
        },
        data: (opened) => opened.pause(),
      },
    });
    try {
      await Bun.sleep(8000);
      const before = await madeSoFar(target, id);
      await Bun.sleep(4000);
      const after = await madeSoFar(target, id);
      if (before === 0 || before > heldBytesMax || after !== before) {
        throw new Error(`the app made ${before} bytes, then ${after}`);
      }
    } finally {
      socket.terminate();
    }
    await Bun.sleep(20_000);
  });
}

/** An app that reads nothing for a while: its client must be stopped, then nothing be missing. */
export function stallWriting(target: Target, tally: Tally): Promise<void> {
  const total = 2 * heldBytesMax;
  const block = Buffer.alloc(64_000, "x");
  return repeat(tally, "apps that stall: the client was stopped", async () => {
    let sent = 0;
    let answer = "";
    const fill = (socket: { write(data: Buffer, from: number, length: number): number }) => {
      while (sent < total) {
        const length = Math.min(block.length, total - sent);
        const written = socket.write(block, 0, length);
        if (written > 0) sent += written;
        if (written < length) return;
      }
    };
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: target.httpPort,
      socket: {
        drain: fill,
        data(_, bytes) {
          answer += bytes.toString("latin1");
        },
      },
    });
    const start = `POST /upload?after=10000 HTTP/1.1\r\nHost: ${target.host}\r\n`;
    socket.write(`${start}Content-Length: ${total}\r\n\r\n`);
    fill(socket);
    try {
      await Bun.sleep(7000);
      if (sent > heldBytesMax) throw new Error(`the client could send ${sent} bytes`);
      for (let wait = 0; wait < 600 && !answer.endsWith(String(total)); wait += 1) {
        await Bun.sleep(50);
      }
      if (!answer.endsWith(String(total)) && !tally.stopped) throw new Error("the upload is short");
    } finally {
      socket.terminate();
    }
    await Bun.sleep(40_000);
  });
}
