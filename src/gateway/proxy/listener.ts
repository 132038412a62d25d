import type { Socket, SocketHandler, TCPSocketListener } from "bun";
import type { Timestamp } from "../../base/time.ts";
import type { Deadlined, GatewayContext } from "../context.ts";
import type { Router } from "../routing/router.ts";
import type { CertificateStore } from "../tls/certificates.ts";
import { duplicate } from "../tls/descriptors.ts";
import { Http1Client } from "./client-http1.ts";
import { Http2Front, type Http2Session } from "./client-http2.ts";

/** What a client's socket talks to. */
interface Receiver {
  received(chunk: Buffer): void;
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
  private readonly socket: Socket<Receiver>;

  constructor(context: GatewayContext, socket: Socket<Receiver>) {
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

/** Bun's sockets as they are, beyond what its types say; `listener.test.ts` holds them to it. */
interface ListenOptions {
  readonly fd: number;
  readonly allowHalfOpen: boolean;
  /** `key` and `cert` are shown when no server name comes, or none that `serverName` knows. */
  readonly tls?: { readonly ALPNProtocols: Buffer; readonly key?: string; readonly cert?: string };
  readonly socket: SocketHandler<Receiver> & {
    /** The answer is a native secure context; not called when the client names no server. */
    serverName?(server: unknown, name: string): object | undefined;
  };
}

const listen = Bun.listen as unknown as (options: ListenOptions) => TCPSocketListener<Receiver>;

/** Accepts on inherited listening sockets and starts the right protocol on each connection. */
export class Listeners {
  private readonly context: GatewayContext;
  private readonly router: Router;
  private readonly certificates: CertificateStore;
  private readonly listeners = new Map<number, TCPSocketListener<Receiver>>();
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
    const socket = this.handlers((connection) => {
      this.attach(connection, new Http1Client(this.context, this.router, connection, null));
    });
    this.listeners.set(descriptor, listen({ fd: descriptor, allowHalfOpen: true, socket }));
  }

  listenTls(descriptor: number): void {
    const handlers = this.handlers((connection) => {
      this.attach(connection, new Handshake(this.context, connection));
    });
    const { fallback } = this.certificates;
    const shown =
      fallback === null ? {} : { key: fallback.privateKey, cert: fallback.certificateChain };
    this.secure.add(descriptor);
    this.listeners.set(
      descriptor,
      listen({
        fd: descriptor,
        allowHalfOpen: true,
        tls: { ALPNProtocols: protocols, ...shown },
        socket: {
          ...handlers,
          serverName: (_server, name) => this.certificates.contextFor(name),
          handshake: (socket, success) => {
            this.guard(socket, () => this.secured(socket, success));
          },
        },
      }),
    );
  }

  /** Takes no new connections, and ends each one that is there once nothing is lost. */
  retire(timeoutMs: number): Promise<void> {
    this.certificates.onFallback = () => {};
    for (const listener of this.listeners.values()) listener.stop(false);
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
      this.listeners.get(descriptor)?.stop(false);
      this.listeners.delete(descriptor);
      this.secure.delete(descriptor);
    }
  }

  private handlers(open: (socket: Socket<Receiver>) => void): SocketHandler<Receiver> {
    return {
      open: (socket) => {
        if (this.clients.size >= this.context.limits.connectionsMax || this.context.closing) {
          socket.terminate();
          return;
        }
        this.guard(socket, () => open(socket));
      },
      data: (socket, chunk) => {
        try {
          socket.data?.received(chunk);
        } catch (error) {
          this.broke(socket, error);
        }
      },
      drain: (socket) => this.guard(socket, () => socket.data?.drained()),
      end: (socket) => this.guard(socket, () => socket.data?.ended()),
      close: (socket) => {
        this.guard(socket, () => {
          this.clients.delete(socket.data);
          socket.data?.gone();
        });
        if (this.clients.size === 0) this.onEmpty();
      },
      // A close event follows and tells what matters.
      error: () => {},
    };
  }

  private attach(socket: Socket<Receiver>, receiver: Receiver): void {
    if (socket.data !== undefined) this.clients.delete(socket.data);
    socket.data = receiver;
    this.clients.add(receiver);
  }

  private secured(socket: Socket<Receiver>, success: boolean): void {
    if (!(socket.data instanceof Handshake)) return;
    socket.data.gone();
    // A failed handshake closes the socket by itself.
    if (!success) return;
    const serverName = socket.getServername() ?? "";
    const tls = { covers: (host: string) => this.certificates.covers(serverName, host) };
    if (socket.alpnProtocol === "h2") {
      const session: Http2Session = this.http2.accept(socket, tls);
      this.attach(socket, session);
    } else {
      this.attach(socket, new Http1Client(this.context, this.router, socket, tls));
    }
  }

  private guard(socket: Socket<Receiver>, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.broke(socket, error);
    }
  }

  /** A broken invariant costs this connection, nothing else. */
  private broke(socket: Socket<Receiver>, error: unknown): void {
    this.context.report(error);
    try {
      socket.data?.close();
    } catch (second) {
      this.context.report(second);
    }
    socket.terminate();
  }
}
