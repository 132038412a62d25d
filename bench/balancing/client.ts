import { connect, type Socket } from "node:net";

/** Where requests go: a port of this machine, or a unix socket. */
export type Destination = { readonly port: number } | { readonly path: string };

/**
 * Keeps connections to one destination, as many as requests are in flight at most, and uses them in
 * turn, so that none is idle for as long as servers tolerate.
 */
export class Connections {
  private readonly destination: Destination;
  private readonly host: string;
  private idle: Socket[] = [];

  constructor(destination: Destination, host: string) {
    this.destination = destination;
    this.host = host;
  }

  /** Calls back with the answer's status when it is complete; 0: there was none. */
  get(path: string, done: (status: number) => void): void {
    const kept = this.idle.shift();
    kept?.removeAllListeners();
    const socket = kept ?? connect(this.destination as { port: number });
    let text = "";
    const settle = (status: number) => {
      socket.removeAllListeners();
      if (status === 200) this.keep(socket);
      else socket.destroy();
      done(status);
    };
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => {
      text += bytes.toString("latin1");
      if (isComplete(text)) settle(Number(text.slice(9, 12)));
    });
    socket.on("error", () => settle(0));
    socket.on("close", () => settle(0));
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${this.host}\r\n\r\n`);
  }

  /** The other side may close it while it waits for its next request. */
  private keep(socket: Socket): void {
    this.idle.push(socket);
    const forget = () => {
      this.idle = this.idle.filter((one) => one !== socket);
      socket.destroy();
    };
    for (const event of ["end", "close", "error"]) socket.on(event, forget);
  }

  close(): void {
    for (const socket of this.idle) socket.destroy();
  }
}

function isComplete(text: string): boolean {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return false;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end));
  if (length !== null) return text.length >= end + 4 + Number(length[1]);
  return text.endsWith("0\r\n\r\n");
}
