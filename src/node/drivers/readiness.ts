import {
  chmodSync,
  linkSync,
  lstatSync,
  readFileSync,
  renameSync,
  unlinkSync,
  watch,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import { formatDurationMs } from "../../base/units.ts";
import type { Endpoint } from "../../model/instance.ts";
import type { HealthCheck } from "../../model/release.ts";

/** Attempts begin close together, as most apps are ready within milliseconds. */
const firstDelayMs = 2;
const delayMsMax = 250;
const attemptTimeoutMs = 5000;
const lookMs = 10;

/**
 * Waits until the app's socket listens, and makes it reachable for gateways as `target`. A
 * socket is there some microseconds before it listens, so the app says by a file beside it when
 * it does. The link is to the inode, never through a symlink, and what it names is looked at
 * under a name that the app cannot touch: an app can offer its own socket and nothing else.
 */
export function socketReady(
  sourceDirectory: string,
  target: string,
  uid: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const source = join(sourceDirectory, "http.sock");
  const listens = (): boolean =>
    lstatSync(`${source}.listens`, { throwIfNoEntry: false }) !== undefined;
  return new Promise((resolve) => {
    const finish = (ready: boolean): void => {
      stopWatching();
      signal.removeEventListener("abort", abort);
      resolve(ready);
    };
    const abort = (): void => finish(false);
    const look = (): void => {
      if (listens() && publishSocket(source, target, uid)) finish(true);
    };
    const stopWatching = watchFolder(sourceDirectory, clock, look);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    else look();
  });
}

/** By the kernel's event, or by looking where the machine's inotify instances are used up. */
function watchFolder(path: string, clock: Clock, changed: () => void): () => void {
  try {
    const watcher = watch(path, { persistent: false }, changed);
    return () => watcher.close();
  } catch {
    const timer = clock.every(lookMs, changed);
    return () => timer.cancel();
  }
}

function publishSocket(source: string, target: string, uid: number): boolean {
  const linked = `${target}.new`;
  try {
    unlinkIfThere(linked);
    linkSync(source, linked);
  } catch {
    return false;
  }
  const found = lstatSync(linked);
  if (!found.isSocket() || found.uid !== uid) {
    unlinkSync(linked);
    return false;
  }
  // Its folder decides who may come near it; the gateway's user is none of the owner's.
  chmodSync(linked, 0o666);
  renameSync(linked, target);
  return true;
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was not there.
  }
}

/** Waits until `endpoint` answers as the check wants; when aborted before, the last failure. */
export async function answers(
  endpoint: Endpoint,
  check: HealthCheck | null,
  clock: Clock,
  signal: AbortSignal,
): Promise<Result<void, string>> {
  let last = "it accepts but does not answer";
  for (let delayMs = firstDelayMs; !signal.aborted; delayMs = Math.min(delayMsMax, delayMs * 1.5)) {
    const attempt = await attemptOnce(endpoint, check?.path ?? null, signal);
    if (attempt.ok) return attempt;
    if (signal.aborted) break;
    last = attempt.error;
    await new Promise<void>((resolve) => clock.after(delayMs, resolve));
  }
  return err(last);
}

function attemptOnce(
  endpoint: Endpoint,
  path: string | null,
  signal: AbortSignal,
): Promise<Result<void, string>> {
  return new Promise((resolve) => {
    const socket: Socket =
      endpoint.kind === "unix"
        ? connect({ path: endpoint.path })
        : connect({ host: endpoint.host, port: endpoint.port });
    let head = "";
    const finish = (result: Result<void, string>): void => {
      signal.removeEventListener("abort", abort);
      socket.destroy();
      resolve(result);
    };
    const abort = (): void => finish(err("it took too long"));
    signal.addEventListener("abort", abort);
    socket.setTimeout(attemptTimeoutMs, () => finish(err("it accepts but does not answer")));
    socket.on("error", (cause) => finish(err(`connecting: ${cause.message}`)));
    socket.on("close", () => finish(err("it closed the connection without an answer")));
    socket.on("connect", () => {
      if (path === null) return finish(ok(undefined));
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lode-health\r\n` +
          "Accept: */*\r\nConnection: close\r\n\r\n",
      );
    });
    socket.on("data", (data) => {
      head += data.toString("latin1");
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1];
      if (status === undefined && head.length < 64) return;
      finish(judge(status, path ?? "/"));
    });
  });
}

function judge(status: string | undefined, path: string): Result<void, string> {
  if (status === undefined) return err(`GET ${path} was not answered with HTTP`);
  const code = Number(status);
  return code >= 200 && code < 400 ? ok(undefined) : err(`GET ${path} answered ${status}`);
}

export interface Listener {
  readonly address: string;
  readonly port: number;
}

const listenState = "0A";

/** Who listens on TCP in the network namespace of a process. */
export function listeners(pid: number): Listener[] {
  return ["tcp", "tcp6"].flatMap((table) => {
    try {
      return parseListeners(readFileSync(`/proc/${pid}/net/${table}`, "utf8"));
    } catch {
      return [];
    }
  });
}

/** Lines of /proc/net/tcp and tcp6: `sl local:port remote:port state …`, in hexadecimal. */
export function parseListeners(table: string): Listener[] {
  const found: Listener[] = [];
  for (const line of table.split("\n").slice(1)) {
    const [, local, , state] = line.trim().split(/\s+/);
    if (local === undefined || state !== listenState) continue;
    const [address = "", port = ""] = local.split(":");
    found.push({ address: decodeAddress(address), port: Number.parseInt(port, 16) });
  }
  return found;
}

function decodeAddress(hex: string): string {
  if (/^0+$/.test(hex)) return hex.length === 8 ? "0.0.0.0" : "::";
  if (hex.length === 8) {
    const bytes = [6, 4, 2, 0].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
    return bytes.join(".");
  }
  if (hex === "00000000000000000000000001000000") return "::1";
  return `[${hex.toLowerCase()}]`;
}

/** Why nothing answered on `port`, and how to mend it, as far as the listeners tell. */
export function explainSilence(
  found: readonly Listener[],
  port: number,
  timeoutMs: number,
  last: string,
): string {
  const within = `within ${formatDurationMs(timeoutMs)}`;
  const own = found.filter((one) => one.port === port);
  const loopback = own.find(({ address }) => isLoopback(address));
  if (loopback !== undefined && own.every(({ address }) => isLoopback(address))) {
    return (
      `the app listens only on ${loopback.address}:${port}, which nobody outside it reaches; ` +
      `let it listen on 0.0.0.0 (it is in $HOST)`
    );
  }
  if (own.length > 0) return `the app was not healthy ${within}: ${last}`;
  if (found.length === 0) return `the app did not listen on port ${port} ($PORT) ${within}`;
  const others = [...new Set(found.map((one) => one.port))].join(", ");
  return `the app listens on port ${others}, not on ${port}; let it listen on $PORT`;
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}
