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
  const asked = await session.appAndClient(args[0]);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const releases = await client.listReleases(app);
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
    const oldest = releases.value.at(-1)?.release.number ?? 1;
    if (oldest > 1) session.printer.line(`older than v${oldest}: no longer kept`);
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
