import { readFileSync } from "node:fs";
import { constants } from "node:os";
import type { SandboxExit } from "./sandbox.ts";

/**
 * bubblewrap's status file: JSON lines, first `{"child-pid": …}`, at the end
 * `{"exit-code": …}`. Without the latter bubblewrap itself was killed, or could not start the
 * program and said so on its standard error.
 */

const signalNames = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number as number, name]),
);

/** A shell's encoding: 128 + n says signal n. */
export async function exitOf(statusFile: string): Promise<SandboxExit> {
  const code = readLast(statusFile, "exit-code");
  if (code === null) return { kind: "unknown" };
  const signal = code > 128 ? signalNames.get(code - 128) : undefined;
  return signal === undefined ? { kind: "exit", code } : { kind: "signal", signal };
}

/**
 * bubblewrap tells the pid of its own first process in the sandbox; the program is that
 * one's first child, there once the sandbox is complete.
 */
export async function childPidOf(statusFile: string): Promise<number | null> {
  const first = readLast(statusFile, "child-pid");
  if (first === null) return null;
  try {
    const [program] = readFileSync(`/proc/${first}/task/${first}/children`, "utf8").split(" ");
    return program === undefined || program.trim() === "" ? null : Number(program);
  } catch {
    return null;
  }
}

/** A line that is still being written is left out. */
function readLast(statusFile: string, key: string): number | null {
  let text: string;
  try {
    text = readFileSync(statusFile, "utf8");
  } catch {
    return null;
  }
  let found: number | null = null;
  for (const line of text.split("\n").slice(0, -1)) {
    const value = (JSON.parse(line) as Record<string, unknown>)[key];
    if (typeof value === "number") found = value;
  }
  return found;
}
