import { join } from "node:path";
import type { Command } from "commander";
import { err, ok, type Result } from "./base/result.ts";
import { buildCli } from "./clients/cli/cli.ts";
import { exitProcess, processContext } from "./clients/cli/context.ts";
import { defaultDataDirectory } from "./model/endpoint.ts";
import type { CloudPaths } from "./node/paths.ts";
import type { RawUpOptions, UpOptions } from "./up/options.ts";
import type { Fabric, Surroundings } from "./up/parts.ts";
import { version } from "./up/version.ts";

// The only production file that names adapters. Each command loads what it needs when it runs,
// so that a client's command does not wait for the server's code.

/** A gateway faces the internet: it may ask for routes and wakes, and tell what it measured. */
const gatewayPermissions = {
  publish: [
    "gateway.*.load",
    "gateway.*.metrics",
    "gateway.*.finished",
    "costs.learned",
    "costs.wanted",
  ],
  subscribe: [
    "routes.changed",
    "node.*.cpu",
    "gateway.*.finished",
    "costs.learned",
    "costs.wanted",
  ],
  request: ["routes.snapshot", "routes.find", "node.*.wake"],
  respond: ["gateway.*.quiesce"],
};

/** The embedded fabric of one machine: SQLite, memory, files. */
async function openFabric(paths: CloudPaths): Promise<Result<Fabric, string>> {
  const { createSqliteLedger } = await import("./fabric/sqlite/ledger.ts");
  const { createFileBlobs } = await import("./fabric/files/blobs.ts");
  const { createMemoryWire } = await import("./fabric/memory/wire.ts");
  const { permissionsOf, serveWire } = await import("./fabric/unix/server.ts");
  const { systemClock: clock } = await import("./fabric/system.ts");
  const { dataPaths } = await import("./node/paths.ts");
  const ledger = await createSqliteLedger({ path: dataPaths.ledger(paths), clock });
  if (!ledger.ok) return err(ledger.error.message);
  const blobs = await createFileBlobs({ directory: dataPaths.blobs(paths) });
  if (!blobs.ok) return err(blobs.error.message);
  const wire = createMemoryWire({ clock });
  const closers: (() => Promise<void>)[] = [() => wire.close(), () => ledger.value.close()];
  return ok({
    ...{ ledger: ledger.value, wire, blobs: blobs.value },
    async serveGateways(socketPath, uid) {
      const permissions = permissionsOf(gatewayPermissions);
      const owner = { uid, gid: uid };
      const server = await serveWire({ wire, socketPath, permissions, mode: 0o600, owner });
      if (!server.ok) return err(server.error.message);
      closers.unshift(() => server.value.close());
      return ok(undefined);
    },
    async close() {
      for (const close of closers) await close();
    },
  });
}

async function surroundings(): Promise<Surroundings> {
  const { systemClock, systemRandom } = await import("./fabric/system.ts");
  return {
    clock: systemClock,
    random: systemRandom,
    env: process.env,
    say: (line) => console.log(line),
    openFabric,
  };
}

/** Writes the line to standard error and ends with exit code 1. */
async function fail(line: string): Promise<never> {
  process.stderr.write(`lode: ${line}\n`);
  return exitProcess(1);
}

async function runUp(raw: RawUpOptions & { readonly printUnit?: boolean }): Promise<void> {
  const { parseUpOptions } = await import("./up/options.ts");
  const options = parseUpOptions(raw, process.env);
  if (!options.ok) return fail(options.error);
  if (raw.printUnit === true) {
    const { systemdUnit } = await import("./up/unit.ts");
    const { ownCommand } = await import("./up/runtime.ts");
    process.stdout.write(systemdUnit(ownCommand(), options.value));
    return;
  }
  const { up } = await import("./up/up.ts");
  const around = await surroundings();
  // Until it is ready, both signals mean: undo and end.
  const early = () => void exitProcess(130);
  process.on("SIGINT", early).on("SIGTERM", early);
  const cloud = await up(options.value, around);
  if (!cloud.ok) return fail(cloud.error);
  process.off("SIGINT", early).off("SIGTERM", early);
  endOnSignals(cloud.value, around.say);
  around.say(readyLine(options.value, cloud.value.apiUrl));
  if (options.value.demo) await runDemo(options.value, around.say);
  await forever();
}

/** Ends with the process: by a signal. */
function forever(): Promise<never> {
  return new Promise(() => {
    setInterval(() => {}, 2 ** 30);
  });
}

function readyLine(options: UpOptions, apiUrl: string): string {
  const port = options.httpPort === 80 ? "" : `:${options.httpPort}`;
  return `ready http://*.${options.domain}${port} api ${apiUrl} data ${options.dataDirectory}`;
}

