import type { Socket, SocketHandler, TCPSocketListener } from "bun";
import type { Listening, TlsHandlers, TlsSettings, TlsSocket } from "./sockets.ts";

/** Bun's sockets as they are, beyond what its types say; `http2.test.ts` holds them to it. */
interface ListenOptions<Owner> {
  readonly fd: number;
  readonly allowHalfOpen: boolean;
  readonly tls: { readonly ALPNProtocols: Buffer; readonly key?: string; readonly cert?: string };
  readonly socket: SocketHandler<Owner | undefined> & {
    serverName(server: unknown, name: string): object | undefined;
  };
}

/** Accepts on a listening socket; TLS is Bun's, and runs on Bun's loop. */
export function listenTls<Owner>(
  descriptor: number,
  settings: TlsSettings,
  handlers: TlsHandlers<TlsSocket<Owner | undefined>>,
): Listening {
  const listen = Bun.listen as unknown as (
    options: ListenOptions<Owner>,
  ) => TCPSocketListener<Owner>;
  const { fallback } = settings;
  const shown =
    fallback === null ? {} : { key: fallback.privateKey, cert: fallback.certificateChain };
  type Encrypted = Socket<Owner | undefined>;
  const listener = listen({
    fd: descriptor,
    allowHalfOpen: true,
    tls: { ALPNProtocols: settings.protocols, ...shown },
    socket: {
      open: (socket: Encrypted) => handlers.open(socket),
      data: (socket: Encrypted, chunk) => handlers.data(socket, chunk, 0, chunk.length),
      drain: (socket: Encrypted) => handlers.drain(socket),
      end: (socket: Encrypted) => handlers.end(socket),
      close: (socket: Encrypted) => handlers.close(socket),
      // A close event follows and tells what matters.
      error: () => {},
      serverName: (_server, name) => handlers.serverName(name),
      handshake: (socket: Encrypted, success) => handlers.handshake(socket, success),
    },
  });
  return { stop: () => listener.stop(false) };
}
