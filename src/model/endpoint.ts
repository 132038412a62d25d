import { err, ok, type Result } from "../base/result.ts";

/** Where `lode up` keeps a cloud unless told otherwise. */
export const defaultDataDirectory = "/var/lib/lode";
/** In the data directory: how clients on this machine find the API. */
export const endpointFileName = "endpoint.json";
/** In the data directory, mode 0600: the first admin token. */
export const adminTokenFileName = "admin.token";

/** The content of `endpoint.json`: the running, or last, cloud of a data directory. */
export interface CloudEndpoint {
  /** `http://127.0.0.1:4600`, without a slash at the end. */
  readonly apiUrl: string;
  /** The root process of lode. */
  readonly pid: number;
  readonly version: string;
}

export function formatCloudEndpoint(endpoint: CloudEndpoint): string {
  return `${JSON.stringify(endpoint)}\n`;
}

export function parseCloudEndpoint(text: string): Result<CloudEndpoint, string> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return err("is not JSON");
  }
  if (typeof value !== "object" || value === null) return err("is not a JSON object");
  const { apiUrl, pid, version } = value as Record<string, unknown>;
  if (typeof apiUrl !== "string" || !/^https?:\/\/[^/]+$/.test(apiUrl)) {
    return err("has no valid apiUrl");
  }
  if (typeof pid !== "number" || !Number.isInteger(pid)) return err("has no valid pid");
  if (typeof version !== "string") return err("has no valid version");
  return ok({ apiUrl, pid, version });
}
