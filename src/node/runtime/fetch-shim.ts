// Runs inside an app's sandbox, as the app: `bun fetch-shim.ts ENTRY SOCKET`. It serves the
// fetch handler that ENTRY exports by default on the unix socket SOCKET. The socket appears
// under that name only when it listens, which is how Lode knows that the app is ready.
//
// Self-contained (this text is embedded in the lode executable and written out for apps).
import { chmodSync, renameSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

interface App {
  readonly fetch: (request: Request, server: unknown) => Response | Promise<Response>;
  readonly [option: string]: unknown;
}

/** Options of the default export that `Bun.serve` understands and that are the app's to choose. */
const passedOn = ["websocket", "error", "routes", "development", "idleTimeout"];
/** After SIGTERM, requests in flight have so long; Lode's own grace is longer. */
const stopGraceMs = 8000;

function fail(message: string): never {
  console.error(`lode: ${message}`);
  process.exit(1);
}

async function load(entry: string): Promise<App> {
  const module = await import(pathToFileURL(resolve(entry)).href);
  const app = module.default;
  if (app !== null && app !== undefined && typeof app.fetch === "function") return app as App;
  const found = Object.keys(module);
  const exports = found.length === 0 ? "nothing" : found.join(", ");
  const example = 'export default { fetch(request) { return new Response("hello") } }';
  return fail(
    `${entry} must have a default export with a fetch function, such as ` +
      `\`${example}\`; it exports ${exports}`,
  );
}

function options(app: App): Record<string, unknown> {
  const chosen: Record<string, unknown> = {
    // The gateway, which knows the client, has the timeouts and the size limits.
    idleTimeout: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: (request: Request, server: unknown) => app.fetch(request, server),
  };
  for (const name of passedOn) {
    if (app[name] !== undefined) chosen[name] = app[name];
  }
  return chosen;
}

async function main(entry: string | undefined, socket: string | undefined): Promise<void> {
  if (entry === undefined || socket === undefined) fail("usage: fetch-shim ENTRY SOCKET");
  const app = await load(entry);
  const starting = `${socket}.starting`;
  const server = Bun.serve({ ...options(app), unix: starting } as Parameters<typeof Bun.serve>[0]);
  // Who may come near the socket is decided by the folder that it lies in.
  chmodSync(starting, 0o666);
  renameSync(starting, socket);
  process.once("SIGTERM", () => {
    setTimeout(() => process.exit(0), stopGraceMs).unref();
    server.stop().then(() => process.exit(0));
  });
}

await main(process.argv[2], process.argv[3]);
