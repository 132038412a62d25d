import { createSecureContext } from "node:tls";
import type { Certificate } from "../../model/route.ts";

/** What Bun's sockets take as the answer to a server name. */
export type NativeContext = object;

interface Entry {
  readonly certificate: Certificate;
  /** Made at the first handshake that needs it; null: it cannot be used. */
  context: NativeContext | null | undefined;
}

/**
 * The certificates in use, found by server name: an exact name first, then `*.` for its first
 * label. Replaced whole and live; what did not change keeps its context.
 */
export class CertificateStore {
  private entries = new Map<string, Entry>();
  private readonly onProblem: (message: string) => void;

  constructor(onProblem: (message: string) => void) {
    this.onProblem = onProblem;
  }

  replace(certificates: readonly Certificate[]): void {
    const known = new Map<string, Entry>();
    for (const entry of this.entries.values()) known.set(keyOf(entry.certificate), entry);
    const entries = new Map<string, Entry>();
    for (const certificate of certificates) {
      const entry = known.get(keyOf(certificate)) ?? { certificate, context: undefined };
      for (const host of certificate.hosts) entries.set(host.toLowerCase(), entry);
    }
    this.entries = entries;
  }

  /** Undefined: there is none for this name, the handshake fails. */
  contextFor(serverName: string): NativeContext | undefined {
    const entry = this.find(serverName);
    if (entry === undefined) return undefined;
    if (entry.context === undefined) entry.context = this.makeContext(entry.certificate);
    return entry.context ?? undefined;
  }

  /** Whether the certificate shown for `serverName` is also good for `host`. */
  covers(serverName: string, host: string): boolean {
    if (serverName === host) return true;
    const shown = this.find(serverName);
    return shown !== undefined && this.find(host) === shown;
  }

  private find(serverName: string): Entry | undefined {
    const name = serverName.toLowerCase().replace(/\.$/, "");
    const exact = this.entries.get(name);
    if (exact !== undefined) return exact;
    const dot = name.indexOf(".");
    return dot < 0 ? undefined : this.entries.get(`*${name.slice(dot)}`);
  }

  private makeContext(certificate: Certificate): NativeContext | null {
    try {
      const context = createSecureContext({
        key: certificate.privateKey,
        cert: certificate.certificateChain,
        minVersion: "TLSv1.2",
      });
      return context.context as NativeContext;
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      this.onProblem(`cannot use the certificate for ${certificate.hosts.join(", ")}: ${cause}`);
      return null;
    }
  }
}

function keyOf(certificate: Certificate): string {
  return `${certificate.certificateChain}\n${certificate.privateKey}`;
}
