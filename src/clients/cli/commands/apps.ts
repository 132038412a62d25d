import type { Command } from "commander";
import type { App, Bounds, Instance } from "../../../api/native/client.ts";
import { err, ok, type Result } from "../../../base/result.ts";
import { formatBytes, formatDurationMs } from "../../../base/units.ts";
import { parseCpuBounds, parseMemoryBounds } from "../../../model/bounds.ts";
import { describeCause } from "../../../model/exit-cause.ts";
import { unbounded } from "../../../model/limits.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import { exitCodes, type Failure, failure, usageFailure } from "../failure.ts";
import { describePhase, psRow, timeText } from "../present.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

const removalWaitMs = 60_000;
const removalPollMs = 100;

export function addAppCommands(program: Command, line: CommandLine): void {
  addListings(program, line);
  addChanges(program, line);
  const open = program
    .command("open")
    .description("open an app in the browser")
    .argument("[APP]", "the app; else that of the working directory")
    .addHelpText("after", examples("lode open shop"));
  line.act(open, (session, args) => openAction(session, args[0]));
}

function addListings(program: Command, line: CommandLine): void {
  const apps = program
    .command("apps")
    .description("list the apps")
    .option("-q, --quiet", "only names")
    .addHelpText("after", examples("lode apps", "lode apps --quiet"));
  line.act<CommandOptions & { readonly quiet?: boolean }>(apps, (session, _, options) =>
    appsAction(session, options.quiet === true),
  );
  const ps = program
    .command("ps")
    .description("list the instances: what runs, and why something does not")
    .argument("[APP]", "only this app's")
    .addHelpText("after", examples("lode ps", "lode ps shop --json"));
  line.act(ps, (session, args) => psAction(session, args[0]));
  const status = program
    .command("status")
    .description("show the cloud and its nodes")
    .addHelpText("after", examples("lode status"));
  line.act(status, statusAction);
}

function addChanges(program: Command, line: CommandLine): void {
  const scale = program
    .command("scale")
    .description("set how many instances run; 0 puts an app to sleep")
    .argument("<APP=N...>", "APP=N, or APP:PROCESS=N for one process type")
    .addHelpText("after", examples("lode scale shop=3", "lode scale shop:worker=2 blog=0"));
  line.act(scale, scaleAction);

  const limits = program
    .command("limits")
    .description("show or set the bounds of each instance, as MIN:MAX:BURST")
    .argument("[APP]", "the app; else that of the working directory")
    .option("--cpu <BOUNDS>", "cores: 0.25:2:4, an empty part is no bound, - lifts all")
    .option("--memory <BOUNDS>", "bytes: 64M:512M:1G; one number is the max")
    .addHelpText("after", examples("lode limits shop --cpu 0.25:2:4 --memory 64M:512M:1G"));
  line.act<CommandOptions & { readonly cpu?: string; readonly memory?: string }>(
    limits,
    (session, args, options) => limitsAction(session, args[0], options),
  );

  const remove = program
    .command("rm")
    .description("remove an app: its instances, releases and data")
    .argument("[APP]", "the app; else that of the working directory")
    .option("-y, --yes", "do not ask")
    .addHelpText("after", examples("lode rm shop --yes"));
  line.act<CommandOptions & { readonly yes?: boolean }>(remove, (session, args, options) =>
    removeAction(session, args[0], options.yes === true),
  );
}

async function appsAction(session: Session, quiet: boolean): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const apps = await client.value.listApps();
  if (!apps.ok) return session.refusal(apps.error);
  const { printer } = session;
  if (session.asJson) printer.json(apps.value.map(appRow));
  else if (quiet) for (const app of apps.value) printer.line(app.name);
  else if (apps.value.length === 0) printer.line("no apps yet: `lode deploy` makes the first");
  else {
    printer.table(
      ["app", "state", "release", "instances", "url"],
      apps.value.map((app) => [
        app.name,
        app.state,
        app.serving === null ? "-" : `v${app.serving}`,
        String(app.instances.length),
        app.urls[0] ?? "-",
      ]),
    );
  }
  return done;
}

function appRow(app: App) {
  return {
    app: app.name,
    state: app.state,
    release: app.serving === null ? null : `v${app.serving}`,
    instances: app.instances.length,
    urls: app.urls,
    createdAt: timeText(app.createdAt),
  };
}

