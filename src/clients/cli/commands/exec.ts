import type { Command } from "commander";
import type { ExecChannel, ExecStart } from "../../../api/native/client.ts";
import { err, ok, type Result } from "../../../base/result.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import type { CliContext } from "../context.ts";
import { exitCodes, type Failure, failure, failureOf, usageFailure } from "../failure.ts";
import type { ActionOutcome, Session } from "../session.ts";

interface ExecOptions extends CommandOptions {
  readonly app?: string;
  readonly instance?: string;
  /** Commander's form of `--no-terminal`. */
  readonly terminal: boolean;
}

export function addExecCommands(program: Command, line: CommandLine): void {
  for (const name of ["exec", "run"] as const) {
    const command = program
      .command(name)
      .description(
        name === "exec"
          ? "run a command in a running instance; without one, a shell"
          : "run a one-off command in the serving release's environment",
      )
      .usage("[options] [APP] [--] [COMMAND...]")
      .argument("[APP]", "the app; else that of the working directory")
      .argument("[COMMAND...]", "after -- when the app is not named")
      .passThroughOptions()
      .option("--app <NAME>", "the app; else APP, else that of the working directory")
      .option("-T, --no-terminal", "no terminal, also when this is one")
      .addHelpText("after", examples(`lode ${name} shop -- sh -c 'env | sort'`));
    if (name === "exec") command.option("--instance <ID>", "this instance");
    line.act<ExecOptions>(command, async (session, words, options) => {
      const outcome = await execAction(session, name, { words, line, options });
      if (outcome.ok || outcome.error.exitCode === exitCodes.usage) return outcome;
      return err({ ...outcome.error, exitCode: exitCodes.notRun });
    });
  }
}

async function execAction(
  session: Session,
  name: "exec" | "run",
  given: {
    readonly words: readonly string[];
    readonly line: CommandLine;
    readonly options: ExecOptions;
  },
): ActionOutcome {
  const split = splitWords(given.words, given.line.afterDashes(), given.options.app);
  if (!split.ok) return split;
  const asked = await session.appAndClient(split.value.app);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const { context } = session;
  const wantsTerminal =
    given.options.terminal && context.stdin.isTerminal && context.stdout.isTerminal;
  const start: ExecStart = {
    argv: split.value.argv,
    instance: given.options.instance ?? null,
    terminal: wantsTerminal ? context.terminal.size() : null,
  };
  const channel = await client[name](app, start);
  if (!channel.ok) {
    const reachable = await client.status();
    return session.refusal(reachable.ok ? channel.error : reachable.error);
  }
  return converse(context, channel.value, wantsTerminal);
}

/**
 * What stands after `--` is the command, and one word before it the app. Without `--` the first
 * word is the app, unless `--app` names it.
 */
function splitWords(
  words: readonly string[],
  afterDashes: readonly string[] | null,
  app: string | undefined,
): Result<{ readonly app: string | undefined; readonly argv: readonly string[] }, Failure> {
  if (afterDashes === null) {
    return ok(app === undefined ? { app: words[0], argv: words.slice(1) } : { app, argv: words });
  }
  const [word, ...rest] = words;
  if (rest.length > 0 || (word !== undefined && app !== undefined)) {
    return err(usageFailure("only the app's name may stand before --"));
  }
  return ok({ app: app ?? word, argv: afterDashes });
}

async function converse(
  context: CliContext,
  channel: ExecChannel,
  isTerminal: boolean,
): ActionOutcome {
  const resized = () => {
    const { columns, rows } = context.terminal.size();
    channel.resize(columns, rows);
  };
  const ignoreResize = isTerminal ? context.terminal.onResize(resized) : () => {};
  if (isTerminal) context.stdin.setRaw(true);
  // It ends with the input, or with the process: nothing waits for it.
  passInput(context, channel).catch(() => channel.eof());
  try {
    for await (const event of channel.events) {
      if (event.kind === "data") context[event.stream].write(event.data);
      if (event.kind === "exit") return ok(event.code);
      if (event.kind === "problem") return err(failureOf(event, ""));
    }
    return err(
      failure(exitCodes.failed, "the connection was lost before the command ended", "try again"),
    );
  } finally {
    ignoreResize();
    if (isTerminal) context.stdin.setRaw(false);
    channel.close();
  }
}

async function passInput(context: CliContext, channel: ExecChannel): Promise<void> {
  for await (const bytes of context.stdin.bytes()) await channel.send(new Uint8Array(bytes));
  channel.eof();
}
