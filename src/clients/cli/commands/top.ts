import type { Command } from "commander";
import type { TopFrame } from "../../../api/native/client.ts";
import { formatBytes } from "../../../base/units.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import { timeText } from "../present.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

/** The first frame's rates are over a single second, in which gateways told only once. */
const onceFrame = 2;

const columns = [
  ...["app", "instance", "state", "cpu", "memory", "req/s", "in flight", "held"],
  ...["credit"],
] as const;

type App = TopFrame["apps"][number];
type Instance = App["instances"][number];
type Credit = NonNullable<NonNullable<Instance["usage"]>["cpuCredit"]>;

export function addTopCommand(program: Command, line: CommandLine): void {
  const top = program
    .command("top")
    .description("show what apps and instances use and do, as it changes, until Ctrl-C")
    .option("--once", "show it once, after two seconds of looking")
    .addHelpText("after", examples("lode top", "lode top --once --json"));
  line.act<CommandOptions & { readonly once?: boolean }>(top, (session, _, options) =>
    topAction(session, options.once === true),
  );
}

async function topAction(session: Session, once: boolean): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const { interrupted, stdout } = session.context;
  const isLive = stdout.isTerminal && !session.asJson && !once;
  if (isLive) stdout.write("\x1b[2J");
  let frames = 0;
  const watched = await client.value.watchTop((frame) => {
    frames += 1;
    if (once && frames < onceFrame) return "more";
    show(session, frame, once);
    return once ? "done" : "more";
  }, interrupted);
  return watched.ok ? done : session.refusal(watched.error);
}

function show({ printer, asJson }: Session, frame: TopFrame, once: boolean): void {
  if (asJson) return printer.json({ ...frame, at: timeText(frame.at) });
  const rows = frame.apps.flatMap(rowsOf);
  if (once) {
    printer.table(columns, rows);
    if (frame.more > 0) printer.line(moreText(frame.more));
    return;
  }
  const more = frame.more > 0 ? `, ${moreText(frame.more)}` : "";
  const sum = (of: (app: App) => number) => frame.apps.reduce((total, app) => total + of(app), 0);
  const cores = sum(({ cpuCores }) => cpuCores).toFixed(2);
  const requests = sum(({ requestsPerSecond }) => requestsPerSecond).toFixed(1);
  const memory = formatBytes(sum(({ memoryBytes }) => memoryBytes));
  printer.screen(
    `${timeText(frame.at)}  ${cores} cores, ${memory}, ${requests} requests/s${more}`,
    columns,
    rows,
  );
}

function moreText(more: number): string {
  return `${more} more app${more === 1 ? "" : "s"}`;
}

/** An app, and below it what it runs; what sleeps is only counted. */
function rowsOf(app: App): readonly (readonly string[])[] {
  const awake = app.instances.filter(({ state }) => state !== "asleep");
  const asleep = app.instances.length - awake.length;
  const count = asleep === 0 ? `${awake.length}` : `${awake.length} + ${asleep} asleep`;
  const numbers = numbersOf(app);
  return [
    [app.app, count, app.state, ...numbers, String(app.held), "-"],
    ...awake.map((instance) => {
      const { process, state, usage } = instance;
      const { cpuCores = 0, memoryBytes = 0 } = usage ?? {};
      return [
        process === "web" ? "" : `  :${process}`,
        ...[instance.instance, usage?.confined === true ? `${state}, confined` : state],
        ...numbersOf({ ...instance, cpuCores, memoryBytes }),
        ...["", creditText(usage)],
      ];
    }),
  ];
}

function numbersOf(row: {
  readonly cpuCores: number;
  readonly memoryBytes: number;
  readonly requestsPerSecond: number;
  readonly inFlight: number;
}): readonly string[] {
  return [
    ...[row.cpuCores.toFixed(2), formatBytes(row.memoryBytes)],
    ...[row.requestsPerSecond.toFixed(1), String(row.inFlight)],
  ];
}

/** What is left of burst credit, in parts of all that there can be. */
function creditText(usage: Instance["usage"]): string {
  const parts = [
    ...(usage?.cpuCredit == null ? [] : [`cpu ${percent(usage.cpuCredit)}`]),
    ...(usage?.memoryCredit == null ? [] : [`memory ${percent(usage.memoryCredit)}`]),
  ];
  return parts.length === 0 ? "-" : parts.join(", ");
}

function percent({ left, capacity }: Credit): string {
  return `${Math.round((left / capacity) * 100)} %`;
}
