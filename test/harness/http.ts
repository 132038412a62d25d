import { connect, type Socket } from "node:net";
import { patienceMs } from "./pace.ts";

/**
 * A plain HTTP/1.1 client on raw sockets: it never retries, reuses or follows anything behind
 * a test's back, and sends what it is told to.
 */
export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  /** From connecting to the last byte. */
  readonly durationMs: number;
}

export interface RequestOptions {
  readonly port: number;
  readonly host: string;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly timeoutMs?: number;
}

function requestBytes(options: RequestOptions): string {
  const body = options.body ?? "";
  const headers = {
    host: options.host,
    connection: "close",
    ...(options.body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }),
    ...options.headers,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const method = options.method ?? (options.body === undefined ? "GET" : "POST");
  return `${method} ${options.path ?? "/"} HTTP/1.1\r\n${lines.join("")}\r\n${body}`;
}

/** Opens a connection, sends a request and leaves what comes to the caller. */
export function openRequest(options: RequestOptions): Socket {
  const socket = connect({ port: options.port, host: "127.0.0.1" });
  socket.setNoDelay(true);
  socket.write(requestBytes(options));
  return socket;
}

export async function request(options: RequestOptions): Promise<Answer> {
  const startMs = performance.now();
  const bytes = await new Promise<Buffer>((done, fail) => {
    const chunks: Buffer[] = [];
    const socket = openRequest(options);
    const timeoutMs = patienceMs(options.timeoutMs ?? 20_000);
    const timer = setTimeout(() => {
      socket.destroy();
      fail(new Error(`no complete answer within ${timeoutMs} ms`));
    }, timeoutMs);
    const settle = (act: () => void) => {
      clearTimeout(timer);
      act();
    };
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("end", () => {
      socket.end();
      settle(() => done(Buffer.concat(chunks)));
    });
    socket.on("error", (error) => settle(() => fail(error)));
    socket.on("close", () => settle(() => done(Buffer.concat(chunks))));
  });
  return { ...parseAnswer(bytes), durationMs: performance.now() - startMs };
}

function parseAnswer(bytes: Buffer): Omit<Answer, "durationMs"> {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) throw new Error(`the connection ended after ${bytes.length} bytes, in the head`);
  const [statusLine = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  const rest = bytes.subarray(end + 4);
  const chunked = headers.get("transfer-encoding")?.toLowerCase() === "chunked";
  const body = chunked ? joinChunks(rest) : rest;
  const length = headers.get("content-length");
  if (length !== undefined && !chunked && Number(length) !== body.length) {
    throw new Error(`the body has ${body.length} bytes of ${length}`);
  }
  return { status: Number(statusLine.split(" ")[1]), headers, body: body.toString("utf8") };
}

function joinChunks(bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  let rest = bytes;
  for (;;) {
    const end = rest.indexOf("\r\n");
    const size = end < 0 ? Number.NaN : Number.parseInt(rest.subarray(0, end).toString(), 16);
    if (Number.isNaN(size)) throw new Error("the body ended before its last chunk");
    if (size === 0) return Buffer.concat(parts);
    parts.push(rest.subarray(end + 2, end + 2 + size));
    rest = rest.subarray(end + 2 + size + 2);
  }
}

export interface LoadReport {
  readonly requests: number;
  /** What was not a complete answer with status 200. */
  readonly errors: readonly string[];
  readonly durationsMs: readonly number[];
  /** How often each body came. */
  readonly bodies: ReadonlyMap<string, number>;
}

export interface SteadyLoad {
  readonly requestsSoFar: () => number;
  stop(): Promise<LoadReport>;
}

/** `clients` clients, each asking again `pauseMs` after its answer, on a new connection. */
export function steadyLoad(
  options: RequestOptions & { readonly clients: number; readonly pauseMs: number },
): SteadyLoad {
  let going = true;
  const errors: string[] = [];
  const durationsMs: number[] = [];
  const bodies = new Map<string, number>();
  const client = async () => {
    while (going) {
      try {
        const answer = await request(options);
        durationsMs.push(answer.durationMs);
        bodies.set(answer.body, (bodies.get(answer.body) ?? 0) + 1);
        if (answer.status !== 200) errors.push(`${answer.status}: ${answer.body.slice(0, 300)}`);
      } catch (error) {
        errors.push(String(error));
      }
      await Bun.sleep(options.pauseMs);
    }
  };
  const clients = Array.from({ length: options.clients }, client);
  return {
    requestsSoFar: () => durationsMs.length + errors.length,
    stop: async () => {
      going = false;
      await Promise.all(clients);
      return { requests: durationsMs.length, errors, durationsMs, bodies };
    },
  };
}

/** The smallest value that `fraction` of the values do not exceed. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const index = Math.min(sorted.length - 1, Math.ceil(fraction * sorted.length) - 1);
  return sorted[Math.max(0, index)] ?? Number.NaN;
}

/** A WebSocket client through the gateway that keeps what it hears. */
export class ChatClient {
  readonly heard: string[] = [];
  closeCode: number | null = null;
  private readonly socket: WebSocket;
  private readonly opened: Promise<void>;

  constructor(port: number, host: string, path: string) {
    const Client = WebSocket as unknown as new (
      url: string,
      options: { headers: Record<string, string> },
    ) => WebSocket;
    this.socket = new Client(`ws://127.0.0.1:${port}${path}`, { headers: { host } });
    this.socket.onmessage = (event) => this.heard.push(String(event.data));
    this.socket.onclose = (event) => {
      this.closeCode = event.code;
    };
    this.opened = new Promise((done, fail) => {
      this.socket.onopen = () => done();
      this.socket.onerror = (event) =>
        fail(new Error(`WebSocket ${path}: ${(event as ErrorEvent).message}`));
    });
  }

  async open(): Promise<this> {
    await this.opened;
    return this;
  }

  say(text: string): void {
    this.socket.send(text);
  }

  close(): void {
    this.socket.close();
  }
}
