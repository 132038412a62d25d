import { err, ok, type Result } from "../../../base/result.ts";
import type { ProblemDocument } from "../problems.ts";
import type { ClientError, Endpoint } from "./transport.ts";

export type ExecEvent =
  | {
      readonly kind: "data";
      readonly stream: "stdout" | "stderr";
      readonly data: Uint8Array<ArrayBuffer>;
    }
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "problem"; readonly problem: ProblemDocument }
  /** The connection went before the command ended. */
  | { readonly kind: "lost" };

export interface ExecStart {
  readonly argv: readonly string[];
  readonly instance: string | null;
  readonly terminal: { readonly columns: number; readonly rows: number } | null;
}

export interface ExecChannel {
  /** Resolves once the connection took it. */
  send(data: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Ends the command's standard input. */
  eof(): void;
  resize(columns: number, rows: number): void;
  signal(name: string): void;
  /** Ends after `exit`, `problem` or `lost`. */
  readonly events: AsyncIterable<ExecEvent>;
  close(): void;
}

const bufferedBytesMax = 1024 ** 2;
const bufferPollMs = 5;

/** Opens the socket and starts the command; a refusal comes as the first event. */
export async function openExec(
  endpoint: Endpoint,
  path: string,
  start: ExecStart,
): Promise<Result<ExecChannel, ClientError>> {
  const url = `${endpoint.apiUrl.replace(/^http/, "ws")}${path}`;
  const protocols = ["lode.exec.v1"];
  if (endpoint.token !== null) protocols.push(`lode.bearer.${endpoint.token}`);
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  const events = createEventQueue();
  const opened = await new Promise<boolean>((resolve) => {
    socket.addEventListener("open", () => resolve(true));
    socket.addEventListener("error", () => resolve(false));
    socket.addEventListener("close", () => {
      resolve(false);
      events.push({ kind: "lost" });
    });
    socket.addEventListener("message", (message) => {
      const event = eventOf(message.data as string | ArrayBuffer);
      if (event !== null) events.push(event);
    });
  });
  if (!opened) {
    return err({ kind: "unreachable", url, code: null, message: "the socket could not be opened" });
  }
  const control = (message: object) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  control({ kind: "start", ...start });
  return ok({
    async send(data) {
      while (socket.bufferedAmount > bufferedBytesMax && socket.readyState === WebSocket.OPEN) {
        await new Promise((resolve) => setTimeout(resolve, bufferPollMs));
      }
      if (socket.readyState === WebSocket.OPEN) socket.send(data);
    },
    eof: () => control({ kind: "eof" }),
    resize: (columns, rows) => control({ kind: "resize", columns, rows }),
    signal: (signal) => control({ kind: "signal", signal }),
    events,
    close: () => socket.close(),
  });
}

function eventOf(message: string | ArrayBuffer): ExecEvent | null {
  if (typeof message === "string") {
    const event = JSON.parse(message) as ExecEvent | { readonly kind: "started" };
    return event.kind === "started" ? null : event;
  }
  const bytes = new Uint8Array(message);
  return { kind: "data", stream: bytes[0] === 2 ? "stderr" : "stdout", data: bytes.slice(1) };
}

/** What came and was not read yet; its first end is its last event. */
function createEventQueue() {
  const queue: ExecEvent[] = [];
  let wake: (() => void) | null = null;
  return {
    push(event: ExecEvent) {
      queue.push(event);
      wake?.();
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<ExecEvent, void> {
      for (;;) {
        const event = queue.shift();
        if (event !== undefined) {
          yield event;
          if (event.kind !== "data") return;
          continue;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = null;
      }
    },
  };
}