function endOnSignals(
  cloud: { leave(): Promise<void>; stop(): Promise<void> },
  say: (line: string) => void,
): void {
  let ending = false;
  process.on("SIGTERM", async () => {
    if (ending) return;
    ending = true;
    say("leaving: apps and gateways serve on; the next lode up takes them over");
    await cloud.leave();
    await exitProcess(0);
  });
  process.on("SIGINT", async () => {
    if (ending) return say("already stopping; apps have 10 s to end by themselves");
    ending = true;
    say("stopping the cloud and its apps");
    await cloud.stop();
    say("stopped");
    await exitProcess(0);
  });
}

async function runDemo(options: UpOptions, say: (line: string) => void): Promise<void> {
  const { deployExamples } = await import("./up/demo.ts");
  const examples = join(import.meta.dir, "..", "examples");
  await deployExamples(examples, (folder, app) => deployByCli(options, folder, app), say);
}

/** Deploys as a user would, through the command line and the API. */
async function deployByCli(
  options: UpOptions,
  folder: string,
  app: string,
): Promise<string | null> {
  const output = collector();
  const errors = collector();
  const cli = buildCli({
    ...processContext(version),
    env: { ...process.env, LODE_DATA_DIR: options.dataDirectory, LODE_API: undefined },
    stdout: output,
    stderr: errors,
  });
  const code = await cli.run(["deploy", folder, "--app", app, "--json"]);
  const told = errors.text().trim() === "" ? output.text().trim() : errors.text().trim();
  if (code !== 0) throw new Error(told);
  const last = output.text().trimEnd().split("\n").at(-1) ?? "null";
  return (JSON.parse(last) as { url: string | null }).url;
}

/** An output that only this program reads. */
function collector() {
  const parts: string[] = [];
  return {
    write: (data: string | Uint8Array) => void parts.push(String(data)),
    isTerminal: false,
    text: () => parts.join(""),
  };
}

async function runDown(raw: { readonly dataDir?: string }): Promise<void> {
  const { down } = await import("./up/down.ts");
  const { clock, random, say } = await surroundings();
  const dataDirectory = raw.dataDir ?? process.env["LODE_DATA_DIR"] ?? defaultDataDirectory;
  const done = await down({ dataDirectory, clock, random, say });
  if (!done.ok) return fail(done.error);
  say("stopped; nothing of the cloud is left but its data directory");
}

async function runDoctor(raw: RawUpOptions & { readonly json?: boolean }): Promise<number> {
  const { examine, formatReport } = await import("./up/doctor.ts");
  const report = await examine(raw, await surroundings());
  if (!report.ok) return fail(report.error);
  const { value } = report;
  process.stdout.write(raw.json === true ? `${JSON.stringify(value)}\n` : formatReport(value));
  return value.healthy ? 0 : 1;
}

function addListenOptions(command: Command): Command {
  return command
    .option("--data-dir <dir>", `where the cloud keeps its data (${defaultDataDirectory})`)
    .option("--http-port <port>", "port for HTTP", "8080")
    .option("--https-port <port>", "port for HTTPS; none without it")
    .option("--api-port <port>", "port of the API, on 127.0.0.1", "4600")
    .option("--domain <name>", "apps answer on <app>.<name>", "localhost");
}

async function main(): Promise<void> {
  const cli = buildCli(processContext(version));
  let exitCode = 0;
  addListenOptions(cli.program.command("up"))
    .description("start the cloud on this machine and stay in the foreground")
    .option("--keep-releases <count>", "earlier releases kept of each app to roll back to (10)")
    .option("--ready <count>", "sandboxes kept ready for apps that sleep (16)")
    .option("--demo", "deploy the examples once it serves")
    .option("--print-unit", "print a systemd unit for these options, and end")
    .action(runUp);
  cli.program
    .command("down")
    .description("stop the cloud and its apps, and leave nothing behind but its data")
    .option("--data-dir <dir>", `of the cloud to stop (${defaultDataDirectory})`)
    .action(runDown);
  addListenOptions(cli.program.command("doctor"))
    .description("check this machine, and say how to mend what is missing")
    .option("--json", "print JSON, for programs")
    .action(async (raw) => {
      exitCode = await runDoctor(raw);
    });
  cli.program.command("gateway", { hidden: true }).action(async () => {
    const { runGateway } = await import("./up/gateway-entry.ts");
    runGateway(process.env["LODE_GATEWAY"]);
    await forever();
  });
  const code = await cli.run(process.argv.slice(2));
  await exitProcess(code === 0 ? exitCode : code);
}

await main();
