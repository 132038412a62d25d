import { mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { ensureNpmBinary, output } from "./install.ts";

const worker = `export default {
  fetch(request) {
    const name = new URL(request.url).searchParams.get("name") ?? "world";
    return new Response("Hello, " + name + "!\\n");
  },
};
`;

/** Cloudflare's workerd, with isolates of the hello program, each on a port of its own. */
export class Workerd {
  readonly version: string;
  private readonly binary: string;
  private readonly folder: string;

  private constructor(binary: string, folder: string, version: string) {
    this.binary = binary;
    this.folder = folder;
    this.version = version;
  }

  static async prepare(folder: string): Promise<Workerd> {
    const binary = await ensureNpmBinary("workerd", "@cloudflare/workerd-linux-64/bin/workerd");
    mkdirSync(folder, { recursive: true });
    await Bun.write(join(folder, "worker.js"), worker);
    const version = (await output([binary, "--version"])).text;
    return new Workerd(binary, folder, version.replace(/^workerd /, ""));
  }

  /** One workerd process with an isolate for each port. */
  async start(ports: readonly number[]): Promise<Bun.Subprocess> {
    const config = join(this.folder, `config-${ports[0]}.capnp`);
    await Bun.write(config, configuration(ports));
    return this.exec(config);
  }

  async writeConfig(port: number): Promise<string> {
    const config = join(this.folder, `single-${port}.capnp`);
    await Bun.write(config, configuration([port]));
    return config;
  }

  exec(config: string): Bun.Subprocess {
    const log = openSync(join(this.folder, "workerd.log"), "a");
    return Bun.spawn([this.binary, "serve", config], {
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
  }
}

function configuration(ports: readonly number[]): string {
  const services = ports.map((port) => `(name = "w${port}", worker = .worker)`);
  const sockets = ports.map(
    (port) => `(name = "s${port}", address = "127.0.0.1:${port}", http = (), service = "w${port}")`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [${services.join(", ")}],
  sockets = [${sockets.join(", ")}]
);
const worker :Workerd.Worker = (
  modules = [(name = "main", esModule = embed "worker.js")],
  compatibilityDate = "2025-01-01"
);
`;
}