async function psAction(session: Session, app: string | undefined): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const instances = await client.value.listInstances(app ?? null);
  if (!instances.ok) return session.refusal(instances.error);
  const sorted = [...instances.value].sort(byAppAndRelease);
  const { printer } = session;
  if (session.asJson) printer.json(sorted.map(psRow));
  else if (sorted.length === 0) printer.line("no instances");
  else {
    printer.table(
      ["app", "release", "instance", "node", "state", "pid", "restarts", "up", "cpu", "memory"],
      sorted.map((instance) => psCells(instance, session.context.now())),
    );
  }
  return done;
}

function psCells(instance: Instance, now: number): readonly string[] {
  const row = psRow(instance);
  const { phase, lastExit } = instance;
  const startedAt = phase.state === "running" ? phase.startedAt : null;
  const cause =
    lastExit === null || phase.state === "backing-off" ? "" : ` (${describeCause(lastExit.cause)})`;
  return [
    instance.process === "web" ? row.app : `${row.app}:${instance.process}`,
    row.release,
    row.instance,
    row.node,
    describePhase(phase),
    row.pid === null ? "-" : String(row.pid),
    `${row.restarts}${row.restarts > 0 ? cause : ""}`,
    startedAt === null ? "-" : formatDurationMs(Math.max(0, now - startedAt)),
    row.cpu === null ? "-" : row.cpu.toFixed(2),
    row.memoryBytes === null ? "-" : formatBytes(row.memoryBytes),
  ];
}

function byAppAndRelease(left: Instance, right: Instance): number {
  if (left.app !== right.app) return left.app < right.app ? -1 : 1;
  if (left.release !== right.release) return left.release - right.release;
  return left.instance < right.instance ? -1 : 1;
}

async function statusAction(session: Session): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const status = await client.value.status();
  if (!status.ok) return session.refusal(status.error);
  const { version, domain, httpPort, httpsPort, nodes, apps, instances } = status.value;
  const { releasesKept, collected } = status.value;
  const { printer } = session;
  if (session.asJson) {
    printer.json({ ...status.value, apiUrl: client.value.endpoint.apiUrl });
    return done;
  }
  const https = httpsPort === null ? "" : `, https on port ${httpsPort}`;
  printer.line(`lode ${version} at ${client.value.endpoint.apiUrl}`);
  printer.line(`apps at http://APP.${domain}:${httpPort}${https}`);
  printer.line(`${counted(apps, "app")}, ${counted(instances, "instance")}`);
  printer.line(
    `each app keeps ${counted(releasesKept, "earlier release")}; collected since the start: ` +
      `${counted(collected.blobs, "file")}, ${counted(collected.trees, "folder")}, ` +
      formatBytes(collected.blobBytes + collected.treeBytes),
  );
  printer.table(
    ["node", "state", "cores", "memory", "instances"],
    nodes.map((node) => [
      node.name,
      node.alive ? "alive" : "lost",
      String(node.capacity.cores),
      formatBytes(node.capacity.memoryBytes),
      String(node.instances),
    ]),
  );
  return done;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

async function scaleAction(session: Session, args: readonly string[]): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const wanted = new Map<string, Record<string, number>>();
  for (const text of args) {
    const match = /^([^:=]+)(?::([^:=]+))?=(\d{1,5})$/.exec(text);
    const [, app, process, count] = match ?? [];
    if (app === undefined) {
      return err(usageFailure(`"${text}" is not a scale`, "write APP=N or APP:PROCESS=N"));
    }
    const type = process === undefined ? await mainProcess(session, app) : ok(process);
    if (!type.ok) return type;
    wanted.set(app, { ...wanted.get(app), [type.value]: Number(count) });
  }
  const scaled: { app: string; counts: Record<string, number> }[] = [];
  for (const [app, counts] of wanted) {
    const answer = await client.value.scale(app, counts);
    if (!answer.ok) return session.refusal(answer.error);
    scaled.push({ app, counts: answer.value.counts });
    for (const [process, count] of Object.entries(counts)) {
      session.printer.progress(`${app}:${process} has ${counted(count, "instance")}`);
    }
  }
  if (session.asJson) session.printer.json(scaled);
  return done;
}

