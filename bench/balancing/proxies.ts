import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { ensureProgram } from "../peers/install.ts";

/** A reverse proxy in front of the instances, balancing by connections. */
export interface Balancer {
  readonly name: string;
  readonly port: number;
  readonly process: Bun.Subprocess;
}

/** Least connections over all workers: the counts are in shared memory (`zone`). */
function nginxConfig(port: number, sockets: readonly string[], folder: string): string {
  const servers = sockets.map((socket) => `server unix:${socket} max_fails=0;`);
  return `
daemon off; worker_processes auto; user root;
pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
  keepalive_requests 1000000;
  upstream app {
    zone app 256k; least_conn;
    ${servers.join("\n    ")}
    keepalive 64; keepalive_requests 1000000;
  }
  server {
    listen 127.0.0.1:${port} reuseport;
    location / {
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
    }
  }
}
`;
}

function haproxyConfig(port: number, sockets: readonly string[]): string {
  const servers = sockets.map((socket, index) => `  server i${index} unix@${socket}`);
  return `
global
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  http-reuse always
frontend in
  bind 127.0.0.1:${port}
  default_backend app
backend app
  balance leastconn
${servers.join("\n")}
`;
}

export async function startNginx(port: number, sockets: readonly string[], folder: string) {
  const program = await ensureProgram("nginx", "nginx");
  return start("nginx least_conn", port, folder, nginxConfig(port, sockets, folder), (file) => [
    ...[program, "-c", file],
  ]);
}

export async function startHaproxy(port: number, sockets: readonly string[], folder: string) {
  const program = await ensureProgram("haproxy", "haproxy");
  return start("HAProxy leastconn", port, folder, haproxyConfig(port, sockets), (file) => [
    ...[program, "-db", "-f", file],
  ]);
}

async function start(
  name: string,
  port: number,
  folder: string,
  config: string,
  command: (file: string) => string[],
): Promise<Balancer> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name.split(" ")[0]}.conf`);
  await Bun.write(file, config);
  const log = openSync(join(folder, "out"), "a");
  const child = Bun.spawn(command(file), { stdin: "ignore", stdout: log, stderr: log });
  return { name, port, process: child };
}
