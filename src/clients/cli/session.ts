import { readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { type Client, type ClientError, createClient } from "../../api/native/client.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { lodeTomlFile, parseLodeToml } from "../../model/config/lode-toml.ts";
import { appNameFromFolder, parseAppName } from "../../model/names.ts";
import type { CliContext } from "./context.ts";
import { exitCodes, type Failure, failure, failureOf, usageFailure } from "./failure.ts";
import { locateCloud } from "./locate.ts";
import { createPrinter, type Printer } from "./printer.ts";

/** What an action ends with: an exit code, or why it failed. */
export type ActionOutcome = Promise<Result<number, Failure>>;

export const done: Result<number, Failure> = ok(exitCodes.ok);

/** One run of one command. */
export interface Session {
  readonly context: CliContext;
  readonly printer: Printer;
  readonly asJson: boolean;
  /** The cloud's client; found once. */
  client(): Promise<Result<Client, Failure>>;
  /** An error of the client's in the words of this session. */
  refusal(error: ClientError): Result<never, Failure>;
  /** The named app, or the one of the folder (null: the working directory). */
  appName(given: string | undefined, folder?: string): Promise<Result<string, Failure>>;
  /** The same, and the cloud to ask about it. */
  appAndClient(
    given: string | undefined,
    folder?: string,
  ): Promise<Result<{ readonly app: string; readonly client: Client }, Failure>>;
}

export function createSession(context: CliContext, asJson: boolean): Session {
  const printer = createPrinter(context, asJson);
  let whence = "";
  let client: Client | null = null;
  const session: Session = {
    context,
    printer,
    asJson,
    async client() {
      if (client !== null) return ok(client);
      const located = await locateCloud(context.env);
      if (!located.ok) return located;
      whence = located.value.whence;
      client = createClient(located.value.endpoint, { fetch: context.fetch });
      return ok(client);
    },
    refusal: (error) => err(failureOf(error, whence)),
    appName: (given, folder) => appNameOf(given, resolve(context.directory, folder ?? ".")),
    async appAndClient(given, folder) {
      const app = await session.appName(given, folder);
      if (!app.ok) return app;
      const found = await session.client();
      return found.ok ? ok({ app: app.value, client: found.value }) : found;
    },
  };
  return session;
}

async function appNameOf(
  given: string | undefined,
  folder: string,
): Promise<Result<string, Failure>> {
  if (given !== undefined) {
    const name = parseAppName(given);
    return name.ok ? name : err(usageFailure(name.error));
  }
  const configured = await configuredName(folder);
  if (!configured.ok || configured.value !== null) return configured as Result<string, Failure>;
  const name = appNameFromFolder(basename(folder));
  if (name !== "") return ok(name);
  return err(usageFailure(`the folder ${folder} gives no name for an app`, "use --app NAME"));
}

async function configuredName(folder: string): Promise<Result<string | null, Failure>> {
  let text: string;
  try {
    text = await readFile(join(folder, lodeTomlFile), "utf8");
  } catch {
    return ok(null);
  }
  const parsed = parseLodeToml(text);
  if (parsed.ok) return ok(parsed.value.app);
  const { message, remedy, at } = parsed.error;
  const where = at === null || message.includes(at) ? "" : `${at}: `;
  return err(failure(exitCodes.refused, `${where}${message}`, remedy));
}
