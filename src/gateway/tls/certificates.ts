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
 * label. The first of them is for who names none, or one that is not there. Replaced whole and
 * live; what did not change keeps its context.
 */
export class CertificateStore {
  /** Called when `fallback` is another. */
  onFallback: () => void = () => {};
  private entries = new Map<string, Entry>();
  private first: Entry | undefined;
  private readonly onProblem: (message: string) => void;

  constructor(onProblem: (message: string) => void) {
    this.onProblem = onProblem;
  }

  replace(certificates: readonly Certificate[]): void {
    const known = new Map<string, Entry>();
    for (const entry of this.entries.values()) known.set(keyOf(entry.certificate), entry);
    const used = certificates.map(
      (certificate) => known.get(keyOf(certificate)) ?? { certificate, context: undefined },
    );
    this.entries = new Map(
      used.flatMap((entry) =>
        entry.certificate.hosts.map((host): [string, Entry] => [host.toLowerCase(), entry]),
      ),
    );
    const before = this.first;
    this.first = used.find((entry) => this.usable(entry) !== null);
    if (this.first !== before) this.onFallback();
  }

  /** For clients that name no server, or one that is not there; null: their handshake fails. */
  get fallback(): Certificate | null {
    return this.first?.certificate ?? null;
  }

  /** Undefined: there is none for this name. */
  contextFor(serverName: string): NativeContext | undefined {
    const entry = this.find(serverName);
    return entry === undefined ? undefined : (this.usable(entry) ?? undefined);
  }

  /** Whether the certificate shown for `serverName` is also good for `host`. */
  covers(serverName: string, host: string): boolean {
    if (serverName === host) return true;
    const shown = this.find(serverName) ?? this.first;
    return shown !== undefined && this.find(host) === shown;
  }

  private find(serverName: string): Entry | undefined {
    const name = serverName.toLowerCase().replace(/\.$/, "");
    const exact = this.entries.get(name);
    if (exact !== undefined) return exact;
    const dot = name.indexOf(".");
    return dot < 0 ? undefined : this.entries.get(`*${name.slice(dot)}`);
  }

  private usable(entry: Entry): NativeContext | null {
    if (entry.context === undefined) entry.context = this.makeContext(entry.certificate);
    return entry.context;
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
