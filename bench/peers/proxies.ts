import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { ensureProgram, output } from "./install.ts";

/** A reverse proxy that listens on `port` and passes everything to one unix socket. */
export interface Proxy {
  readonly name: string;
  readonly version: string;
  readonly process: Bun.Subprocess;
  readonly port: number;
}

interface ProxyKind {
  readonly name: string;
  readonly program: string;
  readonly debianPackage: string;
  readonly versionArgs: readonly string[];
  config(port: number, socket: string, folder: string): string;
  args(configFile: string): readonly string[];
}

/** Each as its own manual recommends for a busy proxy: kept-alive upstream, one worker a core. */
export const proxyKinds: readonly ProxyKind[] = [
  {
    name: "nginx",
    program: "nginx",
    debianPackage: "nginx",
    versionArgs: ["-v"],
    config: (port, socket, folder) => `
daemon off; master_process on; worker_processes auto; user root;
pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
  keepalive_requests 1000000;
  upstream app { server unix:${socket}; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port} reuseport;
    location / {
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
    }
  }
}
`,
    args: (config) => ["-c", config],
  },
  {
    name: "HAProxy",
    program: "haproxy",
    debianPackage: "haproxy",
    versionArgs: ["-v"],
    config: (port, socket) => `
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:${port}
  default_backend app
backend app
  server app unix@${socket}
`,
    args: (config) => ["-db", "-f", config],
  },
  {
    name: "Caddy",
    program: "caddy",
    debianPackage: "caddy",
    versionArgs: ["version"],
    config: (port, socket) => `
{
  admin off
  auto_https off
}
http://:${port} {
  reverse_proxy unix/${socket}
}
`,
    args: (config) => ["run", "--config", config, "--adapter", "caddyfile"],
  },
];

export async function startProxy(
  kind: ProxyKind,
  port: number,
  socket: string,
  folder: string,
): Promise<Proxy> {
  const program = await ensureProgram(kind.program, kind.debianPackage);
  mkdirSync(folder, { recursive: true });
  const configFile = join(folder, kind.name);
  await Bun.write(configFile, kind.config(port, socket, folder));
  const log = openSync(join(folder, `${kind.name}.out`), "a");
  const version = (await output([program, ...kind.versionArgs])).text.split("\n")[0] ?? "";
  const child = Bun.spawn([program, ...kind.args(configFile)], {
    env: { ...process.env, HOME: folder },
    stdin: "ignore",
    stdout: log,
    stderr: log,
  });
  const number = /\d+\.\d+(\.\d+)?/.exec(version)?.[0] ?? version;
  return { name: kind.name, version: number, process: child, port };
}
