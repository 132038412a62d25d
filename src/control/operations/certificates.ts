import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { ok, type Result } from "../../base/result.ts";
import type { Timestamp } from "../../base/time.ts";
import { keys } from "../../model/keys.ts";
import type { CertificateRecord } from "../../scheduler/snapshot.ts";
import type { OperationError, Operations, Outcome } from "../operations.ts";
import { type Context, commit, refuse } from "./context.ts";

type Given = Parameters<Operations["setCertificate"]>[1];

interface Parsed {
  readonly hosts: readonly string[];
  readonly expiresAt: Timestamp;
}

const namePattern = /^[a-z0-9*](?:[a-z0-9.*_-]{0,251}[a-z0-9])?$/;
const chainMax = 10;

export async function setCertificate(
  context: Context,
  name: string,
  given: Given,
): Outcome<{ hosts: readonly string[]; expiresAt: Timestamp }> {
  if (!namePattern.test(name)) {
    const remedy = 'use a-z, 0-9, ".", "-" and "_", such as the host name';
    return refuse("invalid", `"${name.slice(0, 100)}" cannot name a certificate`, remedy);
  }
  const parsed = parseCertificate(given, context.clock.now());
  if (!parsed.ok) return parsed;
  const record: CertificateRecord = {
    name,
    ...parsed.value,
    certificateChain: given.certificateChain,
    privateKey: context.secretBox.seal(given.privateKey),
  };
  const write = {
    kind: "put",
    key: keys.certificate(name),
    value: JSON.stringify(record),
  } as const;
  return commit(context, `storing certificate ${name}`, async () =>
    ok({ conditions: [], writes: [write], value: parsed.value }),
  );
}

export async function listCertificates(
  context: Context,
): Outcome<readonly { name: string; hosts: readonly string[]; expiresAt: Timestamp }[]> {
  const records = [...context.engine.state.snapshot.certificates.values()];
  return ok(
    records
      .map(({ value: { name, hosts, expiresAt } }) => ({ name, hosts, expiresAt }))
      .sort((one, other) => (one.name < other.name ? -1 : 1)),
  );
}

export async function removeCertificate(context: Context, name: string): Outcome<void> {
  return commit(context, `removing certificate ${name}`, async () => {
    const record = context.engine.state.snapshot.certificates.get(name);
    if (record === undefined) {
      return refuse("notFound", `there is no certificate ${name}`, "see lode certificates");
    }
    const key = keys.certificate(name);
    return ok({
      conditions: [{ kind: "unchanged", key, modRevision: record.modRevision }],
      writes: [{ kind: "delete", key }],
      value: undefined,
    });
  });
}

/** Refuses what a gateway could not serve with. */
export function parseCertificate(given: Given, now: Timestamp): Result<Parsed, OperationError> {
  const blocks = given.certificateChain.match(
    /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g,
  );
  if (blocks === null || blocks.length > chainMax) {
    const message = `the certificate chain has ${blocks?.length ?? 0} PEM certificates`;
    return refuse("invalid", message, `give 1 to ${chainMax}, the server's own first`);
  }
  const chain: X509Certificate[] = [];
  for (const [index, block] of blocks.entries()) {
    const certificate = attempt(() => new X509Certificate(block));
    if (certificate === null) {
      return refuse("invalid", `certificate ${index + 1} of the chain cannot be read`);
    }
    chain.push(certificate);
  }
  const [leaf] = chain as [X509Certificate, ...X509Certificate[]];
  const broken = chain.findIndex((one, index) => {
    const issuer = chain[index + 1];
    return issuer !== undefined && !one.checkIssued(issuer);
  });
  if (broken !== -1) {
    const [issuer, issued] = [broken + 2, broken + 1];
    const message = `certificate ${issuer} of the chain did not issue certificate ${issued}`;
    return refuse("invalid", message, "order them from the server's own to its issuers");
  }
  const key = attempt(() => createPrivateKey(given.privateKey));
  if (key === null) {
    return refuse("invalid", "the private key cannot be read", "give it as PEM, not encrypted");
  }
  return checkLeaf(leaf, key, now);
}

function checkLeaf(
  leaf: X509Certificate,
  key: KeyObject,
  now: Timestamp,
): Result<Parsed, OperationError> {
  if (!leaf.checkPrivateKey(key)) {
    const remedy = "give the key that the server's own certificate, the first, was made with";
    return refuse("invalid", "the private key does not belong to the certificate", remedy);
  }
  const expiresAt = Date.parse(leaf.validTo);
  if (expiresAt <= now) {
    return refuse("invalid", `the certificate expired on ${leaf.validTo}`, "renew it");
  }
  const hosts = (leaf.subjectAltName ?? "")
    .split(", ")
    .flatMap((name) => (name.startsWith("DNS:") ? [name.slice(4).toLowerCase()] : []));
  if (hosts.length === 0) {
    return refuse("invalid", "the certificate names no host", "it needs a DNS subjectAltName");
  }
  return ok({ hosts, expiresAt });
}

function attempt<Value>(work: () => Value): Value | null {
  try {
    return work();
  } catch {
    return null;
  }
}
