import type { Command } from "commander";
import type { CliContext } from "./context.ts";
import type { ActionOutcome, Session } from "./session.ts";

export interface CommandOptions {
  readonly json?: boolean;
}

/** The end of a command's help. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

/** Runs an action of a command and keeps the exit code it ends with. */
export type Act = <Options extends CommandOptions>(
  command: Command,
  action: (session: Session, args: readonly string[], options: Options) => ActionOutcome,
) => void;

export interface CommandLine {
  readonly context: CliContext;
  /** What stands after `--`; null without one. */
  readonly afterDashes: () => readonly string[] | null;
  /** Adds a command with `--json` whose action gets a session. */
  readonly act: Act;
}
