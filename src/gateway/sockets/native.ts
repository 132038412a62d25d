import { assert } from "../../base/assert.ts";
import type { Endpoint } from "../../model/instance.ts";
import { family, SocketAddress } from "./address.ts";
import { epollEvent, type SocketLoop } from "./loop.ts";
import type {
  ConnectHandlers,
  Listening,
  OwnedSocket,
  SocketHandlers,
  Sockets,
} from "./sockets.ts";
import { StreamSocket, sendAtOnce } from "./stream.ts";
import { calls, errno, errorName, errorNumber, FixedBytes } from "./system-calls.ts";
import { listenTls } from "./tls.ts";

/** <sys/socket.h>, <fcntl.h> */
const streamType = 1;
const nonBlocking = 0x800;
const closedOnExec = 0x80000;
/** Of a socket file whose queue is full: tried again after 1, 2, 4, … milliseconds. */
const retryDelayMsMax = 1024;
const flags = { get: 3, set: 4 } as const;

const address = new SocketAddress();
const addressLength = new FixedBytes(4);

/** Sockets of the kernel: plain ones on a loop of our own, encrypted ones are Bun's. */
export function openSockets(loop: SocketLoop): Sockets {
  return {
    listen: (descriptor, handlers) => listen(loop, descriptor, handlers),
    listenTls,
    connect: (endpoint, handlers, owner) => connect(loop, endpoint, handlers, owner),
    defer: (action) => loop.defer(action),
  };
}

/**
 * One connection for each event: other gateways wait for the same socket, and whoever took all
 * at once would have to serve them all.
 */
function listen<Owner>(
  loop: SocketLoop,
  descriptor: number,
  handlers: SocketHandlers<OwnedSocket<Owner | undefined>>,
): Listening {
  // Another gateway may have been faster.
  const before = calls.fcntl(descriptor, flags.get, 0);
  const changed = calls.fcntl(descriptor, flags.set, before | nonBlocking);
  assert(before >= 0 && changed === 0, `descriptor ${descriptor} is a socket`);
  const accept = (): void => {
    addressLength.buffer.writeUInt32LE(address.bytes.buffer.length, 0);
    const accepted = calls.accept4(
      descriptor,
      address.bytes.address,
      addressLength.address,
      nonBlocking | closedOnExec,
    );
    if (accepted < 0) return;
    sendAtOnce(accepted);
    const socket = new StreamSocket<Owner | undefined>(loop, accepted, handlers, null, undefined);
    socket.remoteAddress = address.read();
    handlers.open(socket);
  };
  loop.watch(descriptor, epollEvent.in, { ready: accept });
  return {
    stop() {
      loop.forget(descriptor);
      calls.close(descriptor);
    },
  };
}

function connect<Owner>(
  loop: SocketLoop,
  endpoint: Endpoint,
  handlers: ConnectHandlers<Owner>,
  owner: Owner,
  delayMs = 1,
): void {
  const fail = (failure: number): void => {
    loop.defer(() => handlers.connectError(owner, errorName(failure)));
  };
  if (!address.set(endpoint)) return fail(errno.invalid);
  const descriptor = calls.socket(address.family, streamType | nonBlocking | closedOnExec, 0);
  if (descriptor < 0) return fail(errorNumber());
  if (address.family !== family.unix) sendAtOnce(descriptor);
  const result = calls.connect(descriptor, address.bytes.address, address.length);
  const failure = result < 0 ? errorNumber() : 0;
  if (failure === 0 || failure === errno.inProgress) {
    const socket = new StreamSocket(loop, descriptor, handlers, handlers, owner);
    if (failure === 0) loop.defer(() => socket.opened());
    return;
  }
  calls.close(descriptor);
  // The instance's queue is full, and nothing tells when it no longer is.
  if (failure === errno.again && delayMs <= retryDelayMsMax) {
    loop.clock.after(delayMs, () => connect(loop, endpoint, handlers, owner, delayMs * 2));
  } else fail(failure);
}
