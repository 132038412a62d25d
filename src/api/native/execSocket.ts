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

/**
 *   waiting (for the start frame) → opening (the session; input queues) → live → over
 *      └────────── refused, timed out, or the client left ──────────────────────→ over
 *
 * The client may leave at any moment, also while the session is being opened: whoever leaves
 * `live`, or arrives too late to enter it, closes the session.
 */
export function createExecSocket(
  services: Pick<Services, "clock" | "settings" | "log">,
  requestId: string,
  open: OpenSession,
): ExecSocket {
  let port: SocketPort | null = null;
  let state: State = { kind: "over" };
  let wakeSender: (() => void) | null = null;

  function end(code: number, reason: string): void {
    if (state.kind === "waiting") state.timeout.cancel();
    if (state.kind === "live") {
      state.alive.cancel();
      state.session.close();
    }
    state = { kind: "over" };
    wakeSender?.();
    port?.close(code, reason);
  }

  function refuse(problem: Problem): void {
    const document = problemDocument(problem, requestId);
    port?.send(JSON.stringify({ kind: "problem", problem: document }));
    end(4000, problem.code);
  }

  async function send(output: ExecOutput): Promise<void> {
    if (output.kind === "exit") {
      port?.send(JSON.stringify(output));
      end(1000, "exit");
      return;
    }
    const data = Buffer.from(output.data, "base64");
    const frame = new Uint8Array(data.byteLength + 1);
    frame[0] = streamBytes[output.stream];
    frame.set(data, 1);
    if (port?.send(frame) !== -1 || state.kind === "over") return;
    await new Promise<void>((resolve) => {
      wakeSender = resolve;
    });
    wakeSender = null;
  }

  async function pump(session: ExecSession): Promise<void> {
    try {
      for await (const output of session.output) {
        await send(output);
        if (state.kind === "over") return;
      }
      refuse({ code: "unavailable", detail: "The session ended without an exit code" });
    } catch (cause) {
      services.log("api.exec-broke", { requestId, cause: String(cause) });
      refuse({ code: "internal", detail: "The session broke" });
    }
  }

  async function begin(text: string): Promise<void> {
    const start = parse(execStartSchema, text);
    if ("code" in start) return refuse(start);
    if (state.kind === "waiting") state.timeout.cancel();
    const opening: State = { kind: "opening", queue: [], bytes: 0 };
    state = opening;
    const session = await open(start.value);
    if ((state as State) !== opening) {
      if (session.ok) session.value.close();
      return;
    }
    if (!session.ok) return refuse(problemOf(session.error));
    const { value } = session;
    const alive = services.clock.every(services.settings.limits.heartbeatMs, () =>
      value.input({ kind: "alive" }),
    );
    value.input({ kind: "alive" });
    state = { kind: "live", session: value, alive };
    port?.send(JSON.stringify({ kind: "started" }));
    for (const message of opening.queue) forward(value, message);
    void pump(value);
  }

  function forward(session: ExecSession, message: string | Uint8Array): void {
    if (typeof message !== "string") {
      session.input({ kind: "data", data: Buffer.from(message).toString("base64") });
      return;
    }
    const control = parse(execControlSchema, message);
    if ("code" in control) refuse(control);
    else session.input(control.value);
  }

  return {
    opened(opened) {
      port = opened;
      const timeout = services.clock.after(startWithinMs, () =>
        refuse({ code: "invalid", detail: "No start frame came within 10 s" }),
      );
      state = { kind: "waiting", timeout };
    },
    received(message) {
      if (state.kind === "waiting") {
        if (typeof message === "string") {
          begin(message).catch((cause) => {
            services.log("api.exec-broke", { requestId, cause: String(cause) });
            refuse({ code: "internal", detail: "The session could not be opened" });
          });
        } else refuse({ code: "invalid", detail: "The first frame must be text: a start frame" });
      } else if (state.kind === "opening") {
        state.bytes += message.length;
        if (state.bytes > queuedBytesMax) {
          refuse({ code: "tooLarge", detail: "Too much input before the command started" });
        } else state.queue.push(typeof message === "string" ? message : message.slice());
      } else if (state.kind === "live") forward(state.session, message);
    },
    drained: () => wakeSender?.(),
    closed: () => {
      port = null;
      end(1000, "closed");
    },
  };
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
