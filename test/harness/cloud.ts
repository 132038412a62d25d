import { chmodSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import {
  cgroupsOf,
  freePorts,
  isAlive,
  leftovers,
  processIds,
  programOf,
  until,
  waitingPids,
} from "./host.ts";
import { type Answer, ChatClient, type RequestOptions, request } from "./http.ts";
import { patienceMs } from "./pace.ts";

export const repository = resolve(import.meta.dir, "../..");

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One element of `lode ps --json`, as the contract for scripts has it. */
export interface PsRow {
  readonly app: string;
  readonly release: string | number;
  readonly instance: string;
  readonly node: string;
  readonly state: string;
  readonly pid: number | null;
  readonly restarts: number;
  readonly startedAt: string | number | null;
  readonly cpu: unknown;
  readonly memoryBytes: number | null;
}

/** The last line of `lode deploy --json`. */
export interface DeployResult {
  readonly app: string;
  readonly release: string | number;
  readonly url: string | null;
  readonly state: string;
  readonly durationMs: {
    readonly upload: number;
    readonly build: number;
    readonly start: number;
    readonly total: number;
  };
}

export interface CloudOptions {
  /** Arguments after the usual ones of `lode up`. */
  readonly args?: readonly string[];
  readonly https?: boolean;
  /** Instead of a temporary one; whoever names it removes it. */
  readonly dataDirectory?: string;
  readonly readyWithinMs?: number;
  /** Instead of the clone's `./lode`. */
  readonly program?: string;
}

export async function run(
  command: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string>>;
    readonly cwd?: string;
    readonly stdin?: string;
    readonly timeoutMs?: number;
    /** What ends it after `timeoutMs`. */
    readonly timeoutSignal?: NodeJS.Signals;
  } = {},
): Promise<CommandResult> {
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? repository,
    env: { ...process.env, NO_COLOR: "1", ...options.env },
    stdin: options.stdin === undefined ? "ignore" : new Blob([options.stdin]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const timer = setTimeout(
    () => child.kill(options.timeoutSignal ?? "SIGKILL"),
    patienceMs(options.timeoutMs ?? 120_000),
  );
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  clearTimeout(timer);
  return { code, stdout, stderr };
}

/** A real cloud of its own: `./lode up` as a child, in a data directory that goes at the end. */
export class Cloud {
  readonly dataDirectory: string;
  readonly scratch: string;
  readonly httpPort: number;
  readonly apiPort: number;
  readonly httpsPort: number;
  readonly program: string;
  private readonly options: CloudOptions;
  private readonly logFile: string;
  private up: Bun.Subprocess | null = null;

  private constructor(options: CloudOptions, ports: readonly number[]) {
    this.options = options;
    this.program = options.program ?? join(repository, "lode");
    this.scratch = mkdtempSync(join(tmpdir(), "lode-test-"));
    // Apps run under uids of their own and must be able to reach their files below it.
    chmodSync(this.scratch, 0o711);
    this.dataDirectory = options.dataDirectory ?? join(this.scratch, "data");
    this.logFile = join(this.scratch, "up.log");
    [this.httpPort = 0, this.apiPort = 0, this.httpsPort = 0] = ports;
  }

  static async start(options: CloudOptions = {}): Promise<Cloud> {
    const cloud = new Cloud(options, await freePorts(3));
    await cloud.bringUp();
    return cloud;
  }

  upCommand(): string[] {
    return [
      ...[this.program, "up", "--data-dir", this.dataDirectory, "--domain", "localhost"],
      ...["--http-port", String(this.httpPort), "--api-port", String(this.apiPort)],
      ...(this.options.https === true ? ["--https-port", String(this.httpsPort)] : []),
      ...(this.options.args ?? []),
    ];
  }

  /** Starts `lode up` (again) and waits for its `ready` line. */
  async bringUp(): Promise<void> {
    const before = this.log().length;
    const log = openSync(this.logFile, "a");
    this.up = Bun.spawn(this.upCommand(), {
      cwd: repository,
      env: { ...process.env, NO_COLOR: "1" },
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    const child = this.up;
    await until(
      "`lode up` prints its ready line",
      () => {
        if (/^ready /m.test(this.log().slice(before))) return true;
        if (child.exitCode === null) return false;
        throw new Error(`lode up ended with ${child.exitCode}:\n${this.log().slice(before)}`);
      },
      this.options.readyWithinMs ?? 30_000,
    ).catch((error) => {
      throw new Error(`${error}\n${this.log().slice(before)}`);
    });
  }

  /** Everything that `lode up` printed, over all its lives. */
  log(): string {
    try {
      return readFileSync(this.logFile, "utf8");
    } catch {
      return "";
    }
  }

  /** The root process of lode. */
  rootPid(): number {
    const endpoint = readFileSync(join(this.dataDirectory, "endpoint.json"), "utf8");
    return (JSON.parse(endpoint) as { pid: number }).pid;
  }

  /** The six characters that name what the cloud has on this machine. */
  id(): string {
    const identity = readFileSync(join(this.dataDirectory, "cloud.json"), "utf8");
    return (JSON.parse(identity) as { cloud: string }).cloud;
  }

  /** Signals lode's root process and waits until it is gone. */
  async signal(signal: NodeJS.Signals, timeoutMs = 20_000): Promise<void> {
    const pid = this.rootPid();
    process.kill(pid, signal);
    await until(`lode ends on ${signal}`, () => !isAlive(pid), timeoutMs);
    await this.up?.exited;
  }

  /** The gateway programs themselves, without the sandbox's own processes around them. */
  gatewayPids(): number[] {
    const group = `lode-${this.id()}/gateway-`;
    return processIds().filter((pid) => {
      const program = programOf(pid);
      return cgroupsOf(pid).includes(group) && program !== null && program !== "bwrap";
    });
  }

  async cli(
    args: readonly string[],
    options: { readonly stdin?: string; readonly cwd?: string; readonly timeoutMs?: number } = {},
  ): Promise<CommandResult> {
    return await run([this.program, ...args], {
      ...options,
      env: { LODE_DATA_DIR: this.dataDirectory },
    });
  }

  /** The CLI when it must succeed. */
  async ok(
    args: readonly string[],
    options: { readonly stdin?: string; readonly timeoutMs?: number } = {},
  ): Promise<string> {
    const result = await this.cli(args, options);
    if (result.code !== 0) {
      throw new Error(
        `lode ${args.join(" ")} ended with ${result.code}\n${result.stdout}${result.stderr}`,
      );
    }
    return result.stdout;
  }

  /** Starts the CLI and leaves it running. */
  spawnCli(args: readonly string[]): Bun.Subprocess<"ignore", "pipe", "pipe"> {
    return Bun.spawn([this.program, ...args], {
      cwd: repository,
      env: { ...process.env, NO_COLOR: "1", LODE_DATA_DIR: this.dataDirectory },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  async deploy(folder: string, app: string): Promise<DeployResult> {
    const command = ["deploy", folder, "--app", app, "--json"];
    // A build may fetch packages from far away: the test's own limit ends what hangs.
    return lastJson(await this.ok(command, { timeoutMs: 600_000 })) as DeployResult;
  }

  async ps(app?: string): Promise<PsRow[]> {
    const rows = JSON.parse(await this.ok(["ps", "--json"])) as PsRow[];
    return app === undefined ? rows : rows.filter((row) => row.app === app);
  }

  /** The pid of the app's only running instance, once one of an earlier release is gone. */
  async pidOf(app: string): Promise<number> {
    return await until(`${app} runs`, async () => {
      const running = (await this.ps(app)).filter((row) => row.state === "running");
      return running.length === 1 ? (running[0]?.pid ?? null) : null;
    });
  }

  /** Waits until an app that sleeps has its next start made ahead. */
  async untilReady(app: string): Promise<number[]> {
    return await until(`${app} has a sandbox made ahead`, async () => {
      const rows = await this.ps(app);
      const pids = rows.flatMap(({ instance }) => waitingPids(this.id(), instance));
      return pids.length > 0 ? pids : null;
    });
  }

  host(app: string): string {
    return `${app}.localhost:${this.httpPort}`;
  }

  /** A request to an app through the gateway. */
  async get(app: string, path = "/", options: Partial<RequestOptions> = {}): Promise<Answer> {
    return await request({ port: this.httpPort, host: this.host(app), path, ...options });
  }

  async webSocket(app: string, path: string): Promise<ChatClient> {
    return await new ChatClient(this.httpPort, this.host(app), path).open();
  }

  /** A folder with the given files, for `deploy`. Content that begins with `#!` is executable. */
  async folder(files: Readonly<Record<string, string>>): Promise<string> {
    const folder = mkdtempSync(join(this.scratch, "app-"));
    for (const [path, content] of Object.entries(files)) {
      const target = join(folder, path);
      mkdirSync(dirname(target), { recursive: true });
      await writeFile(target, content);
      if (content.startsWith("#!")) chmodSync(target, 0o755);
    }
    return folder;
  }

  async api(path: string, init: RequestInit = {}): Promise<Response> {
    const token = readFileSync(join(this.dataDirectory, "admin.token"), "utf8").trim();
    return await fetch(`http://127.0.0.1:${this.apiPort}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${token}`, ...init.headers },
    });
  }

  /** `lode down`, then a look at the machine: whatever is left of the cloud is returned. */
  async stop(): Promise<string[]> {
    const id = this.id();
    const down = await this.cli(["down"]);
    await this.up?.exited;
    const left = leftovers(id, this.dataDirectory);
    rmSync(this.scratch, { recursive: true, force: true });
    if (down.code !== 0) left.push(`lode down ended with ${down.code}: ${down.stderr}`);
    return left;
  }
}

export function lastJson(stdout: string): unknown {
  const line = stdout.trimEnd().split("\n").at(-1) ?? "";
  return JSON.parse(line);
}
