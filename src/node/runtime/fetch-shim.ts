// Runs inside an app's sandbox, as the app: `bun fetch-shim.ts ENTRY SOCKET [GATE]`. It serves the
// fetch handler that ENTRY exports by default on the unix socket SOCKET. A file SOCKET.listens
// tells Lode that it does. With GATE, a descriptor, it was started ahead of need: it waits there
// for a byte before it touches anything of the app's.
//
// Self-contained (this text is embedded in the lode executable and written out for apps). It
// imports nothing of Node's while somebody waits: `node:fs`, `node:path` and `node:url` would
// nearly double the CPU time of a start (8 ms instead of 5).

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
  const module = await import(Bun.pathToFileURL(entry).href);
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

/**
 * Blocks, so that nothing at all happens meanwhile. No byte: lode has died, nobody will come. The
 * first module that Bun loads costs 0.5 ms more than the next: that is one of Lode's.
 */
async function waitAt(gate: number): Promise<void> {
  const { closeSync, readSync } = await import("node:fs");
  await import(Bun.pathToFileURL(`${import.meta.dir}/warm-up.ts`).href);
  if (readSync(gate, new Uint8Array(1)) !== 1) process.exit(125);
  closeSync(gate);
  // The app finds the same arguments as without a gate.
  process.argv.length = 4;
}

async function main(entry?: string, socket?: string, gate?: string): Promise<void> {
  if (entry === undefined || socket === undefined) fail("usage: fetch-shim ENTRY SOCKET");
  if (gate !== undefined) await waitAt(Number(gate));
  const app = await load(entry);
  const server = Bun.serve({ ...options(app), unix: socket } as Parameters<typeof Bun.serve>[0]);
  // Synchronous, as all small writes of Bun's.
  void Bun.write(`${socket}.listens`, "");
  process.once("SIGTERM", () => {
    setTimeout(() => process.exit(0), stopGraceMs).unref();
    server.stop().then(() => process.exit(0));
  });
}

await main(...process.argv.slice(2));
