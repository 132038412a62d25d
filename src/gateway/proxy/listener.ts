import type { Timestamp } from "../../base/time.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import type { Router } from "../routing/router.ts";
import { duplicate } from "../sockets/descriptors.ts";
import type {
  ByteSocket,
  Listening,
  OwnedSocket,
  SocketHandlers,
  TlsSocket,
} from "../sockets/sockets.ts";
import type { CertificateStore } from "../tls/certificates.ts";
import { Http1Client } from "./client-http1.ts";
import { Http2Front, type Http2Session } from "./client-http2.ts";

/** What a client's socket talks to. */
interface Receiver {
  /** Bytes [start, end) of the buffer, which are gone when it returns. */
  received(buffer: Buffer, start: number, end: number): void;
  drained(): void;
  ended(): void;
  gone(): void;
  close(): void;
  retire(): void;
}

/** Offered in this order, in the form of RFC 7301. */
const protocols = Buffer.from("\x02h2\x08http/1.1");

/** A TLS connection before its handshake is done. */
class Handshake implements Receiver, Deadlined {
  deadlineAt: Timestamp;
  private readonly context: GatewayContext;
  private readonly socket: ByteSocket;

  constructor(context: GatewayContext, socket: ByteSocket) {
    this.context = context;
    this.socket = socket;
    this.deadlineAt = context.clock.now() + context.limits.headMs;
    context.sweeper.add(this);
  }

  received(): void {}
  drained(): void {}

  ended(): void {
    this.close();
  }

  gone(): void {
    this.context.sweeper.remove(this);
  }

  close(): void {
    this.gone();
    this.socket.terminate();
  }

  retire(): void {
    this.close();
  }

  expire(): void {
    this.close();
  }
}

type ClientSocket = OwnedSocket<Receiver | undefined>;

/** Accepts on inherited listening sockets and starts the right protocol on each connection. */
export class Listeners {
  private readonly context: GatewayContext;
  private readonly router: Router;
  private readonly certificates: CertificateStore;
  private readonly listeners = new Map<number, Listening>();
  /** Of `listeners`, those for TLS. */
  private readonly secure = new Set<number>();
  private readonly clients = new Set<Receiver>();
  private readonly http2: Http2Front;
  private onEmpty: () => void = () => {};

  constructor(context: GatewayContext, router: Router, certificates: CertificateStore) {
    this.context = context;
    this.router = router;
    this.certificates = certificates;
    this.http2 = new Http2Front(context, router);
    certificates.onFallback = () => this.renewTls();
  }

  get connectionCount(): number {
    return this.clients.size;
  }

  listenPlain(descriptor: number): void {
    const handlers = this.handlers((socket) => {
      this.attach(socket, new Http1Client(this.context, this.router, socket, null));
    });
    this.listeners.set(descriptor, this.context.sockets.listen<Receiver>(descriptor, handlers));
  }

  listenTls(descriptor: number): void {
    const handlers = this.handlers((socket) => {
      this.attach(socket, new Handshake(this.context, socket));
    });
    const { fallback } = this.certificates;
    const listening = this.context.sockets.listenTls<Receiver>(
      descriptor,
      { protocols, fallback },
      {
        ...handlers,
        serverName: (name) => this.certificates.contextFor(name),
        handshake: (socket, success) => {
          this.guard(socket, () => this.secured(socket, success));
        },
      },
    );
    this.secure.add(descriptor);
    this.listeners.set(descriptor, listening);
  }

  /** Takes no new connections, and ends each one that is there once nothing is lost. */
  retire(timeoutMs: number): Promise<void> {
    this.certificates.onFallback = () => {};
    for (const listener of this.listeners.values()) listener.stop();
    for (const client of [...this.clients]) client.retire();
    if (this.clients.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.context.clock.after(timeoutMs, () => {
        for (const client of [...this.clients]) client.close();
        resolve();
      });
      this.onEmpty = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** What a listener shows without a name it shows for ever: others take its sockets over. */
  private renewTls(): void {
    for (const descriptor of [...this.secure]) {
      this.listenTls(duplicate(descriptor));
      this.listeners.get(descriptor)?.stop();
      this.listeners.delete(descriptor);
      this.secure.delete(descriptor);
    }
  }

  private handlers(open: (socket: ClientSocket) => void): SocketHandlers<ClientSocket> {
    return {
      open: (socket) => {
        if (this.clients.size >= this.context.limits.connectionsMax || this.context.closing) {
          socket.terminate();
          return;
        }
        this.guard(socket, () => open(socket));
      },
      data: (socket, buffer, start, end) => {
        try {
          socket.data?.received(buffer, start, end);
        } catch (error) {
          this.broke(socket, error);
        }
      },
      drain: (socket) => this.guard(socket, () => socket.data?.drained()),
      end: (socket) => this.guard(socket, () => socket.data?.ended()),
      close: (socket) => {
        this.guard(socket, () => {
          if (socket.data === undefined) return;
          this.clients.delete(socket.data);
          socket.data.gone();
        });
        if (this.clients.size === 0) this.onEmpty();
      },
    };
  }

  private attach(socket: ClientSocket, receiver: Receiver): void {
    if (socket.data !== undefined) this.clients.delete(socket.data);
    socket.data = receiver;
    this.clients.add(receiver);
  }

  private secured(socket: TlsSocket<Receiver | undefined>, success: boolean): void {
    if (!(socket.data instanceof Handshake)) return;
    socket.data.gone();
    // A failed handshake closes the socket by itself.
    if (!success) return;
    const serverName = String(socket.getServername() ?? "");
    const tls = { covers: (host: string) => this.certificates.covers(serverName, host) };
    if (socket.alpnProtocol === "h2") {
      const session: Http2Session = this.http2.accept(socket, tls);
      this.attach(socket, session);
    } else {
      this.attach(socket, new Http1Client(this.context, this.router, socket, tls));
    }
  }

  private guard(socket: ClientSocket, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.broke(socket, error);
    }
  }

  /** A broken invariant costs this connection, nothing else. */
  private broke(socket: ClientSocket, error: unknown): void {
    this.context.report(error);
    try {
      socket.data?.close();
    } catch (second) {
      this.context.report(second);
    }
    socket.terminate();
  }
}
