// The back ends behind the gateway, as real programs: Bun.serve, node:http, and Debian's nginx
// and HAProxy, each in front of an echo of its own.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureProgram } from "../../bench/peers/install.ts";
import { repository } from "../harness/cloud.ts";
import { freePorts, until } from "../harness/host.ts";

export const backEnds = ["bun", "node", "nginx", "haproxy"] as const;
export type BackEnd = (typeof backEnds)[number];

const folder = join(repository, "test/fuzz/servers");
const bun = join(repository, "tools/bun");

export interface Seen {
  readonly count: number;
  readonly problems: readonly string[];
}

export interface Server {
  readonly port: number;
  /** Requests that the back end itself logged, without those it found malformed; null: no log. */
  logged(): number | null;
  /** What the last server in the row saw. */
  seen(): Promise<Seen>;
  stop(): Promise<void>;
}

export interface Child {
  readonly process: Bun.Subprocess;
  readonly told: Readonly<Record<string, number>>;
}

/** Starts a program whose first line is JSON with its ports. */
export async function startChild(command: readonly string[]): Promise<Child> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  let text = "";
  for await (const bytes of child.stdout) {
    text += Buffer.from(bytes).toString();
    if (text.includes("\n")) break;
  }
  if (!text.includes("\n")) throw new Error(`${command.join(" ")} told nothing`);
  return { process: child, told: JSON.parse(text.split("\n")[0] ?? "") };
}

export async function stopChild(child: Bun.Subprocess): Promise<number> {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  const code = await child.exited;
  clearTimeout(timer);
  return code;
}

export const startGatewayProcess = (ports: Readonly<Record<string, number>>): Promise<Child> =>
  startChild([bun, join(folder, "gateway.ts"), JSON.stringify(ports)]);

export const startNaiveProcess = (port: number): Promise<Child> =>
  startChild([bun, join(folder, "naive.ts"), String(port)]);

async function startEcho(kind: "bun" | "node"): Promise<Server> {
  const command =
    kind === "bun" ? [bun, join(folder, "bun.ts")] : ["node", join(folder, "node.mjs")];
  const child = await startChild(command);
  return {
    port: child.told["port"] ?? 0,
    logged: () => null,
    async seen() {
      const answer = await fetch(`http://127.0.0.1:${child.told["control"]}/`);
      return (await answer.json()) as Seen;
    },
    stop: async () => void (await stopChild(child.process)),
  };
}

const nginxConfig = (port: number, app: number, at: string) => `
daemon off; master_process off; pid ${at}/pid; error_log ${at}/error.log crit;
events { worker_connections 4096; }
http {
  log_format seen '$status $http_x_request_id';
  access_log ${at}/access.log seen buffer=64k flush=1s;
  client_body_temp_path ${at}; proxy_temp_path ${at}; fastcgi_temp_path ${at};
  uwsgi_temp_path ${at}; scgi_temp_path ${at};
  keepalive_requests 1000000; large_client_header_buffers 8 64k; underscores_in_headers on;
  upstream app { server 127.0.0.1:${app}; keepalive 32; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port} backlog=1024;
    location / {
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_next_upstream off;
    }
  }
}
`;

const haproxyConfig = (port: number, app: number) => `
global
  maxconn 4096
  tune.bufsize 131072
  tune.http.maxhdr 200
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  retries 0
frontend in
  bind 127.0.0.1:${port}
  http-request set-var(txn.id) req.hdr(x-request-id)
  log stdout format raw local0
  log-format "%ST %[var(txn.id)]"
  default_backend app
backend app
  server app 127.0.0.1:${app}
`;

/** A back end that only forwards, in front of an echo that tells what it forwarded. */
async function startProxy(kind: "nginx" | "haproxy"): Promise<Server> {
  const echo = await startEcho("node");
  const at = mkdtempSync(join(tmpdir(), `lode-fuzz-${kind}-`));
  const [port = 0] = await freePorts(1);
  const config = join(at, "config");
  const isNginx = kind === "nginx";
  await Bun.write(
    config,
    isNginx ? nginxConfig(port, echo.port, at) : haproxyConfig(port, echo.port),
  );
  const log = join(at, "access.log");
  const program = await ensureProgram(kind, kind);
  const command = isNginx ? [program, "-c", config] : [program, "-db", "-f", config];
  const child = Bun.spawn(command, {
    ...{ stdin: "ignore", stdout: isNginx ? "ignore" : Bun.file(log), stderr: "ignore" },
  });
  await until(`${kind} listens`, async () => {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }).catch(
      () => null,
    );
    socket?.terminate();
    return socket !== null;
  });
  return {
    port,
    logged: () => loggedIn(log),
    seen: () => echo.seen(),
    async stop() {
      await stopChild(child);
      await echo.stop();
      rmSync(at, { recursive: true, force: true });
    },
  };
}

/** Requests in a log of "status id"; one without the gateway's id, or twice the same, throws. */
function loggedIn(file: string): number {
  const ids = new Set<string>();
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const [status = "", id = "-"] = line.split(" ");
    // What it could not read at all has no id to show; its status says so.
    if (line === "" || id === "-" || id === "") {
      if (/^[0-3]/.test(status)) throw new Error(`a request without an id was served: ${line}`);
      continue;
    }
    if (!/^g0-[a-z0-9]+-[a-z0-9]+$/.test(id) || ids.has(id)) {
      throw new Error(`a request that did not come from the gateway: ${line}`);
    }
    ids.add(id);
  }
  return ids.size;
}

export async function startServer(kind: BackEnd): Promise<Server> {
  return kind === "bun" || kind === "node" ? await startEcho(kind) : await startProxy(kind);
}
