import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificate } from "../../model/route.ts";

/** A certificate that nobody trusts. @param directory where its files go, named after it. */
export function makeCertificate(
  directory: string,
  name: string,
  hosts: readonly string[],
): Certificate {
  const [key, chain] = [join(directory, `${name}.key`), join(directory, `${name}.pem`)];
  const names = hosts.map((host) => `DNS:${host}`).join(",");
  const made = Bun.spawnSync([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-nodes", "-days", "2", "-subj", `/CN=${name}`, "-addext", `subjectAltName=${names}`],
    ...["-keyout", key, "-out", chain],
  ]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return {
    hosts,
    certificateChain: readFileSync(chain, "utf8"),
    privateKey: readFileSync(key, "utf8"),
  };
}