/** The process type that `APP=N` means: the one that takes requests, or the only one. */
async function mainProcess(session: Session, app: string): Promise<Result<string, Failure>> {
  const client = await session.client();
  if (!client.ok) return client;
  const view = await client.value.getApp(app);
  if (!view.ok) return session.refusal(view.error);
  const number = view.value.serving ?? view.value.target;
  if (number === null) return ok("web");
  const release = await client.value.getRelease(app, number);
  if (!release.ok) return session.refusal(release.error);
  const { http, processes } = release.value.release.config;
  if (http !== null) return ok(http.process);
  const types = Object.keys(processes).filter((type) => type !== "release");
  const [only] = types;
  if (only !== undefined && types.length === 1) return ok(only);
  return err(
    usageFailure(
      `${app} has several processes: ${types.join(", ")}`,
      `write ${app}:${only ?? "PROCESS"}=N`,
    ),
  );
}

async function limitsAction(
  session: Session,
  given: string | undefined,
  options: { readonly cpu?: string; readonly memory?: string },
): ActionOutcome {
  const app = await session.appName(given);
  if (!app.ok) return app;
  const cpu = boundsOf(options.cpu, parseCpuBounds);
  if (!cpu.ok) return err(usageFailure(`--cpu: ${cpu.error}`));
  const memory = boundsOf(options.memory, parseMemoryBounds);
  if (!memory.ok) return err(usageFailure(`--memory: ${memory.error}`));
  const client = await session.client();
  if (!client.ok) return client;
  const changes = {
    ...(cpu.value === null ? {} : { cpu: cpu.value }),
    ...(memory.value === null ? {} : { memory: memory.value }),
  };
  const view =
    Object.keys(changes).length === 0
      ? await client.value.getApp(app.value)
      : await client.value.limit(app.value, changes);
  if (!view.ok) return session.refusal(view.error);
  const { limits } = view.value;
  if (session.asJson) session.printer.json({ app: app.value, ...limits });
  else {
    session.printer.line(`cpu     ${boundsText(limits.cpu, String)}`);
    session.printer.line(`memory  ${boundsText(limits.memory, formatBytes)}`);
  }
  return done;
}

function boundsOf(
  text: string | undefined,
  parse: (text: string) => Result<Bounds, string>,
): Result<Bounds | null, string> {
  if (text === undefined) return ok(null);
  return text === "-" ? ok(unbounded) : parse(text);
}

function boundsText(bounds: Bounds | null, format: (amount: number) => string): string {
  if (bounds === null) return "as the release says";
  const parts = [bounds.min, bounds.max, bounds.burst];
  if (parts.every((part) => part === null)) return "no bounds";
  const text = (part: number | null) => (part === null ? "-" : format(part));
  return `min ${text(bounds.min)}, max ${text(bounds.max)}, burst ${text(bounds.burst)}`;
}

async function removeAction(
  session: Session,
  given: string | undefined,
  yes: boolean,
): ActionOutcome {
  const asked = await session.appAndClient(given);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  if (!yes) {
    const { context } = session;
    if (!context.stdin.isTerminal || !context.stdout.isTerminal || session.asJson) {
      return err(usageFailure(`removing ${app} cannot be undone`, "add --yes to do it"));
    }
    const sure = await context.confirm(`Remove ${app}, its releases and its data?`);
    if (sure !== true) return err(failure(exitCodes.failed, `${app} was not removed`));
  }
  const removed = await client.removeApp(app);
  if (!removed.ok) return session.refusal(removed.error);
  session.printer.status(`ending the instances of ${app}`);
  const deadline = session.context.now() + removalWaitMs;
  while (session.context.now() < deadline) {
    const view = await client.getApp(app);
    if (!view.ok && view.error.kind === "problem" && view.error.problem.status === 404) {
      session.printer.progress(`removed ${app}`);
      if (session.asJson) session.printer.json({ app, removed: true });
      return done;
    }
    if (!view.ok) return session.refusal(view.error);
    await new Promise((resolve) => setTimeout(resolve, removalPollMs));
  }
  return err(failure(exitCodes.failed, `${app} is still being removed; look at \`lode ps\``));
}

async function openAction(session: Session, given: string | undefined): ActionOutcome {
  const asked = await session.appAndClient(given);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const view = await client.getApp(app);
  if (!view.ok) return session.refusal(view.error);
  const url = view.value.urls[0];
  if (url === undefined) {
    return err(failure(exitCodes.refused, `${app} takes no requests, so it has no URL`));
  }
  if (session.asJson) session.printer.json({ app, url });
  else session.printer.line(url);
  if (session.context.stdout.isTerminal && !session.asJson) await session.context.browse(url);
  return done;
}
