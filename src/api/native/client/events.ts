import { ok } from "../../../base/result.ts";
import { type Answered, type ClientError, pause, type Transport } from "./transport.ts";

export interface ReceivedEvent {
  readonly event: string;
  readonly data: string;
}

export interface FollowOptions {
  readonly path: string;
  readonly signal?: AbortSignal;
  /** Return "done" to stop. */
  readonly onEvent: (event: ReceivedEvent) => "more" | "done";
  /** How long nobody may be there before following ends with the error; 30 s unless given. */
  readonly absentMsMax?: number;
  /** Called once when the stream broke, before it is taken up again. */
  readonly onInterruption?: () => void;
}

const pauseMsMin = 200;
const pauseMsMax = 2000;
/** For a cloud that is there and cannot answer yet. */
const unreadyMsMax = 30_000;
/** The server says something every 10 s; without it, it is gone though no connection broke. */
const silenceMsMax = 25_000;

/**
 * Reads server-sent events until `onEvent` says "done" or `signal` fires. A broken stream is
 * taken up after the last event that came, so each is seen once; the first connection is not
 * retried, since then there is nobody to wait for.
 */
export async function followEvents(transport: Transport, options: FollowOptions): Answered<void> {
  const { signal } = options;
  let lastId: string | null = null;
  let brokenAt: number | null = null;
  let pauseMs = pauseMsMin;
  for (let first = true; ; first = false) {
    const silence = new Silence(silenceMsMax);
    const opened = await transport.ask({
      method: "GET",
      path: options.path,
      headers: {
        Accept: "text/event-stream",
        ...(lastId === null ? {} : { "Last-Event-ID": lastId }),
      },
      repeatable: false,
      timeoutMs: null,
      signal: signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]),
    });
    if (opened.ok) {
      brokenAt = null;
      pauseMs = pauseMsMin;
      const read = await readEvents(opened.value, options, silence, (id) => {
        lastId = id;
      });
      if (read === "done") return ok(undefined);
    }
    silence.end();
    if (signal?.aborted) return ok(undefined);
    const now = performance.now();
    if (brokenAt === null) options.onInterruption?.();
    brokenAt ??= now;
    if (!opened.ok && (first || now - brokenAt >= patienceMsOf(opened.error, options))) {
      return opened;
    }
    await pause(pauseMs);
    pauseMs = Math.min(pauseMs * 2, pauseMsMax);
  }
}

/** Aborts when nothing was heard for a while. */
class Silence {
  readonly #controller = new AbortController();
  readonly #msMax: number;
  #timer: ReturnType<typeof setTimeout>;

  constructor(msMax: number) {
    this.#msMax = msMax;
    this.#timer = this.#arm();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#arm();
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #arm(): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#controller.abort(), this.#msMax);
  }
}

/** 0: waiting does not mend it. */
function patienceMsOf(error: ClientError, { absentMsMax = 30_000 }: FollowOptions): number {
  if (error.kind === "unreachable") return absentMsMax;
  return error.kind === "problem" && error.problem.status >= 500 ? unreadyMsMax : 0;
}

/** "done", or that the stream ended. */
async function readEvents(
  response: Response,
  options: FollowOptions,
  silence: Silence,
  onId: (id: string) => void,
): Promise<"done" | "broken"> {
  if (response.body === null) return "broken";
  const decoder = new TextDecoder();
  let buffered = "";
  try {
    for await (const chunk of response.body) {
      silence.heard();
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
  } catch {
    // The next attempt tells why.
  } finally {
    silence.end();
  }
  return "broken";
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
