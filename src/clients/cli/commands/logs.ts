import type { Command } from "commander";
import type { LogLine, LogsQuery } from "../../../api/native/client.ts";
import { err, ok, type Result } from "../../../base/result.ts";
import { parseDurationMs } from "../../../base/units.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import { type Failure, usageFailure } from "../failure.ts";
import { timeText } from "../present.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

interface LogsOptions extends CommandOptions {
  readonly follow?: boolean;
  readonly since?: string;
  readonly tail: string;
  readonly instance?: string;
  readonly process?: string;
}

export function addLogsCommand(program: Command, line: CommandLine): void {
  const logs = program
    .command("logs")
    .description("show an app's output and events")
    .argument("[APP]", "the app; else that of the working directory")
    .option("-f, --follow", "go on with what comes, until Ctrl-C")
    .option("--since <WHEN>", "only newer lines: 10m, 2h, or a time such as 2026-01-31T12:00Z")
    .option("-n, --tail <LINES>", "at most so many of the past", "100")
    .option("--instance <ID>", "only this instance's")
    .option("--process <TYPE>", "only this process type's")
    .addHelpText("after", examples("lode logs shop -f", "lode logs --since 10m --process web"));
  line.act<LogsOptions>(logs, logsAction);
}

async function logsAction(
  session: Session,
  args: readonly string[],
  options: LogsOptions,
): ActionOutcome {
  const app = await session.appName(args[0]);
  if (!app.ok) return app;
  const query = queryOf(options, session.context.now());
  if (!query.ok) return query;
  const client = await session.client();
  if (!client.ok) return client;
  const print = (line: LogLine) => session.printer.line(textOf(session, line));
  if (options.follow === true) {
    const { interrupted } = session.context;
    const followed = await client.value.followLogs(app.value, query.value, print, interrupted);
    return followed.ok ? done : session.refusal(followed.error);
  }
  const lines = await client.value.logs(app.value, query.value);
  if (!lines.ok) return session.refusal(lines.error);
  for (const line of lines.value) print(line);
  return done;
}

function queryOf(options: LogsOptions, now: number): Result<LogsQuery, Failure> {
  const tail = Number(options.tail);
  if (!/^\d{1,5}$/.test(options.tail) || tail > 10_000) {
    return err(usageFailure(`--tail is "${options.tail}", not a number from 0 to 10000`));
  }
  const since = options.since === undefined ? ok(null) : sinceOf(options.since, now);
  if (!since.ok) return since;
  const { instance = null, process = null } = options;
  return ok({ instance, process, since: since.value, tail });
}

function sinceOf(text: string, now: number): Result<number, Failure> {
  const duration = parseDurationMs(text);
  if (duration.ok) return ok(Math.max(0, now - duration.value));
  const at = Date.parse(text);
  if (Number.isFinite(at) && at >= 0) return ok(at);
  return err(
    usageFailure(`--since is "${text}"`, "write a duration like 10m, or a time in RFC 3339"),
  );
}

type Colour = "cyan" | "yellow" | "magenta" | "blue" | "green";
const palette: readonly Colour[] = ["cyan", "yellow", "magenta", "blue", "green"];

function textOf(session: Session, line: LogLine): string {
  if (session.asJson) return JSON.stringify({ ...line, at: timeText(line.at) });
  const { colors } = session.printer;
  const hash = [...line.instance].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  const colour = palette[hash % palette.length] ?? "cyan";
  const source = colors[colour](`${line.process}.${line.instance}`);
  const mark = line.stream === "lode" ? colors.bold("* ") : "";
  return `${colors.dim(timeText(line.at))} ${source} ${mark}${line.text}`;
}
