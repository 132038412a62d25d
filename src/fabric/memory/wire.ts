import type { Json } from "../../base/json.ts";
import { BoundedQueue } from "../../base/queue.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timer } from "../../base/time.ts";
import { frozenCopy } from "../json.ts";
import { assertPattern, assertSubject, SubjectIndex } from "../subjects.ts";
import { systemClock } from "../system.ts";
import type { Message, Subscription, Wire, WireError } from "../wire.ts";

export interface MemoryWireOptions {
  /** Times requests out. */
  readonly clock?: Clock;
  /** Messages that wait for one subscriber before the oldest is lost. */
  readonly queueMessagesMax?: number;
  /** Called for each message lost. */
  readonly onDrop?: (pattern: string) => void;
}

/** The wire within one process, and the hub that `serveWire` opens to others. */
export function createMemoryWire(options: MemoryWireOptions = {}): Wire {
  return new MemoryWire(options);
}

interface Subscriber {
  readonly pattern: string;
  readonly handler: (message: Message) => void;
  readonly queue: BoundedQueue<Message>;
  active: boolean;
}

interface Responder {
  readonly handler: (payload: Json, subject: string) => Promise<Json>;
}

interface Pending {
  readonly settle: (result: Result<Json, WireError>) => void;
  readonly timer: Timer;
}

class MemoryWire implements Wire {
  readonly #clock: Clock;
  readonly #queueMessagesMax: number;
  readonly #onDrop: (pattern: string) => void;
  readonly #subscribers = new SubjectIndex<Subscriber>();
  readonly #responders = new Map<string, Responder>();
  readonly #responderIndex = new SubjectIndex<string>();
  readonly #pending = new Set<Pending>();
  /** Subscribers whose queue is to be emptied, in the order their first message came. */
  readonly #waiting = new Set<Subscriber>();
  #draining = false;
  #closed = false;

  constructor({ clock, queueMessagesMax, onDrop }: MemoryWireOptions) {
    this.#clock = clock ?? systemClock;
    this.#queueMessagesMax = queueMessagesMax ?? 10_000;
    this.#onDrop = onDrop ?? (() => {});
  }

  publish(subject: string, payload: Json): void {
    assertSubject(subject);
    if (this.#closed) return;
    const found = this.#subscribers.find(subject);
    if (found.length === 0) return;
    const message = Object.freeze({ subject, payload: frozenCopy(payload) });
    for (const subscriber of found) {
      if (subscriber.queue.push(message) !== undefined) this.#onDrop(subscriber.pattern);
      this.#waiting.add(subscriber);
    }
    if (this.#draining) return;
    this.#draining = true;
    queueMicrotask(() => this.#drain());
  }

  subscribe(pattern: string, handler: (message: Message) => void): Subscription {
    assertPattern(pattern);
    const queue = new BoundedQueue<Message>(this.#queueMessagesMax);
    const subscriber: Subscriber = { pattern, handler, queue, active: true };
    this.#subscribers.add(pattern, subscriber);
    return {
      cancel: () => {
        subscriber.active = false;
        this.#subscribers.remove(pattern, subscriber);
      },
    };
  }

  request(
    subject: string,
    payload: Json,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<Result<Json, WireError>> {
    assertSubject(subject);
    if (this.#closed) return Promise.resolve(err(wireClosed));
    const [pattern] = this.#responderIndex.find(subject);
    const responder = pattern === undefined ? undefined : this.#responders.get(pattern);
    if (responder === undefined) {
      const message = `nobody answers on ${subject}`;
      return Promise.resolve(err({ code: "noResponder", message }));
    }
    const copy = frozenCopy(payload);
    return new Promise((resolve) => {
      const timer = this.#clock.after(timeoutMs, () => {
        const message = `no answer on ${subject} within ${timeoutMs} ms`;
        settle(err({ code: "timeout", message }));
      });
      const settle = (result: Result<Json, WireError>): void => {
        timer.cancel();
        if (this.#pending.delete(pending)) resolve(result);
      };
      const pending: Pending = { settle, timer };
      this.#pending.add(pending);
      queueMicrotask(() => void answer(responder, copy, subject).then(settle));
    });
  }

  respond(
    pattern: string,
    handler: (payload: Json, subject: string) => Promise<Json>,
  ): Subscription {
    assertPattern(pattern);
    const responder: Responder = { handler };
    this.#responders.set(pattern, responder);
    this.#responderIndex.add(pattern, pattern);
    return {
      cancel: () => {
        if (this.#responders.get(pattern) !== responder) return;
        this.#responders.delete(pattern);
        this.#responderIndex.remove(pattern, pattern);
      },
    };
  }

  onConnection(callback: (connected: boolean) => void): Subscription {
    callback(!this.#closed);
    return { cancel: () => {} };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting.clear();
    for (const pending of this.#pending) pending.settle(err(wireClosed));
  }

  #drain(): void {
    this.#draining = false;
    for (const subscriber of this.#waiting) {
      this.#waiting.delete(subscriber);
      for (let count = subscriber.queue.length; count > 0; count--) {
        const message = subscriber.queue.shift();
        if (message !== undefined && subscriber.active) deliver(subscriber, message);
      }
    }
  }
}

const wireClosed: WireError = { code: "disconnected", message: "the wire is closed" };

/** A handler that throws is a broken invariant: it surfaces, but costs nobody a message. */
function deliver(subscriber: Subscriber, message: Message): void {
  try {
    subscriber.handler(message);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

async function answer(
  responder: Responder,
  payload: Json,
  subject: string,
): Promise<Result<Json, WireError>> {
  try {
    return ok(frozenCopy(await responder.handler(payload, subject)));
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    return err({ code: "failed", message: `the responder of ${subject} failed: ${cause}` });
  }
}
