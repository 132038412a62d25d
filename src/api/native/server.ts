import { type ApiDependencies, createApi } from "./api.ts";
import { problemResponse } from "./problems.ts";

export interface ApiListener {
  readonly hostname: string;
  readonly port: number;
  /** Ends the listener and every connection. */
  stop(): Promise<void>;
}

/**
 * Serves the API. `port` 0 takes a free one. Throws what `Bun.serve` throws when the port is
 * taken (`code` EADDRINUSE).
 */
export function serveApi(
  options: ApiDependencies & { readonly port: number; readonly hostname?: string },
): ApiListener {
  const api = createApi(options);
  const server = Bun.serve<unknown>({
    port: options.port,
    hostname: options.hostname ?? "127.0.0.1",
    idleTimeout: 60,
    development: false,
    // Without development Bun shares the port with whoever comes next.
    reusePort: false,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: (request, served) =>
      api.fetch(request, {
        timeout: (which, seconds) => served.timeout(which, seconds),
        upgrade: (which, settings) => served.upgrade(which, settings),
      }) as Promise<Response>,
    error(cause) {
      const requestId = options.random.token(12);
      options.log("api.failed", { requestId, cause: String(cause.stack ?? cause) });
      return problemResponse({ code: "internal", detail: "Lode failed inside" }, requestId);
    },
    websocket: api.websocket,
  });
  return {
    hostname: server.hostname ?? "127.0.0.1",
    port: server.port ?? options.port,
    stop: () => server.stop(true),
  };
}
