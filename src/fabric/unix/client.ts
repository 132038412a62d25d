import type { Socket } from "bun";
import { assert, unreachable } from "../../base/assert.ts";
import type { Json } from "../../base/json.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timer } from "../../base/time.ts";
import { assertPayload } from "../json.ts";
import { assertPattern, assertSubject } from "../subjects.ts";
import type { Message, Subscription, Wire, WireError } from "../wire.ts";
import {
  type ClientFrame,
  encodeFrame,
  FrameReader,
  protocolVersion,
  type RefusedAction,
  type ServerFrame,
  serverFrameBytesMax,
} from "./frames.ts";
import { defaultOutboxBounds, Outbox } from "./outbox.ts";

export interface WireClientOptions {
  readonly socketPath: string;
  readonly clock: Clock;
  /** The server does not let this party do it: a mistake in its permissions or here. */
  readonly onRefused?: (action: RefusedAction, subject: string) => void;
  /** A published message was lost: too large, or the server did not keep up. */
  readonly onDrop?: () => void;
}

/** The party of another process; connects, and comes back after a loss, by itself. */
export function connectWire(options: WireClientOptions): Wire {
  return new WireClient(options);
}

const backoffFirstMs = 50;
const backoffLastMs = 2000;
/** The stream of the outbox that published messages wait in. */
const published = 0;

type Registration =
  | {
      readonly op: "subscribe";
      readonly pattern: string;
      readonly handler: (message: Message) => void;
    }
  | {
      readonly op: "respond";
      readonly pattern: string;
      readonly handler: (payload: Json, subject: string) => Promise<Json>;
    };

interface Pending {
  readonly settle: (result: Result<Json, WireError>) => void;
  readonly timer: Timer;
}

interface Link {
  readonly socket: Socket<undefined>;
  readonly reader: FrameReader;
  readonly outbox: Outbox;
  /** As the server said. */
  frameBytesMax: number;
}

/**
 *   connecting → greeting → resuming → connected
 *       ↑            │          │          │
 *       └── waiting ←┴──────────┴──────────┘     any → closed
 *
 * greeting: `hello` was sent; resuming: everything this party has was registered again, and
 * `synced` will say that it is in force.
 */
class WireClient implements Wire {
  readonly #options: WireClientOptions;
  readonly #registrations = new Map<number, Registration>();
  readonly #pending = new Map<number, Pending>();
  readonly #callbacks = new Set<(connected: boolean) => void>();
  #state: "connecting" | "greeting" | "resuming" | "connected" | "waiting" | "closed" =
    "connecting";
  #link: Link | null = null;
  #retry: Timer | null = null;
  #backoffMs = backoffFirstMs;
  #nextId = 1;

  constructor(options: WireClientOptions) {
    this.#options = options;
    this.#connect();
  }

