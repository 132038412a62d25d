import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { adminSecret, createDouble, type Double } from "../../api/native/double.test.ts";
import { type ApiListener, serveApi } from "../../api/native/server.ts";
import { defaultApiLimits } from "../../api/native/services.ts";
import { seededRandom } from "../../base/virtual.ts";
import { systemClock } from "../../fabric/system.ts";
import { formatCloudEndpoint } from "../../model/endpoint.ts";
import { buildCli } from "./cli.ts";
import type { CliContext } from "./context.ts";

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly directory?: string;
  readonly stdin?: string;
  readonly isTerminal?: boolean;
  readonly confirm?: boolean | null;
  readonly interrupted?: AbortSignal;
  readonly onOutput?: (stdout: string) => void;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A real API over the double, and the data directory by which the CLI finds it. */
export interface TestCloud {
  readonly double: Double;
  readonly listener: ApiListener;
  readonly dataDirectory: string;
  readonly run: (args: readonly string[], options?: RunOptions) => Promise<Ran>;
  /** A new folder with these files. */
  readonly folder: (files: Readonly<Record<string, string>>, name?: string) => string;
  readonly stop: () => Promise<void>;
}

export function startTestCloud(): TestCloud {
  const double = createDouble(systemClock);
  const listener = serveApi({
    operations: double.operations,
    tokens: double.tokens,
    authenticator: double.authenticator,
    clock: systemClock,
    random: seededRandom(4),
    settings: { version: "0.1.0", hostNames: [], limits: defaultApiLimits },
    log: () => {},
    port: 0,
  });
  const scratch = mkdtempSync(join(tmpdir(), "lode-cli-"));
  const dataDirectory = join(scratch, "data");
  mkdirSync(dataDirectory);
  const apiUrl = `http://127.0.0.1:${listener.port}`;
  const endpoint = formatCloudEndpoint({ apiUrl, pid: process.pid, version: "0.1.0" });
  writeFileSync(join(dataDirectory, "endpoint.json"), endpoint);
  writeFileSync(join(dataDirectory, "admin.token"), `${adminSecret}\n`, { mode: 0o600 });
  let folders = 0;
  return {
    double,
    listener,
    dataDirectory,
    run: (args, options = {}) =>
      runCli(args, { ...options, env: { LODE_DATA_DIR: dataDirectory, ...options.env } }),
    folder(files, name = `app-${++folders}`) {
      const folder = join(scratch, "folders", name);
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(dirname(join(folder, path)), { recursive: true });
        writeFileSync(join(folder, path), content);
      }
      return folder;
    },
    async stop() {
      await listener.stop();
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

/** Runs the CLI in this process, with everything it touches in view. */
export async function runCli(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const written = { stdout: "", stderr: "" };
  const isTerminal = options.isTerminal === true;
  const output = (stream: "stdout" | "stderr") => ({
    isTerminal,
    write(data: string | Uint8Array) {
      written[stream] += typeof data === "string" ? data : Buffer.from(data).toString();
      options.onOutput?.(written.stdout);
    },
  });
  const context: CliContext = {
    version: "0.1.0",
    env: { NO_COLOR: "1", ...options.env },
    directory: options.directory ?? tmpdir(),
    stdout: output("stdout"),
    stderr: output("stderr"),
    stdin: {
      isTerminal,
      setRaw: () => {},
      async *bytes() {
        if (options.stdin !== undefined) yield new TextEncoder().encode(options.stdin);
      },
    },
    terminal: { size: () => ({ columns: 80, rows: 24 }), onResize: () => () => {} },
    fetch: (url, init) => fetch(url, init),
    now: () => Date.now(),
    interrupted: options.interrupted ?? new AbortController().signal,
    browse: async () => true,
    confirm: async () => options.confirm ?? null,
    askSecret: async () => "typed",
  };
  const code = await buildCli(context).run(args);
  return { code, ...written };
}
