import { chmod, chown, mkdtemp, rename, rm, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Socket } from "bun";
import { err, ok, type Result } from "../../base/result.ts";
import { covers } from "../subjects.ts";
import type { Wire, WireError } from "../wire.ts";
import { Connection, type WirePermissions } from "./connection.ts";
import type { RefusedAction } from "./frames.ts";
import { defaultOutboxBounds, type OutboxBounds } from "./outbox.ts";

/** Permissions written as patterns. */
export function permissionsOf(patterns: {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
  readonly request: readonly string[];
  readonly respond: readonly string[];
}): WirePermissions {
  const among = (allowed: readonly string[]) => (subject: string) =>
    allowed.some((pattern) => covers(pattern, subject));
  return {
    mayPublish: among(patterns.publish),
    maySubscribe: among(patterns.subscribe),
    mayRequest: among(patterns.request),
    mayRespond: among(patterns.respond),
  };
}

export interface WireServerOptions {
  /** The hub whose party every client becomes. */
  readonly wire: Wire;
  /** At most 107 bytes; its directory exists and is writable only by whom one trusts. */
  readonly socketPath: string;
  readonly permissions: WirePermissions;
  /** Permission bits of the socket: who may write to it may connect. */
  readonly mode: number;
  /** The socket's owner, if not this process. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly connectionsMax?: number;
  /** Bytes of the largest frame a client may send. */
  readonly frameBytesMax?: number;
  readonly outboxBounds?: OutboxBounds;
  readonly onRefused?: (action: RefusedAction | "request", subject: string) => void;
  /** A client did not keep up with a subscription and lost a message. */
  readonly onDrop?: (pattern: string) => void;
  /** A client was disconnected for what it sent or did not read. */
  readonly onExpelled?: (reason: string) => void;
}

export interface WireServer {
  readonly connections: number;
  close(): Promise<void>;
}

/** Opens a wire to other processes through a unix socket. */
export async function serveWire(
  options: WireServerOptions,
): Promise<Result<WireServer, WireError>> {
  const { socketPath, connectionsMax = 256 } = options;
  const connections = new Set<Connection>();
  const settings = {
    ...options,
    frameBytesMax: options.frameBytesMax ?? 1024 * 1024,
    outboxBounds: options.outboxBounds ?? defaultOutboxBounds,
    onRefused: options.onRefused ?? (() => {}),
    onDrop: options.onDrop ?? (() => {}),
    onExpelled: options.onExpelled ?? (() => {}),
  };
  const socket = {
    open: (peer: Socket<Connection>) => {
      peer.data = new Connection(peer, settings);
      if (connections.size >= connectionsMax) {
        peer.data.expel(`more than ${connectionsMax} connections`);
        return;
      }
      connections.add(peer.data);
    },
    data: (peer: Socket<Connection>, chunk: Uint8Array) => peer.data.received(chunk),
    drain: (peer: Socket<Connection>) => peer.data.drained(),
    close: (peer: Socket<Connection>) => {
      connections.delete(peer.data);
      peer.data.closed();
    },
    error: (peer: Socket<Connection>, error: Error) => peer.data.expel(error.message),
  };
  const listened = await listenAt(options, (unix) => Bun.listen<Connection>({ unix, socket }));
  if (!listened.ok) return listened;
  const { listener, inode } = listened.value;
  return ok({
    get connections() {
      return connections.size;
    },
    close: async () => {
      listener.stop(true);
      for (const connection of connections) connection.end();
      const isOurs = await stat(socketPath).then(
        (found) => found.ino === inode,
        () => false,
      );
      if (isOurs) await unlink(socketPath);
    },
  });
}

/** The kernel's bound on a unix socket's path (sun_path without its last NUL). */
const pathBytesMax = 107;

/**
 * Listens in a directory only we may enter and moves the socket to its place when it is ready:
 * nobody connects before the mode is right, and a stale socket is replaced in one step [W15].
 */
async function listenAt<Listener extends { stop(force: boolean): void }>(
  { socketPath, mode, owner }: WireServerOptions,
  listen: (path: string) => Listener,
): Promise<Result<{ readonly listener: Listener; readonly inode: number }, WireError>> {
  let directory: string | null = null;
  let listener: Listener | null = null;
  try {
    const bytes = Buffer.byteLength(socketPath);
    if (bytes > pathBytesMax) throw new Error(`${bytes} bytes, at most ${pathBytesMax} can be`);
    directory = await mkdtemp(join(dirname(socketPath), ".w"));
    const path = join(directory, "s");
    listener = listen(path);
    if (owner !== undefined) await chown(path, owner.uid, owner.gid);
    await chmod(path, mode);
    const { ino } = await stat(path);
    await rename(path, socketPath);
    return ok({ listener, inode: ino });
  } catch (error) {
    listener?.stop(true);
    const cause = error instanceof Error ? error.message : String(error);
    return err({ code: "failed", message: `serving the wire at ${socketPath}: ${cause}` });
  } finally {
    if (directory !== null) await rm(directory, { recursive: true });
  }
}