  publish(subject: string, payload: Json): void {
    assertSubject(subject);
    assertPayload(payload);
    if (this.#state !== "connected" || this.#link === null) return;
    const frame = encodeFrame({ op: "publish", subject, payload });
    if (frame.byteLength > this.#link.frameBytesMax) this.#options.onDrop?.();
    else this.#link.outbox.send(published, frame);
  }

  subscribe(pattern: string, handler: (message: Message) => void): Subscription {
    return this.#register({ op: "subscribe", pattern, handler });
  }

  respond(
    pattern: string,
    handler: (payload: Json, subject: string) => Promise<Json>,
  ): Subscription {
    return this.#register({ op: "respond", pattern, handler });
  }

  request(
    subject: string,
    payload: Json,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<Result<Json, WireError>> {
    assertSubject(subject);
    assertPayload(payload);
    if (this.#state !== "connected" || this.#link === null) {
      return Promise.resolve(err(this.#disconnected()));
    }
    const id = this.#nextId++;
    const frame = encodeFrame({ op: "request", id, subject, payload, timeoutMs });
    if (frame.byteLength > this.#link.frameBytesMax) {
      const message = `a request on ${subject} with ${frame.byteLength} bytes is too large`;
      return Promise.resolve(err({ code: "failed", message }));
    }
    const answered = new Promise<Result<Json, WireError>>((resolve) => {
      const timer = this.#options.clock.after(timeoutMs, () => {
        const message = `no answer on ${subject} within ${timeoutMs} ms`;
        this.#settle(id, err({ code: "timeout", message }));
      });
      this.#pending.set(id, { settle: resolve, timer });
    });
    this.#sendUrgent(frame);
    return answered;
  }

  onConnection(callback: (connected: boolean) => void): Subscription {
    this.#callbacks.add(callback);
    callback(this.#state === "connected");
    return { cancel: () => this.#callbacks.delete(callback) };
  }

  async close(): Promise<void> {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#callbacks.clear();
    this.#registrations.clear();
    this.#retry?.cancel();
    this.#abandonRequests();
    this.#link?.socket.end();
    this.#link = null;
  }

  #register(registration: Registration): Subscription {
    assertPattern(registration.pattern);
    const id = this.#nextId++;
    this.#registrations.set(id, registration);
    if (this.#isGreeted()) this.#announce(id, registration);
    return {
      cancel: () => {
        if (this.#registrations.delete(id) && this.#isGreeted()) this.#send({ op: "cancel", id });
      },
    };
  }

  #announce(id: number, { op, pattern }: Registration): void {
    this.#send({ op, id, pattern });
  }

  #isGreeted(): boolean {
    return this.#state === "connected" || this.#state === "resuming";
  }

  #connect(): void {
    this.#state = "connecting";
    let lost = false;
    const lose = (): void => {
      if (!lost) this.#lost();
      lost = true;
    };
    const isCurrent = (socket: Socket<undefined>): boolean => this.#link?.socket === socket;
    const handler = {
      open: (socket: Socket<undefined>) => this.#opened(socket),
      data: (socket: Socket<undefined>, chunk: Uint8Array) => {
        if (isCurrent(socket)) this.#received(chunk);
      },
      drain: (socket: Socket<undefined>) => {
        if (isCurrent(socket)) this.#link?.outbox.drained();
      },
      close: lose,
      error: lose,
      connectError: lose,
    };
    Bun.connect({ unix: this.#options.socketPath, socket: handler }).catch(lose);
  }

  #opened(socket: Socket<undefined>): void {
    if (this.#state === "closed") {
      socket.end();
      return;
    }
    const outbox = new Outbox(
      (bytes) => socket.write(bytes),
      () => this.#options.onDrop?.(),
      defaultOutboxBounds,
    );
    const reader = new FrameReader(serverFrameBytesMax);
    this.#link = { socket, reader, outbox, frameBytesMax: 0 };
    this.#state = "greeting";
    this.#send({ op: "hello", version: protocolVersion });
  }

  #lost(): void {
    if (this.#state === "closed") return;
    const wasConnected = this.#state === "connected";
    this.#link = null;
    this.#state = "waiting";
    this.#retry = this.#options.clock.after(this.#backoffMs, () => this.#connect());
    this.#backoffMs = Math.min(2 * this.#backoffMs, backoffLastMs);
    this.#abandonRequests();
    if (wasConnected) this.#tell(false);
  }

  #received(chunk: Uint8Array): void {
    const link = this.#link;
    const values = link?.reader.push(chunk);
    if (values === null) link?.socket.terminate();
    // The server is trusted with the meaning of its frames, as part of Lode.
    for (const value of values ?? []) {
      if (this.#link === link) this.#take(value as ServerFrame);
    }
  }

  #take(frame: ServerFrame): void {
    switch (frame.op) {
      case "welcome":
        this.#resume(frame.frameBytesMax);
        break;
      case "synced":
        this.#state = "connected";
        this.#backoffMs = backoffFirstMs;
        this.#tell(true);
        break;
      case "message": {
        const registration = this.#registrations.get(frame.id);
        if (registration?.op !== "subscribe") break;
        deliver(registration.handler, { subject: frame.subject, payload: frame.payload });
        break;
      }
      case "request":
        void this.#answer(frame);
        break;
      case "answer":
        this.#settle(frame.id, ok(frame.payload));
        break;
      case "failure":
        this.#settle(frame.id, err(frame.error));
        break;
      case "refused":
        this.#options.onRefused?.(frame.action, frame.subject);
        break;
      default:
        unreachable(frame);
    }
  }

  #resume(frameBytesMax: number): void {
    assert(this.#link !== null, "a frame without a link");
    this.#link.frameBytesMax = frameBytesMax;
    this.#state = "resuming";
    for (const [id, registration] of this.#registrations) this.#announce(id, registration);
    this.#send({ op: "sync" });
  }

  async #answer(frame: ServerFrame & { readonly op: "request" }): Promise<void> {
    const { id, responder, subject, payload } = frame;
    const link = this.#link;
    const registration = this.#registrations.get(responder);
    let reply: Buffer;
    try {
      assert(registration?.op === "respond", "the responder was cancelled");
      const answer = await registration.handler(payload, subject);
      assertPayload(answer);
      reply = encodeFrame({ op: "answer", id, payload: answer });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      reply = encodeFrame({ op: "failure", id, message });
    }
    if (link === null || this.#link !== link) return;
    if (reply.byteLength > link.frameBytesMax) {
      const message = `its answer of ${reply.byteLength} bytes is too large`;
      reply = encodeFrame({ op: "failure", id, message });
    }
    this.#sendUrgent(reply);
  }

  #settle(id: number, result: Result<Json, WireError>): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.timer.cancel();
    pending?.settle(result);
  }

  #abandonRequests(): void {
    for (const id of [...this.#pending.keys()]) this.#settle(id, err(this.#disconnected()));
  }

  #disconnected(): WireError {
    const message =
      this.#state === "closed"
        ? "the wire is closed"
        : `not connected to the wire at ${this.#options.socketPath}`;
    return { code: "disconnected", message };
  }

  #tell(connected: boolean): void {
    for (const callback of this.#callbacks) callback(connected);
  }

  #send(frame: ClientFrame): void {
    this.#sendUrgent(encodeFrame(frame));
  }

  #sendUrgent(frame: Buffer): void {
    const link = this.#link;
    if (link !== null && !link.outbox.sendUrgent(frame)) link.socket.terminate();
  }
}

/** A handler that throws is a broken invariant: it surfaces, but costs nobody a message. */
function deliver(handler: (message: Message) => void, message: Message): void {
  try {
    handler(message);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
