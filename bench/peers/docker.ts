import { copyFileSync, mkdirSync, openSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { firstByteMs } from "../client.ts";
import { ensureProgram, output, stop } from "./install.ts";

const base = "lode-bench/bun";

const bridge = "lodebench0";
const bridgeAddress = "10.213.77.1/24";

/**
 * `published` is what `docker run -p` gives by default: a network of the container's own, with
 * a proxy in front. `host` leaves that isolation out.
 */
export type DockerNetwork = "published" | "host";

/**
 * A dockerd of the benchmark's own: data, socket and containerd in its folder, a bridge of its
 * own, and no firewall rules.
 */
export class Docker {
  readonly version: string;
  private readonly folder: string;
  private readonly daemon: Bun.Subprocess;
  private readonly client: string;
  private readonly env: Readonly<Record<string, string>>;

  private constructor(
    folder: string,
    daemon: Bun.Subprocess,
    client: string,
    env: Readonly<Record<string, string>>,
    version: string,
  ) {
    this.folder = folder;
    this.daemon = daemon;
    this.client = client;
    this.env = env;
    this.version = version;
  }

  static async start(folder: string, bun: string): Promise<Docker> {
    const daemonPath = await ensureProgram("dockerd", "docker.io");
    const client = await ensureProgram("docker", "docker.io");
    mkdirSync(folder, { recursive: true });
    const socket = `unix://${folder}/docker.sock`;
    const log = openSync(join(folder, "dockerd.log"), "a");
    await output(["ip", "link", "add", bridge, "type", "bridge"]);
    await output(["ip", "address", "add", bridgeAddress, "dev", bridge]);
    await output(["ip", "link", "set", bridge, "up"]);
    const daemon = Bun.spawn(
      [
        ...[daemonPath, "--data-root", `${folder}/data`, "--exec-root", `${folder}/exec`],
        ...["-H", socket, "--pidfile", `${folder}/pid`, "--iptables=false", "--bridge", bridge],
      ],
      { stdin: "ignore", stdout: log, stderr: log },
    );
    const env = { DOCKER_HOST: socket, DOCKER_BUILDKIT: "1" };
    try {
      const version = await waitForDaemon(daemon, client, env, join(folder, "dockerd.log"));
      const docker = new Docker(folder, daemon, client, env, version);
      await docker.importBase(folder, bun);
      return docker;
    } catch (error) {
      await stop(daemon);
      await output(["ip", "link", "delete", bridge]);
      throw error;
    }
  }

  /** An image of nothing but the runtime and the libraries it loads. */
  private async importBase(folder: string, bun: string): Promise<void> {
    const root = join(folder, "root");
    const libraries = (await output(["ldd", bun])).text.matchAll(/(\/\S+) \(0x/g);
    for (const path of [...libraries].map((match) => match[1] ?? "")) {
      mkdirSync(join(root, dirname(path)), { recursive: true });
      copyFileSync(realpathSync(path), join(root, path));
    }
    mkdirSync(join(root, "usr/bin"), { recursive: true });
    mkdirSync(join(root, "tmp"), { recursive: true });
    copyFileSync(bun, join(root, "usr/bin/bun"));
    await output(["tar", "-cf", join(folder, "root.tar"), "-C", root, "."]);
    await this.run(["import", join(folder, "root.tar"), base]);
  }

  private async run(args: readonly string[]): Promise<string> {
    const result = await output([this.client, ...args], this.env);
    if (result.code !== 0) throw new Error(`docker ${args[0]}: ${result.text.slice(-400)}`);
    return result.text;
  }

  async build(context: string, tag: string): Promise<void> {
    await Bun.write(
      join(context, "Dockerfile"),
      `FROM ${base}\nCOPY . /app\nWORKDIR /app\nCMD ["bun", "index.ts"]\n`,
    );
    await this.run(["build", "-q", "-t", tag, context]);
  }

  /**
   * `docker run` of an image that serves on the host's `port`; returns the milliseconds from
   * `startMs` to its first byte. A published port is asked only when the command has returned:
   * before, Docker's proxy would take the connection and lose a second on a neighbour that
   * does not answer yet.
   */
  async runContainer(
    options: {
      readonly tag: string;
      readonly name: string;
      readonly port: number;
      readonly network: DockerNetwork;
    },
    startMs: number = performance.now(),
  ): Promise<number> {
    const { tag, name, port, network } = options;
    const where =
      network === "host"
        ? ["--network", "host", "-e", `PORT=${port}`]
        : ["-p", `127.0.0.1:${port}:8080`, "-e", "PORT=8080"];
    const client = Bun.spawn([this.client, "run", "-d", "--name", name, ...where, tag], {
      env: { ...process.env, ...this.env },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    if (network === "published") await client.exited;
    const durationMs = await firstByteMs({ port, host: "localhost" }, startMs);
    await client.exited;
    return durationMs;
  }

  async pidOf(name: string): Promise<number> {
    return Number(await this.run(["inspect", "-f", "{{.State.Pid}}", name]));
  }

  async remove(names: readonly string[]): Promise<void> {
    if (names.length > 0) await this.run(["rm", "-f", ...names]);
  }

  daemonPid(): number {
    return this.daemon.pid;
  }

  async stop(): Promise<void> {
    const names = await this.run(["ps", "-aq"]).catch(() => "");
    await this.remove(names.split("\n").filter((name) => name !== "")).catch(() => undefined);
    await stop(this.daemon);
    await output(["ip", "link", "delete", bridge]);
    // dockerd leaves the host's network namespace mounted below its exec root.
    await output(["umount", join(this.folder, "exec/netns/default")]);
  }
}

async function waitForDaemon(
  daemon: Bun.Subprocess,
  client: string,
  env: Readonly<Record<string, string>>,
  log: string,
): Promise<string> {
  for (let attempts = 0; attempts < 150; attempts++) {
    const result = await output([client, "version", "-f", "{{.Server.Version}}"], env);
    if (result.code === 0) return result.text;
    if (daemon.exitCode !== null) {
      const lines = (await Bun.file(log).text()).trim().split("\n");
      throw new Error(`dockerd ended: ${lines.at(-1)}`);
    }
    await Bun.sleep(200);
  }
  throw new Error("dockerd did not answer within 30 s");
}
