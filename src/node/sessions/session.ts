import { closeSync } from "node:fs";
import { constants } from "node:os";
import type { Json } from "../../base/json.ts";
import type { Clock, Timer } from "../../base/time.ts";
import type { Wire } from "../../fabric/wire.ts";
import { type ExecInput, type ExecOutput, type ExecRequest, subjects } from "../../model/wire.ts";
import { makePipe } from "../linux/files.ts";
import { readStartTicks, signalProcess } from "../linux/identity.ts";
import type { ExitWatcher } from "../linux/processes.ts";
import { inside } from "../runtime/install.ts";
import type { LaunchedSandbox, SandboxExit } from "../sandbox/sandbox.ts";
import { drain } from "./drain.ts";

// One program that a person started by `exec` or `run`, and the pipes between it and the wire.
//
//   launched → talking —program ends→ drained → exit published
//                 └— client silent for 30 s, or lode ends → killed ↗
//
// With a terminal, Lode's terminal program runs first inside the sandbox and gives the real
// one a terminal there; what the client sends travels to it as JSON lines.

const silenceMs = 30_000;
/** After the program's end, its output may be held open by what it left behind. */
const drainMs = 300;
const chunkBytesMax = 32 * 1024;
const killSignal = 9;
const hangUpSignal = 1;

export interface StartedProgram {
  readonly launched: LaunchedSandbox;
  exit(): Promise<SandboxExit>;
  /** The program's pid as the host sees it. */
  pid(): Promise<number | null>;
  /** Ends it and all that it started. */
  kill(): Promise<void>;
  /** Everything it held is given back. */
  end(): Promise<void>;
}

export interface SessionDependencies {
  readonly wire: Wire;
  readonly clock: Clock;
  readonly exits: ExitWatcher;
}

/** What runs for a request: the argv, under Lode's terminal program when one is wanted. */
export function argvOfSession({ argv, terminal }: ExecRequest): readonly string[] {
  const shell = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh"];
  const program = argv.length > 0 ? argv : shell;
  if (terminal === null) return program;
  const size = [String(terminal.columns), String(terminal.rows)];
  return [inside.bun, "--no-install", inside.terminalShim, ...size, ...program];
}

/** Starts a program and relays until it ends. Resolves when it has started. */
export async function runSession(
  dependencies: SessionDependencies,
  request: ExecRequest,
  start: (io: { stdin: number; stdout: number; stderr: number }) => Promise<StartedProgram>,
  over: () => void,
): Promise<Session> {
  const pipes = { stdin: makePipe(), stdout: makePipe(), stderr: makePipe() };
  const theirs = [pipes.stdin.read, pipes.stdout.write, pipes.stderr.write];
  const io = { stdin: pipes.stdin.read, stdout: pipes.stdout.write, stderr: pipes.stderr.write };
  try {
    const program = await start(io);
    return new Session(dependencies, request, program, pipes, over);
  } catch (cause) {
    for (const end of [pipes.stdin.write, pipes.stdout.read, pipes.stderr.read]) closeSync(end);
    throw cause;
  } finally {
    for (const end of theirs) closeSync(end);
  }
}

export class Session {
  #dependencies: SessionDependencies;
  #request: ExecRequest;
  #program: StartedProgram;
  #stdin: ReturnType<ReturnType<typeof Bun.file>["writer"]> | null;
  #stdinDescriptor: number;
  #silence: Timer | null = null;
  readonly #input: { cancel(): void };
  readonly #over: Promise<void>;

