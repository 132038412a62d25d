import { resolve } from "node:path";
import type { Command } from "commander";
import type { DeployAccepted, DeploymentEvent } from "../../../api/native/client.ts";
import { err } from "../../../base/result.ts";
import { formatBytes, formatDurationMs } from "../../../base/units.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import {
  type DeployStep,
  deployFolder,
  type EndEvent,
  failureOfEnd,
  watchToEnd,
} from "../deployFolder.ts";
import { usageFailure } from "../failure.ts";
import type { Printer } from "../printer.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

interface AppOption extends CommandOptions {
  readonly app?: string;
}

export function addDeployCommands(program: Command, line: CommandLine): void {
  const deploy = program
    .command("deploy")
    .description("deploy a folder and wait until it serves")
    .argument("[DIR]", "the folder", ".")
    .option("--app <NAME>", "the app; else lode.toml's, else the folder's name")
    .addHelpText("after", examples("lode deploy ~/my-app", "lode deploy . --app shop --json"));
  line.act<AppOption>(deploy, (session, args, options) =>
    deployAction(session, args[0] ?? ".", options.app),
  );

  const rollback = program
    .command("rollback")
    .description("go back to an earlier release, by default the one before")
    .argument("[APP]", "the app; else that of the working directory")
    .argument("[RELEASE]", "such as v3")
    .option("--app <NAME>", "the app")
    .addHelpText("after", examples("lode rollback", "lode rollback shop v3"));
  line.act<AppOption>(rollback, (session, args, options) =>
    rollbackAction(session, args, options.app),
  );
}

async function deployAction(
  session: Session,
  folder: string,
  givenApp: string | undefined,
): ActionOutcome {
  const asked = await session.appAndClient(givenApp, folder);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const deployed = await deployFolder({
    client,
    folder: resolve(session.context.directory, folder),
    app,
    now: session.context.now,
    refusal: session.refusal,
    onStep: presentSteps(session.printer, app),
  });
  if (!deployed.ok) return deployed;
  const { accepted, end, uploadMs, totalMs } = deployed.value;
  return conclude(session, accepted, end, { upload: uploadMs, total: totalMs });
}

async function rollbackAction(
  session: Session,
  args: readonly string[],
  givenApp: string | undefined,
): ActionOutcome {
  const words = [...args];
  const releaseWord = /^v?\d+$/.test(words.at(-1) ?? "") ? words.pop() : undefined;
  const app = await session.appName(givenApp ?? words.shift());
  if (!app.ok) return app;
  if (words.length > 0) {
    return err(usageFailure(`"${words[0]}" is not a release`, "write it like v3"));
  }
  const client = await session.client();
  if (!client.ok) return client;
  const began = session.context.now();
  const release = releaseWord === undefined ? null : Number(releaseWord.replace("v", ""));
  const accepted = await client.value.rollback(app.value, release);
  if (!accepted.ok) return session.refusal(accepted.error);
  const end = await waitForRelease(session, app.value, accepted.value.release);
  if (!end.ok) return end;
  const total = session.context.now() - began;
  return conclude(session, accepted.value, end.value, { upload: 0, total });
}

/** Shows a release's way until its end. */
export async function waitForRelease(session: Session, app: string, release: number) {
  const client = await session.client();
  if (!client.ok) return client;
  return watchToEnd(
    {
      client: client.value,
      app,
      refusal: session.refusal,
      onStep: presentSteps(session.printer, app),
    },
    release,
  );
}

function conclude(
  session: Session,
  accepted: DeployAccepted,
  end: EndEvent,
  durationMs: { readonly upload: number; readonly total: number },
): ActionOutcome {
  const { printer } = session;
  const { app, release, url } = accepted;
  printer.status(null);
  const failed = failureOfEnd(app, release, end);
  if (session.asJson) {
    printer.json({
      app,
      release: `v${release}`,
      url,
      state: end.state,
      durationMs: {
        upload: durationMs.upload,
        build: end.durationMs.build,
        start: end.durationMs.start,
        total: durationMs.total,
      },
      ...(failed === null ? {} : { reason: end.reason, logTail: end.logTail }),
    });
  } else if (end.state === "superseded") {
    printer.line(`v${release} of ${app} was superseded by a later release`);
  } else if (failed === null) {
    const took = printer.colors.dim(`in ${formatDurationMs(durationMs.total)}`);
    printer.line(`${printer.colors.green("serving")} v${release} of ${app} ${took}`);
    if (url !== null) printer.line(printer.colors.bold(url));
  }
  return Promise.resolve(failed === null ? done : err(failed));
}

/** Shows the steps of one release as they come. */
function presentSteps(printer: Printer, app: string): (step: DeployStep) => void {
  const begunAt = new Map<string, number>();
  return (step) => {
    switch (step.kind) {
      case "hashing":
        printer.status(`reading ${step.files} of ${step.of} files`);
        return;
      case "uploading":
        printer.status(
          `uploading ${step.filesDone} of ${step.files} files, ` +
            `${formatBytes(step.bytesDone)} of ${formatBytes(step.bytes)}`,
        );
        return;
      case "uploaded":
        printer.progress(
          `uploaded ${step.files} of ${step.scanned.fileCount} files ` +
            `(${formatBytes(step.bytes)} of ${formatBytes(step.scanned.bytes)}) ` +
            `in ${formatDurationMs(step.durationMs)}`,
        );
        return;
      case "accepted": {
        const { recognition, release } = step.accepted;
        printer.progress(
          `v${release} of ${app}, recognised as ${recognition.kind}: ${recognition.reason}`,
        );
        return;
      }
      case "interrupted":
        printer.progress("the cloud does not answer; trying again");
        return;
      case "event":
        presentEvent(printer, step.event, begunAt);
    }
  };
}

function presentEvent(
  printer: Printer,
  event: DeploymentEvent,
  begunAt: Map<string, number>,
): void {
  if (event.kind === "output") printer.progress(printer.colors.dim(`  ${event.line}`));
  if (event.kind !== "stage") return;
  const { stage, state, at } = event;
  if (state === "begin") {
    begunAt.set(stage, at);
    const text = `${stage}: ${event.message}`;
    printer.progress(text);
    printer.status(text);
    return;
  }
  const tookMs = at - (begunAt.get(stage) ?? at);
  const text = event.message === "" ? "done" : event.message;
  printer.progress(`${stage}: ${text} ${printer.colors.dim(`(${formatDurationMs(tookMs)})`)}`);
}
