import type { Socket } from "bun";

const headEnd = Buffer.from("\r\n\r\n");

/** What came of one request. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

/**
 * One HTTP/1.1 connection, one request after the other, answers with a Content-Length only:
 *
 *   open ⇄ asking ─→ closed
 *
 * Five thousand of them must fit, so an idle one holds nothing.
 */
export class Connection {
  closed = false;
  private readonly socket: Socket<Connection>;
  private received: Buffer = headEnd.subarray(0, 0);
  private settle: ((answer: Answer) => void) | null = null;
  private fail: ((error: Error) => void) | null = null;

  private constructor(socket: Socket<Connection>) {
    this.socket = socket;
  }

  static async open(port: number, serverName: string | null = null): Promise<Connection> {
    let connection: Connection | null = null;
    const secured = Promise.withResolvers<void>();
    if (serverName === null) secured.resolve();
    const tls = serverName === null ? false : { serverName, rejectUnauthorized: false };
    await Bun.connect<Connection>({
      hostname: "127.0.0.1",
      port,
      tls,
      socket: {
        open(socket) {
          connection = new Connection(socket);
        },
        handshake: () => secured.resolve(),
        data: (_, bytes) => connection?.take(bytes),
        close() {
          secured.reject(new Error("closed before the handshake"));
          connection?.ended();
        },
      },
    });
    await secured.promise;
    if (connection === null) throw new Error("connected without a socket");
    return connection;
  }

  /** Sends a request and waits for its whole answer. */
  ask(request: string): Promise<Answer> {
    return new Promise((settle, fail) => {
      if (this.closed) return fail(new Error("the connection is closed"));
      this.settle = settle;
      this.fail = fail;
      this.socket.write(request);
    });
  }

  close(): void {
    this.closed = true;
    this.socket.terminate();
  }

  private take(bytes: Buffer): void {
    this.received =
      this.received.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.received, bytes]);
    const headLength = this.received.indexOf(headEnd);
    if (headLength < 0) return;
    const head = this.received.toString("latin1", 0, headLength);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN);
    const start = headLength + headEnd.length;
    if (this.received.length < start + length) return;
    const body = this.received.toString("latin1", start, start + length);
    this.received = headEnd.subarray(0, 0);
    const { settle } = this;
    this.settle = null;
    this.fail = null;
    settle?.({ status: Number(head.slice(9, 12)), body });
  }

  private ended(): void {
    this.closed = true;
    this.fail?.(new Error("the connection was closed in the middle of an answer"));
    this.fail = null;
  }
}
