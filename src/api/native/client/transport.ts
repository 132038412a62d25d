import { err, ok, type Result } from "../../../base/result.ts";
import type { ProblemDocument } from "../problems.ts";

export type ClientError =
  /** No answer: nobody listens there, or the connection broke. */
  | {
      readonly kind: "unreachable";
      readonly url: string;
      /** The system's, such as ECONNREFUSED, where it has one. */
      readonly code: string | null;
      readonly message: string;
    }
  | { readonly kind: "problem"; readonly problem: ProblemDocument }
  /** Somebody answered, but not Lode. */
  | { readonly kind: "notLode"; readonly url: string; readonly message: string };

export type Answered<Value> = Promise<Result<Value, ClientError>>;

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface Endpoint {
  /** Without a slash at the end. */
  readonly apiUrl: string;
  /** Null: only what is open may be asked. */
  readonly token: string | null;
}

export interface Ask {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly json?: unknown;
  /** A body that is not JSON; called again for each attempt. */
  readonly body?: () => Blob | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Doing it twice is as good as once, so a broken connection is tried again. */
  readonly repeatable: boolean;
  /** Null: as long as it takes. */
  readonly timeoutMs: number | null;
  readonly signal?: AbortSignal;
}

export interface Transport {
  /** Answers of status 200–399 only; all others are errors. */
  ask(ask: Ask): Answered<Response>;
  /** As `ask`, with the JSON of the answer; undefined for an empty one. */
  askJson<Value>(ask: Ask): Answered<Value>;
}

const pausesMs = [100, 400];
/** Failures to read a body that is a file: no fault of the connection. */
export const fileCodes: ReadonlySet<string> = new Set([
  "ENOENT",
  "EACCES",
  "EPERM",
  "EISDIR",
  "EIO",
]);

export function createTransport(endpoint: Endpoint, fetch: Fetch): Transport {
  async function attempt(ask: Ask): Answered<Response> {
    const url = `${endpoint.apiUrl}${ask.path}`;
    const headers = new Headers(ask.headers);
    if (endpoint.token !== null) headers.set("Authorization", `Bearer ${endpoint.token}`);
    if (ask.json !== undefined) headers.set("Content-Type", "application/json");
    const body = ask.json === undefined ? ask.body?.() : JSON.stringify(ask.json);
    const signals = [
      ...(ask.signal === undefined ? [] : [ask.signal]),
      ...(ask.timeoutMs === null ? [] : [AbortSignal.timeout(ask.timeoutMs)]),
    ];
    try {
      const response = await fetch(url, {
        method: ask.method,
        headers,
        ...(body === undefined ? {} : { body }),
        ...(signals.length === 0 ? {} : { signal: AbortSignal.any(signals) }),
      });
      return response.status < 400 ? ok(response) : err(await errorOf(url, response));
    } catch (cause) {
      return err({ kind: "unreachable", url, code: codeOf(cause), message: reasonOf(cause) });
    }
  }

  async function ask(wanted: Ask): Answered<Response> {
    let outcome = await attempt(wanted);
    for (const pauseMs of wanted.repeatable ? pausesMs : []) {
      if (outcome.ok || outcome.error.kind !== "unreachable") return outcome;
      if (fileCodes.has(outcome.error.code ?? "") || isRefused(outcome.error)) return outcome;
      if (wanted.signal?.aborted) return outcome;
      await pause(pauseMs);
      outcome = await attempt(wanted);
    }
    return outcome;
  }

  return {
    ask,
    async askJson<Value>(wanted: Ask): Answered<Value> {
      const outcome = await ask(wanted);
      if (!outcome.ok) return outcome;
      const url = `${endpoint.apiUrl}${wanted.path}`;
      try {
        const text = await outcome.value.text();
        return ok((text === "" ? undefined : JSON.parse(text)) as Value);
      } catch (cause) {
        if (!(cause instanceof SyntaxError)) {
          return err({ kind: "unreachable", url, code: codeOf(cause), message: reasonOf(cause) });
        }
        return err({ kind: "notLode", url, message: "the answer is not JSON" });
      }
    },
  };
}

export function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

export function isRefused(error: ClientError): boolean {
  return error.kind === "unreachable" && error.message === "connection refused";
}

function codeOf(cause: unknown): string | null {
  const { code } = cause as { code?: unknown };
  return typeof code === "string" ? code : null;
}

/** The cause of a failed fetch, in words. */
export function reasonOf(cause: unknown): string {
  const { message } = cause as { message?: unknown };
  const code = codeOf(cause);
  if (code === "ConnectionRefused" || code === "ECONNREFUSED") return "connection refused";
  if (code === "ConnectionClosed" || code === "ECONNRESET") return "connection closed";
  if (cause instanceof DOMException && cause.name === "TimeoutError") return "no answer in time";
  return typeof message === "string" ? message : String(cause);
}

async function errorOf(url: string, response: Response): Promise<ClientError> {
  const text = await response.text();
  if (response.headers.get("content-type")?.startsWith("application/problem+json")) {
    try {
      return { kind: "problem", problem: JSON.parse(text) as ProblemDocument };
    } catch {
      return { kind: "notLode", url, message: "the problem document is not JSON" };
    }
  }
  return { kind: "notLode", url, message: `HTTP status ${response.status}` };
}
