import type { Endpoint } from "../../model/instance.ts";

/** What the gateway uses of a socket, plain or encrypted. */
export interface ByteSocket {
  /** Undefined once the peer has reset the connection. */
  readonly remoteAddress: string | undefined;
  /** Bytes taken, -1 when closed. */
  write(data: Buffer, byteOffset: number, byteLength: number): number;
  pause(): void;
  resume(): void;
  /** Sends FIN. */
  shutdown(): void;
  /** Closes after what was written. */
  end(): void;
  /** Closes at once (RST). */
  terminate(): void;
}

/** A socket that carries whom it belongs to. */
export interface OwnedSocket<Owner> extends ByteSocket {
  data: Owner;
}

export interface TlsSocket<Owner> extends OwnedSocket<Owner> {
  /** What ALPN agreed on. */
  readonly alpnProtocol: string | false | null;
  /** The server name the client asked for (SNI). */
  getServername(): unknown;
}

/** What a socket tells its owner. */
export interface SocketHandlers<Socket> {
  open(socket: Socket): void;
  /** Bytes [start, end) of a buffer that is used again as soon as this returns. */
  data(socket: Socket, buffer: Buffer, start: number, end: number): void;
  /** Takes bytes again, after a write that took less than all. */
  drain(socket: Socket): void;
  /** FIN. */
  end(socket: Socket): void;
  /** The last event, whoever closed it. */
  close(socket: Socket): void;
}

export interface ConnectHandlers<Owner> extends SocketHandlers<OwnedSocket<Owner>> {
  /** In place of `open`, and the last event. @param cause an errno's name */
  connectError(owner: Owner, cause: string): void;
}

export interface TlsHandlers<Socket> extends SocketHandlers<Socket> {
  /** The answer is a native secure context; not called when the client names no server. */
  serverName(name: string): object | undefined;
  handshake(socket: Socket, success: boolean): void;
}

export interface TlsSettings {
  /** Offered, in the form of RFC 7301. */
  readonly protocols: Buffer;
  /** Shown when no server name comes, or none that `serverName` knows. */
  readonly fallback: { readonly privateKey: string; readonly certificateChain: string } | null;
}

export interface Listening {
  /** Accepts no more; connections that are open stay. */
  stop(): void;
}

/** The door to the network. The fuzzer's leads into memory. */
export interface Sockets {
  /** Accepts on a listening socket. */
  listen<Owner>(
    descriptor: number,
    handlers: SocketHandlers<OwnedSocket<Owner | undefined>>,
  ): Listening;
  listenTls<Owner>(
    descriptor: number,
    settings: TlsSettings,
    handlers: TlsHandlers<TlsSocket<Owner | undefined>>,
  ): Listening;
  /** Tells by an event how it went, never before it returns. */
  connect<Owner>(endpoint: Endpoint, handlers: ConnectHandlers<Owner>, owner: Owner): void;
  /** Calls back once all that the kernel has told by now is dealt with. */
  defer(action: () => void): void;
}
