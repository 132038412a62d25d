// A machine of its own for a test: Debian's kernel, cgroups unified, root, and the repository at
// /lode. See README.md.

import type { CommandResult } from "../harness/cloud.ts";
import type { FromGuest } from "./channel.ts";
import { type Machine, type MachineOptions, startMachine } from "./machine.ts";

export interface RigRunOptions {
  /** In the machine; /lode, the repository, when absent. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  /** SIGKILL after this; the error has the output so far. */
  readonly timeoutMs?: number;
  /** Called with what the command prints, when it comes. */
  readonly onOutput?: (bytes: Uint8Array, stream: "stdout" | "stderr") => void;
}

export interface Rig {
  /** Several may run at once. Rejects when it cannot be started, or the machine ends. */
  run(command: readonly string[], options?: RigRunOptions): Promise<CommandResult>;
}

/** How many times as long as on its host what an emulated processor does may take (pace.ts). */
export const slowness = 8;

const defaults: MachineOptions = {
  cpus: 2,
  memoryMib: 2048,
  internet: false,
  readyWithinMs: 180_000,
};

/** Boots a machine, hands it to `use`, and ends it whatever happened. */
export async function withRig<Value>(
  options: Partial<MachineOptions>,
  use: (rig: Rig) => Promise<Value>,
): Promise<Value> {
  const machine = await startMachine({ ...defaults, ...options });
  try {
    return await use(createRig(machine));
  } finally {
    await machine.end();
  }
}

interface Running {
  readonly stdout: Uint8Array[];
  readonly stderr: Uint8Array[];
  readonly onOutput: RigRunOptions["onOutput"];
  settle(end: Extract<FromGuest, { kind: "exit" | "refused" }> | { kind: "gone" }): void;
}

function createRig(machine: Machine): Rig {
  const running = new Map<number, Running>();
  let lastId = 0;
  let gone = false;

  async function receive(): Promise<void> {
    for await (const message of machine.messages) {
      if (message.kind === "ready") continue;
      const command = running.get(message.id);
      if (command === undefined) continue;
      if (message.kind !== "output") {
        command.settle(message);
        continue;
      }
      const bytes = Buffer.from(message.base64, "base64");
      command[message.stream].push(bytes);
      command.onOutput?.(bytes, message.stream);
    }
    gone = true;
    for (const command of running.values()) command.settle({ kind: "gone" });
  }
  void receive();

  async function run(
    command: readonly string[],
    options: RigRunOptions = {},
  ): Promise<CommandResult> {
    const what = `rig: ${command.join(" ").slice(0, 200)}`;
    if (gone) throw new Error(`${what}: the machine has ended\n${machine.consoleTail()}`);
    lastId += 1;
    const id = lastId;
    const output = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
    const text = (stream: "stdout" | "stderr") => Buffer.concat(output[stream]).toString("utf8");
    const timeoutMs = options.timeoutMs ?? 10 * 60_000;
    let late = false;
    const end = await new Promise<Parameters<Running["settle"]>[0]>((settle) => {
      running.set(id, { ...output, onOutput: options.onOutput, settle });
      const timer = setTimeout(() => {
        late = true;
        machine.send({ kind: "end", id });
        // A machine that hangs answers nothing.
        setTimeout(() => settle({ kind: "gone" }), 20_000).unref();
      }, timeoutMs);
      timer.unref();
      const stdin = options.stdin === undefined ? null : base64(options.stdin);
      const { cwd = "/lode" } = options;
      const env = { LODE_TEST_SLOWNESS: String(slowness), ...options.env };
      machine.send({ kind: "run", id, command, cwd, env, stdin });
    });
    running.delete(id);
    const printed = () => `\n${text("stdout")}${text("stderr")}`;
    if (late) throw new Error(`${what}: not done within ${timeoutMs} ms${printed()}`);
    switch (end.kind) {
      case "exit":
        return { code: end.code, stdout: text("stdout"), stderr: text("stderr") };
      case "refused":
        throw new Error(`${what}: ${end.reason}`);
      case "gone":
        throw new Error(`${what}: the machine ended${printed()}\n${machine.consoleTail()}`);
    }
  }

  return { run };
}

function base64(input: string | Uint8Array): string {
  return Buffer.from(input).toString("base64");
}
