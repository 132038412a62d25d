// The control: a forwarder as one writes it who never heard of smuggling. It believes the first
// Content-Length whatever else is there, forgives what it does not understand, and passes bytes
// on as they are. Every judge must find it out, in memory and on sockets.

import { endFor, type Personality } from "./personalities.ts";
import { readAnswer } from "./twin.ts";

/** What it uses of a socket. */
export interface NaiveSocket {
  write(text: string): number;
  terminate(): void;
}

interface Waiting {
  readonly client: NaiveSocket;
  readonly method: string;
}

const credulous: Personality = {
  name: "credulous",
  lineEnd: /\r?\n/g,
  prefers: "length",
  length: "first",
  nameOf: (sent) => sent.toLowerCase(),
  isChunked: (coding) => coding === "chunked",
};

let forwarded = 0;

/** One connection to the app for all clients, as a pool with one place. */
export class NaiveForwarder {
  private readonly dial: (handlers: { data(text: string): void; gone(): void }) => NaiveSocket;
  private app: NaiveSocket | null = null;
  private readonly waiting: Waiting[] = [];
  private answered = "";
  private readonly texts = new Map<NaiveSocket, string>();

  constructor(dial: (handlers: { data(text: string): void; gone(): void }) => NaiveSocket) {
    this.dial = dial;
  }

  received(client: NaiveSocket, text: string): void {
    let rest = (this.texts.get(client) ?? "") + text;
    for (let end = endFor(credulous, rest); end > 0; end = endFor(credulous, rest)) {
      this.forward(client, rest.slice(0, end));
      rest = rest.slice(end);
    }
    this.texts.set(client, rest);
  }

  left(client: NaiveSocket): void {
    this.texts.delete(client);
  }

  private forward(client: NaiveSocket, message: string): void {
    this.app ??= this.dial({
      data: (text) => this.answer(text),
      gone: () => this.lost(),
    });
    this.waiting.push({ client, method: /^\w*/.exec(message)?.[0] ?? "" });
    forwarded += 1;
    // The same fields as the gateway adds, so that nothing but framing tells the two apart.
    const own =
      "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n" +
      `X-Request-Id: g0-naive0-${forwarded.toString(36)}\r\n`;
    // What it does not take for a head it passes on as it is.
    const isHead = /^\S+ \S+ HTTP\/1/.test(message);
    const marked = message.replace(/\r?\n(\r?\n)/, (_, end: string) => `\r\n${own}${end}`);
    this.app.write(isHead ? marked : message);
  }

  private answer(text: string): void {
    this.answered += text;
    for (let [first] = this.waiting; first !== undefined; [first] = this.waiting) {
      const read = readAnswer(this.answered, 0, { method: first.method, upgrade: null });
      if (read.kind !== "answer") return;
      first.client.write(this.answered.slice(0, read.answer.end));
      this.answered = this.answered.slice(read.answer.end);
      this.waiting.shift();
    }
  }

  private lost(): void {
    this.app = null;
    this.answered = "";
    for (const { client } of this.waiting.splice(0)) client.terminate();
  }
}
