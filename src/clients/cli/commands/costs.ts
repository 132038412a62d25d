import type { Command } from "commander";
import { type CommandLine, examples } from "../commandLine.ts";
import { timeText } from "../present.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

export function addCostsCommand(program: Command, line: CommandLine): void {
  const costs = program
    .command("costs")
    .description("show what the requests of an app cost in CPU, as gateways learned it")
    .argument("[APP]", "the app; else that of the working directory")
    .addHelpText("after", examples("lode costs shop", "lode costs shop --json"));
  line.act(costs, (session, args) => costsAction(session, args[0]));
}

async function costsAction(session: Session, given: string | undefined): ActionOutcome {
  const asked = await session.appAndClient(given);
  if (!asked.ok) return asked;
  const { app, client } = asked.value;
  const costs = await client.costs(app);
  if (!costs.ok) return session.refusal(costs.error);
  const { classes, idleUs, sure, learnedAt } = costs.value;
  const { printer } = session;
  if (session.asJson) {
    printer.json({
      app,
      balancedBy: sure ? "cost" : "requests in flight",
      learnedAt: learnedAt === null ? null : timeText(learnedAt),
      idleCores: idleUs / 1e6,
      classes: classes.map(({ name, costUs, confidence, requests, reported }) => ({
        class: name,
        cpuMs: costUs / 1000,
        confidence,
        requests: Math.round(requests),
        reported,
      })),
    });
    return done;
  }
  if (classes.length === 0) {
    printer.line(`nothing is known of ${app} yet: costs are learned from its requests`);
    return done;
  }
  printer.table(
    ["class", "CPU-ms", "confidence", "requests", "source"],
    classes.map(({ name, costUs, confidence, requests, reported }) => [
      name,
      (costUs / 1000).toPrecision(3),
      `${Math.round(confidence * 100)} %`,
      String(Math.round(requests)),
      reported ? "told by the app" : "measured",
    ]),
  );
  printer.line(
    sure
      ? "requests are placed by cost"
      : "requests are placed by how many are in flight, until costs are sure",
  );
  return done;
}
