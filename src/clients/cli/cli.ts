import { Command, CommanderError } from "commander";
import type { CommandLine } from "./commandLine.ts";
import { addAccessCommands } from "./commands/access.ts";
import { addAppCommands } from "./commands/apps.ts";
import { addCompletionCommand } from "./commands/completion.ts";
import { addCostsCommand } from "./commands/costs.ts";
import { addDeployCommands } from "./commands/deploy.ts";
import { addExecCommands } from "./commands/exec.ts";
import { addLogsCommand } from "./commands/logs.ts";
import { addReleaseCommands } from "./commands/releases.ts";
import { addTopCommand } from "./commands/top.ts";
import { addVariableCommands } from "./commands/variables.ts";
import type { CliContext } from "./context.ts";
import { exitCodeHelp, exitCodes } from "./failure.ts";
import { createSession } from "./session.ts";

export interface Cli {
  /** Further commands may be added to it before `run`. */
  readonly program: Command;
  readonly line: CommandLine;
  /** Runs one command; resolves to the exit code. `args` without program names. */
  run(args: readonly string[]): Promise<number>;
}

/** The command line over the native API. */
export function buildCli(context: CliContext): Cli {
  let exitCode: number = exitCodes.ok;
  let afterDashes: readonly string[] | null = null;
  const program = new Command("lode")
    .description("Runs applications straight on the kernels of your machines")
    .version(context.version, "-V, --version")
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
    })
    .addHelpText("after", exitCodeHelp);

  const line: CommandLine = {
    context,
    afterDashes: () => afterDashes,
    act(command, action) {
      command.option("--json", "print JSON, for programs").action(async () => {
        const options = command.opts();
        const session = createSession(context, options["json"] === true);
        const outcome = await action(session, command.args, options as never);
        session.printer.status(null);
        if (!outcome.ok) session.printer.failure(outcome.error);
        exitCode = outcome.ok ? outcome.value : outcome.error.exitCode;
      });
    },
  };
  addDeployCommands(program, line);
  addAppCommands(program, line);
  addTopCommand(program, line);
  addCostsCommand(program, line);
  addLogsCommand(program, line);
  addExecCommands(program, line);
  addReleaseCommands(program, line);
  addVariableCommands(program, line);
  addAccessCommands(program, line);
  addCompletionCommand(program, line);

  return {
    program,
    line,
    async run(args) {
      const dashes = args.indexOf("--");
      afterDashes = dashes === -1 ? null : args.slice(dashes + 1);
      try {
        await program.parseAsync(dashes === -1 ? [...args] : args.slice(0, dashes), {
          from: "user",
        });
        return exitCode;
      } catch (cause) {
        if (!(cause instanceof CommanderError)) throw cause;
        const shown = ["commander.helpDisplayed", "commander.version"].includes(cause.code);
        return shown ? exitCodes.ok : exitCodes.usage;
      }
    },
  };
}