  constructor(
    dependencies: SessionDependencies,
    request: ExecRequest,
    program: StartedProgram,
    pipes: Readonly<Record<"stdin" | "stdout" | "stderr", ReturnType<typeof makePipe>>>,
    over: () => void,
  ) {
    this.#dependencies = dependencies;
    this.#request = request;
    this.#program = program;
    this.#stdinDescriptor = pipes.stdin.write;
    this.#stdin = Bun.file(pipes.stdin.write).writer();
    this.#input = dependencies.wire.subscribe(subjects.sessionInput(request.session), (message) =>
      this.#receive(message.payload as unknown as ExecInput),
    );
    this.#heard();
    const stdout = drain(pipes.stdout.read, (chunk) => this.#send("stdout", chunk));
    const stderr = drain(pipes.stderr.read, (chunk) => this.#send("stderr", chunk));
    this.#over = this.#untilEnd([stdout, stderr]).finally(over);
  }

  /** Ends the program, whatever it does; resolves when nothing of it is left. */
  async kill(): Promise<void> {
    this.#closeInput();
    await this.#program.kill();
    await this.#over;
  }

  async #untilEnd(outputs: readonly ReturnType<typeof drain>[]): Promise<void> {
    const { exits, clock, wire } = this.#dependencies;
    const { monitorPid: pid, monitorStartTicks: startTicks } = this.#program.launched;
    await exits.ended({ pid, startTicks });
    const timer = clock.after(drainMs, () => {
      for (const output of outputs) output.stop();
    });
    await Promise.all(outputs.map(({ ended }) => ended));
    timer.cancel();
    const exit = await this.#program.exit();
    this.#silence?.cancel();
    this.#input.cancel();
    this.#closeInput();
    await this.#program.end();
    const output: ExecOutput = { kind: "exit", code: exitCodeOf(exit) };
    wire.publish(subjects.sessionOutput(this.#request.session), output as unknown as Json);
  }

  #send(stream: "stdout" | "stderr", chunk: Uint8Array): void {
    const subject = subjects.sessionOutput(this.#request.session);
    for (let at = 0; at < chunk.length; at += chunkBytesMax) {
      const data = Buffer.from(chunk.subarray(at, at + chunkBytesMax)).toString("base64");
      this.#dependencies.wire.publish(subject, { kind: "data", stream, data });
    }
  }

  #heard(): void {
    this.#silence?.cancel();
    this.#silence = this.#dependencies.clock.after(silenceMs, () => void this.kill());
  }

  #receive(input: ExecInput): void {
    this.#heard();
    const hasTerminal = this.#request.terminal !== null;
    switch (input.kind) {
      case "data":
        if (hasTerminal) this.#frame({ data: input.data });
        else this.#write(Buffer.from(input.data, "base64"));
        return;
      case "eof":
        // A terminal's end of input is a character: Control-D.
        if (hasTerminal) this.#frame({ data: Buffer.from([4]).toString("base64") });
        else this.#closeInput();
        return;
      case "resize":
        if (hasTerminal) this.#frame({ columns: input.columns, rows: input.rows });
        return;
      case "signal":
        if (hasTerminal) this.#frame({ signal: input.signal });
        else void this.#signal(input.signal);
        return;
      case "alive":
        return;
    }
  }

  #frame(frame: Json): void {
    this.#write(new TextEncoder().encode(`${JSON.stringify(frame)}\n`));
  }

  #write(bytes: Uint8Array): void {
    this.#stdin?.write(bytes);
    void this.#stdin?.flush();
  }

  #closeInput(): void {
    const sink = this.#stdin;
    this.#stdin = null;
    if (sink === null) return;
    const close = (): void => closeSync(this.#stdinDescriptor);
    Promise.resolve(sink.end()).then(close, close);
  }

  async #signal(name: string): Promise<void> {
    const signals: Readonly<Record<string, number>> = constants.signals;
    const pid = await this.#program.pid();
    const startTicks = pid === null ? null : readStartTicks(pid);
    if (pid === null || startTicks === null) return;
    signalProcess({ pid, startTicks }, signals[name] ?? hangUpSignal);
  }
}

/** As a shell tells it: 128 and the signal's number. */
function exitCodeOf(exit: SandboxExit): number {
  if (exit.kind === "exit") return exit.code;
  const signals: Readonly<Record<string, number>> = constants.signals;
  return 128 + (exit.kind === "signal" ? (signals[exit.signal] ?? killSignal) : killSignal);
}
