import type { Command } from "commander";
import type { Release } from "../../../api/native/client.ts";
import { type CommandLine, examples } from "../commandLine.ts";
import { timeText } from "../present.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

export function addReleaseCommands(program: Command, line: CommandLine): void {
  const releases = program
    .command("releases")
    .description("list an app's releases, newest first")
    .argument("[APP]", "the app; else that of the working directory")
    .addHelpText("after", examples("lode releases shop"));
  line.act(releases, releasesAction);
}

async function releasesAction(session: Session, args: readonly string[]): ActionOutcome {
  const app = await session.appName(args[0]);
  if (!app.ok) return app;
  const client = await session.client();
  if (!client.ok) return client;
  const releases = await client.value.listReleases(app.value);
  if (!releases.ok) return session.refusal(releases.error);
  const rows = releases.value.map(rowOf);
  if (session.asJson) session.printer.json(rows);
  else {
    session.printer.table(
      ["release", "state", "created", "by", "cause", "reason"],
      rows.map((row) => [
        row.release,
        row.state,
        row.createdAt,
        row.createdBy,
        row.cause,
        row.reason ?? "",
      ]),
    );
  }
  return done;
}

function rowOf({ release, deployment }: Release) {
  return {
    release: `v${release.number}`,
    state: deployment.state,
    createdAt: timeText(release.createdAt),
    createdBy: release.createdBy,
    cause: release.cause,
    kind: release.config.recognition.kind,
    reason: deployment.state === "failed" ? deployment.reason : null,
  };
}
