import type { Fetch } from "../../api/native/client.ts";

export interface OutputStream {
  write(data: string | Uint8Array): void;
  readonly isTerminal: boolean;
}

export interface InputStream {
  readonly isTerminal: boolean;
  /** What comes, until the end of the input. */
  readonly bytes: () => AsyncIterable<Uint8Array>;
  /** Keys come as they are typed, and Ctrl-C is one of them. */
  readonly setRaw: (raw: boolean) => void;
}

/** What the commands know of the world: everything they touch outside the API and files. */
export interface CliContext {
  readonly version: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly stdin: InputStream;
  readonly terminal: {
    readonly size: () => { readonly columns: number; readonly rows: number };
    readonly onResize: (callback: () => void) => () => void;
  };
  readonly fetch: Fetch;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Fires when the user wants an endless command to end. */
  readonly interrupted: AbortSignal;
  /** Opens a URL in the user's browser; says whether it could. */
  readonly browse: (url: string) => Promise<boolean>;
  /** Asks on the terminal; null when the user turned away. */
  readonly confirm: (question: string) => Promise<boolean | null>;
  readonly askSecret: (question: string) => Promise<string | null>;
}

/** The context of this process. */
export function processContext(version: string): CliContext {
  const { stdin, stdout, stderr } = process;
  for (const stream of [stdout, stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(0);
    });
  }
  const output = (stream: NodeJS.WriteStream): OutputStream => ({
    write: (data) => void stream.write(data),
    isTerminal: stream.isTTY === true,
  });
  return {
    version,
    env: process.env,
    directory: process.cwd(),
    stdout: output(stdout),
    stderr: output(stderr),
    stdin: {
      isTerminal: stdin.isTTY === true,
      bytes: () => stdin as AsyncIterable<Uint8Array>,
      setRaw: (raw) => {
        if (stdin.isTTY) stdin.setRawMode(raw);
      },
    },
    terminal: {
      size: () => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 }),
      onResize: (callback) => {
        stdout.on("resize", callback);
        return () => void stdout.off("resize", callback);
      },
    },
    fetch: (url, init) => {
      reachThisMachineDirectly();
      return fetch(url, init);
    },
    now: () => Date.now(),
    interrupted: new AbortController().signal,
    browse,
    async confirm(question) {
      const prompts = await import("@clack/prompts");
      const answer = await prompts.confirm({ message: question, initialValue: false });
      return prompts.isCancel(answer) ? null : answer;
    },
    async askSecret(question) {
      const prompts = await import("@clack/prompts");
      const answer = await prompts.password({ message: question });
      return prompts.isCancel(answer) ? null : answer;
    },
  };
}

/** Bun sends requests for this machine, too, to the proxy that `http_proxy` names. */
function reachThisMachineDirectly(): void {
  const loopback = "127.0.0.1,localhost,[::1]";
  for (const name of ["NO_PROXY", "no_proxy"]) {
    const value = process.env[name] ?? "";
    if (!value.includes(loopback)) {
      process.env[name] = value === "" ? loopback : `${value},${loopback}`;
    }
  }
}

async function browse(url: string): Promise<boolean> {
  const opener = Bun.which(process.platform === "darwin" ? "open" : "xdg-open");
  if (opener === null) return false;
  const child = Bun.spawn([opener, url], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  return (await child.exited) === 0;
}

/**
 * Ends the process with `exitCode` once everything written has left it. `end` is what tells:
 * Bun calls back for an empty last write while earlier ones to a pipe still wait.
 */
export async function exitProcess(exitCode: number): Promise<never> {
  for (const stream of [process.stdout, process.stderr]) {
    await new Promise<void>((resolve) => stream.end(() => resolve()));
  }
  process.exit(exitCode);
}
