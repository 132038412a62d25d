import type { Socket } from "bun";
import { assert, unreachable } from "../../base/assert.ts";
import type { Json } from "../../base/json.ts";
import type { Message, Subscription, Wire } from "../wire.ts";
import {
  type ClientFrame,
  encodeFrame,
  encodeMessage,
  FrameReader,
  parseClientFrame,
  protocolVersion,
  type RefusedAction,
  type ServerFrame,
  serverFrameBytesMax,
} from "./frames.ts";
import { Outbox, type OutboxBounds } from "./outbox.ts";

/** What the clients of one socket may do [W14]; each is asked with a subject or pattern. */
export interface WirePermissions {
  mayPublish(subject: string): boolean;
  maySubscribe(pattern: string): boolean;
  mayRequest(subject: string): boolean;
  mayRespond(pattern: string): boolean;
}

export interface ConnectionSettings {
  readonly wire: Wire;
  readonly permissions: WirePermissions;
  readonly frameBytesMax: number;
  readonly outboxBounds: OutboxBounds;
  readonly onRefused: (action: RefusedAction | "request", subject: string) => void;
  readonly onDrop: (pattern: string) => void;
  readonly onExpelled: (reason: string) => void;
}

/** Subscriptions and responders of one client. */
const registrationsMax = 1024;
/** Requests of one client, and requests in its hands, at one time. */
const requestsMax = 4096;

type Answer = { readonly ok: true; readonly payload: Json } | { readonly ok: false; why: string };

/**
 * One client, as the server sees it; the client is not trusted.
 *
 *   greeting (only `hello` is taken) → open → closed
 */
export class Connection {
  readonly #socket: Socket<Connection>;
  readonly #settings: ConnectionSettings;
  readonly #reader: FrameReader;
  readonly #outbox: Outbox;
  readonly #registrations = new Map<number, { pattern: string; subscription: Subscription }>();
  /** Requests in the client's hands. */
  readonly #held = new Map<number, (answer: Answer) => void>();
  #state: "greeting" | "open" | "closed" = "greeting";
  #nextHeld = 0;
  #requests = 0;

  constructor(socket: Socket<Connection>, settings: ConnectionSettings) {
    this.#socket = socket;
    this.#settings = settings;
    this.#reader = new FrameReader(settings.frameBytesMax);
    this.#outbox = new Outbox(
      (bytes) => socket.write(bytes),
      (id) => settings.onDrop(this.#registrations.get(id)?.pattern ?? ""),
      settings.outboxBounds,
    );
  }

