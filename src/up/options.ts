import { resolve } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import { defaultDataDirectory } from "../model/endpoint.ts";

export interface UpOptions {
  readonly dataDirectory: string;
  readonly httpPort: number;
  /** Null: no TLS listener. */
  readonly httpsPort: number | null;
  readonly apiPort: number;
  readonly domain: string;
  /** Earlier releases kept of each app to roll back to. */
  readonly releasesKept: number;
  /** Sandboxes made ahead for apps that sleep, at most. */
  readonly readyMax: number;
  /** Deploys the examples after `ready`. */
  readonly demo: boolean;
}

/** The options of `lode up` as commander hands them over: all text. */
export interface RawUpOptions {
  readonly dataDir?: string;
  readonly httpPort: string;
  readonly httpsPort?: string;
  readonly apiPort: string;
  readonly domain: string;
  readonly keepReleases?: string;
  readonly ready?: string;
  readonly demo?: boolean;
}

const releasesKeptDefault = 10;
/** Each takes about 4 MB. */
const readyMaxDefault = 16;

export function parseUpOptions(
  raw: RawUpOptions,
  env: Readonly<Record<string, string | undefined>>,
): Result<UpOptions, string> {
  const httpPort = parsePort("--http-port", raw.httpPort);
  if (!httpPort.ok) return httpPort;
  const apiPort = parsePort("--api-port", raw.apiPort);
  if (!apiPort.ok) return apiPort;
  let httpsPort: number | null = null;
  if (raw.httpsPort !== undefined) {
    const parsed = parsePort("--https-port", raw.httpsPort);
    if (!parsed.ok) return parsed;
    httpsPort = parsed.value;
  }
  const ports = [httpPort.value, apiPort.value, ...(httpsPort === null ? [] : [httpsPort])];
  if (new Set(ports).size < ports.length) {
    return err("--http-port, --https-port and --api-port must differ from one another");
  }
  const domain = raw.domain.toLowerCase();
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(domain)) {
    return err(`--domain "${raw.domain}" is not a host name; write it like apps.example.org`);
  }
  const ready = raw.ready ?? String(readyMaxDefault);
  if (!/^\d{1,4}$/.test(ready)) {
    return err(`--ready "${ready}" is not a number of sandboxes; give one from 0 to 9999`);
  }
  const kept = raw.keepReleases ?? String(releasesKeptDefault);
  if (!/^[1-9]\d{0,2}$/.test(kept)) {
    return err(`--keep-releases "${kept}" is not a number of releases; give one from 1 to 999`);
  }
  return ok({
    dataDirectory: resolve(raw.dataDir ?? env.LODE_DATA_DIR ?? defaultDataDirectory),
    httpPort: httpPort.value,
    httpsPort,
    apiPort: apiPort.value,
    domain,
    releasesKept: Number(kept),
    readyMax: Number(ready),
    demo: raw.demo === true,
  });
}

function parsePort(option: string, text: string): Result<number, string> {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return ok(port);
  return err(`${option} "${text}" is not a port; give a number from 1 to 65535`);
}
