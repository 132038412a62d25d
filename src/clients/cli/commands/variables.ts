import type { Command } from "commander";
import { err, ok, type Result } from "../../../base/result.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import type { CliContext } from "../context.ts";
import { failureOfEnd } from "../deployFolder.ts";
import { exitCodes, type Failure, failure, usageFailure } from "../failure.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";
import { waitForRelease } from "./deploy.ts";

interface AppOption extends CommandOptions {
  readonly app?: string;
}

type Kind = "env" | "secrets";

const envExamples = ["lode env --app shop", "lode env set LEVEL=info", "lode env unset LEVEL"];
const secretExamples = ["lode secrets set PASSWORD < password.txt", "lode secrets unset PASSWORD"];

export function addVariableCommands(program: Command, line: CommandLine): void {
  addGroup(program, line, "env", "environment variables");
  addGroup(program, line, "secrets", "secrets: variables that are sealed and never shown");
}

function addGroup(program: Command, line: CommandLine, kind: Kind, about: string): void {
  const appOption = ["--app <NAME>", "the app; else that of the working directory"] as const;
  const group = program
    .command(kind)
    .description(about)
    .addHelpText("after", examples(...(kind === "env" ? envExamples : secretExamples)));

  const list = group
    .command("list", { isDefault: true })
    .description(kind === "env" ? "show them" : "show their names")
    .argument("[APP]", "the app; else that of the working directory")
    .option(...appOption);
  line.act<AppOption>(list, (session, args, options) =>
    listAction(session, kind, options.app ?? args[0]),
  );

  const set = group
    .command("set")
    .description("set some; makes a release and waits until it serves")
    .argument(
      "<KEY=VALUE...>",
      kind === "env" ? "KEY=VALUE" : "KEY or KEY=- reads the value from standard input",
    )
    .option(...appOption);
  line.act<AppOption>(set, (session, args, options) => setAction(session, kind, args, options.app));

  const unset = group
    .command("unset")
    .description("unset some; makes a release and waits until it serves")
    .argument("<KEY...>")
    .option(...appOption);
  line.act<AppOption>(unset, (session, args, options) =>
    change(session, kind, options.app, Object.fromEntries(args.map((key) => [key, null]))),
  );
}

async function listAction(session: Session, kind: Kind, given: string | undefined): ActionOutcome {
  const asked = await session.appAndClient(given);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const view = await client.getApp(app);
  if (!view.ok) return session.refusal(view.error);
  const { env, secretNames } = view.value;
  const { printer } = session;
  if (session.asJson) printer.json(kind === "env" ? env : secretNames);
  else if (kind === "secrets") for (const name of secretNames) printer.line(name);
  else for (const name of Object.keys(env).sort()) printer.line(`${name}=${env[name]}`);
  return done;
}

async function setAction(
  session: Session,
  kind: Kind,
  args: readonly string[],
  app: string | undefined,
): ActionOutcome {
  const changes: Record<string, string> = {};
  let usesInput = false;
  for (const text of args) {
    const [, key, value] = /^([A-Za-z_][A-Za-z0-9_]*)(?:=([\s\S]*))?$/.exec(text) ?? [];
    if (key === undefined || (value === undefined && kind === "env")) {
      return err(
        usageFailure(
          `${JSON.stringify(text.split("=")[0])} is not KEY=VALUE`,
          "a key has letters, digits and _; name the app with --app",
        ),
      );
    }
    const fromInput = value === undefined || value === "-";
    if (!fromInput) {
      changes[key] = value;
      continue;
    }
    if (usesInput) return err(usageFailure("only one value can come from standard input"));
    usesInput = true;
    const read = await readValue(session.context, key);
    if (!read.ok) return read;
    changes[key] = read.value;
  }
  return change(session, kind, app, changes);
}

/** From the keyboard unseen, or from the pipe without its last line break. */
async function readValue(context: CliContext, key: string): Promise<Result<string, Failure>> {
  if (context.stdin.isTerminal) {
    const answer = await context.askSecret(`Value of ${key}`);
    return answer === null ? err(failure(exitCodes.failed, "nothing was set")) : ok(answer);
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of context.stdin.bytes()) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString("utf8");
  if (text === "") return err(usageFailure(`standard input has no value for ${key}`));
  return ok(text.replace(/\r?\n$/, ""));
}

async function change(
  session: Session,
  kind: Kind,
  given: string | undefined,
  changes: Readonly<Record<string, string | null>>,
): ActionOutcome {
  const asked = await session.appAndClient(given);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const changed = await (kind === "env"
    ? client.changeEnvironment(app, changes)
    : client.changeSecrets(app, changes));
  if (!changed.ok) return session.refusal(changed.error);
  const { release } = changed.value;
  const { printer } = session;
  if (release === null) {
    printer.progress(`kept for the first release of ${app}`);
    if (session.asJson) printer.json({ app, release: null, state: null });
    return done;
  }
  const end = await waitForRelease(session, app, release);
  if (!end.ok) return end;
  printer.status(null);
  const { state } = end.value;
  if (session.asJson) printer.json({ app, release: `v${release}`, state });
  else printer.line(`v${release} of ${app}: ${state}`);
  const failed = failureOfEnd(app, release, end.value);
  return failed === null ? done : err(failed);
}