  received(chunk: Uint8Array): void {
    const values = this.#reader.push(chunk);
    for (const value of values ?? []) {
      if (this.#state === "closed") return;
      const frame = parseClientFrame(value);
      if (frame === null) this.expel("a frame that makes no sense");
      else if (this.#state === "greeting") this.#greet(frame);
      else this.#take(frame);
    }
    if (values === null) this.expel("bytes that are no frame, or a frame too large");
  }

  drained(): void {
    this.#outbox.drained();
  }

  /** Ends the connection because of what the client does. */
  expel(reason: string): void {
    if (this.#state === "closed") return;
    this.#settings.onExpelled(reason);
    this.end();
  }

  end(): void {
    this.closed();
    this.#socket.terminate();
  }

  /** The connection is gone: so is everything the client had here. */
  closed(): void {
    this.#state = "closed";
    for (const { subscription } of this.#registrations.values()) subscription.cancel();
    this.#registrations.clear();
    for (const settle of this.#held.values()) {
      settle({ ok: false, why: "its connection was lost" });
    }
    this.#held.clear();
  }

  #greet(frame: ClientFrame): void {
    if (frame.op !== "hello") {
      this.expel(`"${frame.op}" before "hello"`);
    } else if (frame.version !== protocolVersion) {
      this.expel(`protocol version ${frame.version} instead of ${protocolVersion}`);
    } else {
      this.#state = "open";
      const { frameBytesMax } = this.#settings;
      this.#send({ op: "welcome", version: protocolVersion, frameBytesMax });
    }
  }

  #take(frame: ClientFrame): void {
    switch (frame.op) {
      case "hello":
        this.expel(`a second "hello"`);
        break;
      case "sync":
        this.#send({ op: "synced" });
        break;
      case "publish":
        this.#publish(frame.subject, frame.payload);
        break;
      case "subscribe":
      case "respond":
        this.#register(frame);
        break;
      case "cancel":
        this.#registrations.get(frame.id)?.subscription.cancel();
        this.#registrations.delete(frame.id);
        this.#outbox.forget(frame.id);
        break;
      case "request":
        void this.#request(frame);
        break;
      case "answer":
        this.#settle(frame.id, { ok: true, payload: frame.payload });
        break;
      case "failure":
        this.#settle(frame.id, { ok: false, why: frame.message });
        break;
      default:
        unreachable(frame);
    }
  }

  #publish(subject: string, payload: Json): void {
    const { wire, permissions } = this.#settings;
    if (permissions.mayPublish(subject)) wire.publish(subject, payload);
    else this.#refuse("publish", subject);
  }

  #register({ op, id, pattern }: ClientFrame & { readonly op: "subscribe" | "respond" }): void {
    const { wire, permissions } = this.#settings;
    if (this.#registrations.has(id)) {
      this.expel(`registration ${id} made twice`);
    } else if (this.#registrations.size >= registrationsMax) {
      this.expel(`more than ${registrationsMax} subscriptions and responders`);
    } else if (
      op === "subscribe" ? !permissions.maySubscribe(pattern) : !permissions.mayRespond(pattern)
    ) {
      this.#refuse(op, pattern);
    } else {
      const subscription =
        op === "subscribe"
          ? wire.subscribe(pattern, (message) => this.#deliver(id, message))
          : wire.respond(pattern, (payload, subject) => this.#hand(id, subject, payload));
      this.#registrations.set(id, { pattern, subscription });
    }
  }

  #deliver(id: number, message: Message): void {
    const frame = encodeMessage(id, message.subject, jsonOf(message));
    if (frame.byteLength > serverFrameBytesMax) this.#settings.onDrop(message.subject);
    else this.#outbox.send(id, frame);
  }

  async #request(frame: ClientFrame & { readonly op: "request" }): Promise<void> {
    const { id, subject, payload, timeoutMs } = frame;
    if (!this.#settings.permissions.mayRequest(subject)) {
      this.#settings.onRefused("request", subject);
      const message = `this connection may not request ${subject}`;
      this.#send({ op: "failure", id, error: { code: "refused", message } });
    } else if (this.#requests >= requestsMax) {
      this.expel(`more than ${requestsMax} requests at one time`);
    } else {
      this.#requests++;
      const result = await this.#settings.wire.request(subject, payload, { timeoutMs });
      this.#requests--;
      if (result.ok) this.#send({ op: "answer", id, payload: result.value });
      else this.#send({ op: "failure", id, error: result.error });
    }
  }

  /** Gives a request into the client's hands. */
  async #hand(responder: number, subject: string, payload: Json): Promise<Json> {
    const id = this.#nextHeld++;
    if (this.#held.size >= requestsMax) throw new Error("it holds too many requests already");
    const answered = new Promise<Answer>((settle) => this.#held.set(id, settle));
    this.#send({ op: "request", id, responder, subject, payload });
    const answer = await answered;
    if (!answer.ok) throw new Error(answer.why);
    return answer.payload;
  }

  #settle(id: number, answer: Answer): void {
    this.#held.get(id)?.(answer);
    this.#held.delete(id);
  }

  #sendTooLarge(frame: ServerFrame): void {
    const message = `it has more than ${serverFrameBytesMax} bytes as JSON`;
    if (frame.op === "request") {
      this.#settle(frame.id, { ok: false, why: message });
    } else {
      assert(frame.op === "answer", `a huge ${frame.op}`);
      this.#send({ op: "failure", id: frame.id, error: { code: "failed", message } });
    }
  }

  #refuse(action: RefusedAction, subject: string): void {
    this.#settings.onRefused(action, subject);
    this.#send({ op: "refused", action, subject });
  }

  #send(frame: ServerFrame): void {
    if (this.#state === "closed") return;
    const bytes = encodeFrame(frame);
    if (bytes.byteLength > serverFrameBytesMax) this.#sendTooLarge(frame);
    else if (!this.#outbox.sendUrgent(bytes)) this.expel("it does not read what it asked for");
  }
}

/** One message goes to many connections: its payload is made JSON once. */
const jsonOfMessages = new WeakMap<Message, string>();

function jsonOf(message: Message): string {
  let json = jsonOfMessages.get(message);
  if (json === undefined) {
    json = JSON.stringify(message.payload);
    jsonOfMessages.set(message, json);
  }
  return json;
}
