import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { ensureProgram, output } from "./install.ts";

/** A reverse proxy that passes everything to one unix socket. */
export interface ReverseProxy {
  readonly name: string;
  readonly version: string;
  readonly process: Bun.Subprocess;
  readonly ports: Ports;
}

/** Where a proxy listens: HTTP/1.1 on one, HTTP/1.1 and HTTP/2 over TLS on the other. */
export interface Ports {
  readonly plain: number;
  readonly tls: number;
}

/** Files in PEM. */
export interface CertificateFiles {
  readonly chain: string;
  readonly key: string;
}

export interface ProxyKind {
  readonly name: string;
  readonly program: string;
  readonly debianPackage: string;
  readonly versionArgs: readonly string[];
  config(ports: Ports, socket: string, folder: string, tls: CertificateFiles): string;
  args(configFile: string): readonly string[];
}

/**
 * Each as its own manual recommends for a busy proxy: kept-alive upstream, one worker a core. nginx
 * writes an access log with what Lode's gateways write, gathered before it goes to the disk.
 */
export const proxyKinds: readonly ProxyKind[] = [
  {
    name: "nginx",
    program: "nginx",
    debianPackage: "nginx",
    versionArgs: ["-v"],
    config: (ports, socket, folder, tls) => `
daemon off; master_process on; worker_processes auto; user root;
pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
events { worker_connections 4096; }
http {
  log_format json escape=json '{"at":$msec,"requestId":"$request_id","method":"$request_method",'
    '"host":"$host","path":"$request_uri","status":$status,"bytesIn":$request_length,'
    '"bytesOut":$body_bytes_sent,"duration":$request_time,"upstream":"$upstream_response_time",'
    '"client":"$remote_addr","protocol":"$server_protocol","userAgent":"$http_user_agent"}';
  access_log ${folder}/nginx-access.log json buffer=64k flush=1s;
  client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
  keepalive_requests 1000000;
  upstream app { server unix:${socket}; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${ports.plain} reuseport;
    listen 127.0.0.1:${ports.tls} ssl http2 reuseport;
    ssl_certificate ${tls.chain}; ssl_certificate_key ${tls.key};
    location / {
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id;
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
    config: (ports, socket, _folder, tls) => `
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:${ports.plain}
  bind 127.0.0.1:${ports.tls} ssl crt ${tls.chain} alpn h2,http/1.1
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
    config: (ports, socket, _folder, tls) => `
{
  admin off
  auto_https off
}
http://:${ports.plain} {
  reverse_proxy unix/${socket}
}
https://localhost:${ports.tls} {
  tls ${tls.chain} ${tls.key}
  reverse_proxy unix/${socket}
}
`,
    args: (config) => ["run", "--config", config, "--adapter", "caddyfile"],
  },
];

export async function startProxy(
  kind: ProxyKind,
  ports: Ports,
  socket: string,
  folder: string,
  tls: CertificateFiles,
): Promise<ReverseProxy> {
  const program = await ensureProgram(kind.program, kind.debianPackage);
  mkdirSync(folder, { recursive: true });
  const configFile = join(folder, kind.name);
  await Bun.write(configFile, kind.config(ports, socket, folder, tls));
  const log = openSync(join(folder, `${kind.name}.out`), "a");
  const version = (await output([program, ...kind.versionArgs])).text.split("\n")[0] ?? "";
  const child = Bun.spawn([program, ...kind.args(configFile)], {
    env: { ...process.env, HOME: folder },
    stdin: "ignore",
    stdout: log,
    stderr: log,
  });
  const number = /\d+\.\d+(\.\d+)?/.exec(version)?.[0] ?? version;
  return { name: kind.name, version: number, process: child, ports };
}

/** For one host, trusted by nobody. The chain's file holds the key too, as HAProxy wants it. */
export async function makeCertificate(folder: string, host: string): Promise<CertificateFiles> {
  mkdirSync(folder, { recursive: true });
  const [chain, key] = [join(folder, `${host}.pem`), join(folder, `${host}.key`)];
  const made = await output([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-nodes", "-days", "2", "-subj", `/CN=${host}`, "-addext", `subjectAltName=DNS:${host}`],
    ...["-keyout", key, "-out", chain],
  ]);
  if (made.code !== 0) throw new Error(`openssl: ${made.text}`);
  await Bun.write(chain, `${await Bun.file(chain).text()}${await Bun.file(key).text()}`);
  return { chain, key };
}
