import { ok } from "../../../base/result.ts";
import { type Answered, type ClientError, pause, reasonOf, type Transport } from "./transport.ts";

export interface ReceivedEvent {
  readonly event: string;
  readonly data: string;
}

export interface FollowOptions {
  readonly path: string;
  readonly signal?: AbortSignal;
  /** Return "done" to stop. */
  readonly onEvent: (event: ReceivedEvent) => "more" | "done";
  /** Called when the stream broke, before it is taken up again. */
  readonly onInterruption?: (error: ClientError) => void;
}

const pauseMsMin = 200;
const pauseMsMax = 2000;
/** Without a connection for so long, following ends with the error. */
const patienceMs = 30_000;

/**
 * Reads server-sent events until `onEvent` says "done" or `signal` fires. A broken stream is
 * taken up after the last event that came, so each is seen once; the first connection is not
 * retried, since then there is nobody to wait for.
 */
export async function followEvents(transport: Transport, options: FollowOptions): Answered<void> {
  let lastId: string | null = null;
  let failedForMs = 0;
  let pauseMs = pauseMsMin;
  for (let first = true; ; first = false) {
    const opened = await transport.ask({
      method: "GET",
      path: options.path,
      headers: {
        Accept: "text/event-stream",
        ...(lastId === null ? {} : { "Last-Event-ID": lastId }),
      },
      repeatable: false,
      timeoutMs: null,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    if (options.signal?.aborted) return ok(undefined);
    let interruption: ClientError;
    if (opened.ok) {
      failedForMs = 0;
      pauseMs = pauseMsMin;
      const read = await readEvents(opened.value, options, (id) => {
        lastId = id;
      });
      if (read === "done" || options.signal?.aborted) return ok(undefined);
      interruption = { kind: "unreachable", url: options.path, code: null, message: read };
    } else {
      if (first || !isPassing(opened.error) || failedForMs >= patienceMs) return opened;
      interruption = opened.error;
    }
    options.onInterruption?.(interruption);
    await pause(pauseMs);
    failedForMs += pauseMs;
    pauseMs = Math.min(pauseMs * 2, pauseMsMax);
  }
}

function isPassing(error: ClientError): boolean {
  return error.kind === "problem" ? error.problem.status >= 500 : error.kind === "unreachable";
}

/** "done", or why the stream ended. */
async function readEvents(
  response: Response,
  options: FollowOptions,
  onId: (id: string) => void,
): Promise<string> {
  if (response.body === null) return "the stream is empty";
  const decoder = new TextDecoder();
  let buffered = "";
  try {
    for await (const chunk of response.body) {
      buffered += decoder.decode(chunk, { stream: true });
      const blocks = buffered.split("\n\n");
      buffered = blocks.pop() ?? "";
      for (const block of blocks) {
        const { id, event, data } = parseEvent(block);
        if (data === null) continue;
        if (options.onEvent({ event, data }) === "done") return "done";
        if (id !== null) onId(id);
      }
    }
    return "the stream ended";
  } catch (cause) {
    return reasonOf(cause);
  }
}

function parseEvent(block: string) {
  let id: string | null = null;
  let event = "message";
  let data: string | null = null;
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (line.startsWith("id:")) id = value;
    if (line.startsWith("event:")) event = value;
    if (line.startsWith("data:")) data = data === null ? value : `${data}\n${value}`;
  }
  return { id, event, data };
}
