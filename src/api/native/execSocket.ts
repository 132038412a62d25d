import type { z } from "@hono/zod-openapi";
import type { Timer } from "../../base/time.ts";
import type { ExecSession, Outcome } from "../../control/operations.ts";
import type { ExecOutput } from "../../model/wire.ts";
import { type Problem, problemDocument, problemOf, schemaProblem } from "./problems.ts";
import { execControlSchema, execStartSchema } from "./schemas.ts";
import type { Services } from "./services.ts";

export const execProtocol = "lode.exec.v1";

export type OpenSession = (start: z.output<typeof execStartSchema>) => Outcome<ExecSession>;

/** The server's side of one socket: a part of Bun's ServerWebSocket. */
export interface SocketPort {
  /** -1: accepted but the client is slow; 0: dropped. */
  send(data: string | Uint8Array<ArrayBuffer>): number;
  close(code: number, reason: string): void;
}

export interface ExecSocket {
  opened(port: SocketPort): void;
  received(message: string | Uint8Array): void;
  drained(): void;
  closed(): void;
}

const startWithinMs = 10_000;
const queuedBytesMax = 1024 ** 2;
const streamBytes = { stdout: 1, stderr: 2 } as const;

type State =
  | { readonly kind: "waiting"; readonly timeout: Timer }
  | { readonly kind: "opening"; readonly queue: (string | Uint8Array)[]; bytes: number }
  | { readonly kind: "live"; readonly session: ExecSession; readonly alive: Timer }
  | { readonly kind: "over" };

export function createExecSocket(
  services: Pick<Services, "clock" | "settings" | "log">,
  requestId: string,
  open: OpenSession,
): ExecSocket {
  return new Conversation(services, requestId, open);
}

/**
 *   waiting (for the start frame) → opening (the session; input queues) → live → over
 *      └────────── refused, timed out, or the client left ──────────────────────→ over
 *
 * The client may leave at any moment, also while the session is being opened: whoever leaves
 * `live`, or arrives too late to enter it, closes the session.
 */
class Conversation implements ExecSocket {
  readonly #services: Pick<Services, "clock" | "settings" | "log">;
  readonly #requestId: string;
  readonly #open: OpenSession;
  #port: SocketPort | null = null;
  #state: State = { kind: "over" };
  #wakeSender: (() => void) | null = null;

  constructor(
    services: Pick<Services, "clock" | "settings" | "log">,
    requestId: string,
    open: OpenSession,
  ) {
    this.#services = services;
    this.#requestId = requestId;
    this.#open = open;
  }

  opened(port: SocketPort): void {
    this.#port = port;
    const timeout = this.#services.clock.after(startWithinMs, () =>
      this.#refuse({ code: "invalid", detail: "No start frame came within 10 s" }),
    );
    this.#state = { kind: "waiting", timeout };
  }

  received(message: string | Uint8Array): void {
    const state = this.#state;
    if (state.kind === "waiting") {
      if (typeof message === "string") void this.#begin(message);
      else this.#refuse({ code: "invalid", detail: "The first frame must be a start frame" });
    } else if (state.kind === "opening") {
      state.bytes += message.length;
      if (state.bytes > queuedBytesMax) {
        this.#refuse({ code: "tooLarge", detail: "Too much input before the command started" });
      } else state.queue.push(typeof message === "string" ? message : message.slice());
    } else if (state.kind === "live") this.#forward(state.session, message);
  }

  drained(): void {
    this.#wakeSender?.();
  }

  closed(): void {
    this.#port = null;
    this.#end(1000, "closed");
  }

  #end(code: number, reason: string): void {
    const state = this.#state;
    this.#state = { kind: "over" };
    if (state.kind === "waiting") state.timeout.cancel();
    if (state.kind === "live") {
      state.alive.cancel();
      state.session.close();
    }
    this.#wakeSender?.();
    this.#port?.close(code, reason);
  }

  #refuse(problem: Problem): void {
    const document = problemDocument(problem, this.#requestId);
    this.#port?.send(JSON.stringify({ kind: "problem", problem: document }));
    this.#end(4000, problem.code);
  }

  #broke(cause: unknown): void {
    this.#services.log("api.exec-broke", { requestId: this.#requestId, cause: String(cause) });
    this.#refuse({ code: "internal", detail: "The session broke" });
  }

  async #begin(text: string): Promise<void> {
    const start = parse(execStartSchema, text);
    if ("code" in start) return this.#refuse(start);
    if (this.#state.kind === "waiting") this.#state.timeout.cancel();
    const opening: State = { kind: "opening", queue: [], bytes: 0 };
    this.#state = opening;
    try {
      const session = await this.#open(start.value);
      if (this.#state !== opening) {
        if (session.ok) session.value.close();
      } else if (session.ok) this.#goLive(session.value, opening.queue);
      else this.#refuse(problemOf(session.error));
    } catch (cause) {
      this.#broke(cause);
    }
  }

  #goLive(session: ExecSession, queue: readonly (string | Uint8Array)[]): void {
    const { clock, settings } = this.#services;
    const sayAlive = () => session.input({ kind: "alive" });
    const alive = clock.every(settings.limits.heartbeatMs, sayAlive);
    this.#state = { kind: "live", session, alive };
    sayAlive();
    this.#port?.send(JSON.stringify({ kind: "started" }));
    for (const message of queue) this.#forward(session, message);
    void this.#pump(session);
  }

  #forward(session: ExecSession, message: string | Uint8Array): void {
    if (typeof message !== "string") {
      session.input({ kind: "data", data: Buffer.from(message).toString("base64") });
      return;
    }
    const control = parse(execControlSchema, message);
    if ("code" in control) this.#refuse(control);
    else session.input(control.value);
  }

  async #pump(session: ExecSession): Promise<void> {
    try {
      for await (const output of session.output) {
        await this.#send(output);
        if (this.#state.kind === "over") return;
      }
      this.#refuse({ code: "unavailable", detail: "The session ended without an exit code" });
    } catch (cause) {
      this.#broke(cause);
    }
  }

  async #send(output: ExecOutput): Promise<void> {
    if (output.kind === "exit") {
      this.#port?.send(JSON.stringify(output));
      this.#end(1000, "exit");
      return;
    }
    const data = Buffer.from(output.data, "base64");
    const frame = new Uint8Array(data.byteLength + 1);
    frame[0] = streamBytes[output.stream];
    frame.set(data, 1);
    if (this.#port?.send(frame) !== -1 || this.#state.kind === "over") return;
    await new Promise<void>((resolve) => {
      this.#wakeSender = resolve;
    });
    this.#wakeSender = null;
  }
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
): { readonly value: z.output<Schema> } | Problem {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { code: "invalid", detail: "The frame is not JSON" };
  }
  const parsed = schema.safeParse(json);
  return parsed.success ? { value: parsed.data } : schemaProblem("body", parsed.error.issues);
}
