import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "commander";
import { err, ok, type Result } from "../../../base/result.ts";
import { parseDurationMs } from "../../../base/units.ts";
import { type CommandLine, type CommandOptions, examples } from "../commandLine.ts";
import { type Failure, usageFailure } from "../failure.ts";
import { timeText } from "../present.ts";
import { type ActionOutcome, done, type Session } from "../session.ts";

interface TokenOptions extends CommandOptions {
  readonly metrics?: boolean;
  readonly expires?: string;
}

interface CertificateOptions extends CommandOptions {
  readonly cert: string;
  readonly key: string;
}

/** Certificates and tokens: how apps and people are let in. */
export function addAccessCommands(program: Command, line: CommandLine): void {
  const certs = program
    .command("certs")
    .description("TLS certificates of the gateways")
    .addHelpText("after", examples("lode certs add shop --cert chain.pem --key key.pem"));
  const list = certs.command("list", { isDefault: true }).description("list them");
  line.act(list, listCertificates);
  const add = certs
    .command("add")
    .alias("set")
    .description("add one, or replace it; the next TLS handshake uses it")
    .argument("<NAME>")
    .requiredOption("--cert <FILE>", "the chain in PEM, leaf first")
    .requiredOption("--key <FILE>", "the private key in PEM");
  line.act<CertificateOptions>(add, addCertificate);
  const remove = certs.command("rm").description("forget one").argument("<NAME>");
  line.act(remove, removeCertificate);

  const tokens = program
    .command("tokens")
    .description("bearer tokens of the API")
    .addHelpText("after", examples("lode tokens create ci", "lode tokens revoke ID"));
  line.act(
    tokens.command("list", { isDefault: true }).description("list them, without secrets"),
    listTokens,
  );
  const create = tokens
    .command("create")
    .description("make one, and print it this once")
    .argument("<NAME>", "what it is for")
    .option("--metrics", "it may read /metrics and nothing else")
    .option("--expires <DURATION>", "after which it no longer works, such as 30d; else never");
  line.act<TokenOptions>(create, createToken);
  const revoke = tokens.command("revoke").description("revoke one at once").argument("<ID>");
  line.act(revoke, revokeToken);
}

async function listCertificates(session: Session): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const certificates = await client.value.listCertificates();
  if (!certificates.ok) return session.refusal(certificates.error);
  const rows = certificates.value.map(({ name, hosts, expiresAt }) => {
    return { name, hosts, expiresAt: timeText(expiresAt) };
  });
  if (session.asJson) session.printer.json(rows);
  else {
    session.printer.table(
      ["name", "hosts", "expires"],
      rows.map((row) => [row.name, row.hosts.join(" "), row.expiresAt]),
    );
  }
  return done;
}

async function addCertificate(
  session: Session,
  [name = ""]: readonly string[],
  options: CertificateOptions,
): ActionOutcome {
  const certificateChain = await readPem(session, "--cert", options.cert);
  if (!certificateChain.ok) return certificateChain;
  const privateKey = await readPem(session, "--key", options.key);
  if (!privateKey.ok) return privateKey;
  const client = await session.client();
  if (!client.ok) return client;
  const set = await client.value.setCertificate(name, {
    certificateChain: certificateChain.value,
    privateKey: privateKey.value,
  });
  if (!set.ok) return session.refusal(set.error);
  const { hosts } = set.value;
  const expiresAt = timeText(set.value.expiresAt);
  if (session.asJson) session.printer.json({ name, hosts, expiresAt });
  else session.printer.line(`${name} serves ${hosts.join(", ")} until ${expiresAt}`);
  return done;
}

async function readPem(
  session: Session,
  option: string,
  path: string,
): Promise<Result<string, Failure>> {
  try {
    return ok(await readFile(resolve(session.context.directory, path), "utf8"));
  } catch (cause) {
    return err(usageFailure(`${option} ${path} cannot be read: ${(cause as Error).message}`));
  }
}

async function removeCertificate(session: Session, [name = ""]: readonly string[]): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const removed = await client.value.removeCertificate(name);
  if (!removed.ok) return session.refusal(removed.error);
  if (session.asJson) session.printer.json({ name, removed: true });
  else session.printer.line(`forgot ${name}`);
  return done;
}

async function listTokens(session: Session): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const tokens = await client.value.listTokens();
  if (!tokens.ok) return session.refusal(tokens.error);
  const rows = tokens.value.map(({ id, name, roles, createdAt, expiresAt }) => ({
    ...{ id, name, roles, createdAt: timeText(createdAt) },
    expiresAt: expiresAt === null ? null : timeText(expiresAt),
  }));
  if (session.asJson) session.printer.json(rows);
  else {
    session.printer.table(
      ["id", "name", "roles", "created", "expires"],
      rows.map(({ id, name, roles, createdAt, expiresAt }) => [
        ...[id, name, roles.join(" "), createdAt, expiresAt ?? "never"],
      ]),
    );
  }
  return done;
}

async function createToken(
  session: Session,
  [name = ""]: readonly string[],
  options: TokenOptions,
): ActionOutcome {
  const lifetime = options.expires === undefined ? ok(null) : parseDurationMs(options.expires);
  if (!lifetime.ok) return err(usageFailure(`--expires: ${lifetime.error}`));
  const client = await session.client();
  if (!client.ok) return client;
  const expiresAt = lifetime.value === null ? null : session.context.now() + lifetime.value;
  const role = options.metrics === true ? "metrics" : "admin";
  const created = await client.value.createToken(name, role, expiresAt);
  if (!created.ok) return session.refusal(created.error);
  const { token, secret } = created.value;
  if (session.asJson) session.printer.json({ id: token.id, name: token.name, token: secret });
  else session.printer.line(secret);
  return done;
}

async function revokeToken(session: Session, [id = ""]: readonly string[]): ActionOutcome {
  const client = await session.client();
  if (!client.ok) return client;
  const revoked = await client.value.revokeToken(id);
  if (!revoked.ok) return session.refusal(revoked.error);
  if (session.asJson) session.printer.json({ id, revoked: true });
  else session.printer.line(`revoked ${id}`);
  return done;
}
