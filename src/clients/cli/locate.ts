import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Endpoint } from "../../api/native/client.ts";
import { err, ok, type Result } from "../../base/result.ts";
import {
  adminTokenFileName,
  defaultDataDirectory,
  endpointFileName,
  parseCloudEndpoint,
} from "../../model/endpoint.ts";
import { exitCodes, type Failure, failure, usageFailure } from "./failure.ts";

export interface Located {
  readonly endpoint: Endpoint;
  /** Where the address came from, for errors. */
  readonly whence: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Finds the cloud: LODE_API and LODE_TOKEN, or else what `lode up` left in LODE_DATA_DIR or in
 * the usual data directory. A local admin token is only ever sent to the cloud it belongs to.
 */
export async function locateCloud(env: Environment): Promise<Result<Located, Failure>> {
  const directory = env["LODE_DATA_DIR"] || defaultDataDirectory;
  const file = join(directory, endpointFileName);
  const local = await readEndpoint(file);
  const given = env["LODE_API"];
  if (given) {
    const apiUrl = given.replace(/\/+$/, "");
    if (!/^https?:\/\/[^/\s]+$/.test(apiUrl)) {
      return err(
        usageFailure(
          `LODE_API is ${JSON.stringify(given)}, which is not the address of an API`,
          "write it like http://127.0.0.1:4600",
        ),
      );
    }
    if (env["LODE_TOKEN"]) return found(apiUrl, env["LODE_TOKEN"], "from LODE_API");
    if (!local.ok || local.value !== apiUrl) return found(apiUrl, null, "from LODE_API");
    return withAdminToken(apiUrl, directory, "from LODE_API");
  }
  if (!local.ok) return local;
  if (env["LODE_TOKEN"]) return found(local.value, env["LODE_TOKEN"], `from ${file}`);
  return withAdminToken(local.value, directory, `from ${file}`);
}

function found(apiUrl: string, token: string | null, whence: string): Result<Located, Failure> {
  return ok({ endpoint: { apiUrl, token }, whence });
}

async function readEndpoint(file: string): Promise<Result<string, Failure>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    if (isForbidden(cause)) return err(forbidden(file));
    return err(
      failure(
        exitCodes.unreachable,
        `there is no cloud here: ${file} does not exist and LODE_API is not set`,
        "start one with `lode up`, or name one with LODE_API or LODE_DATA_DIR",
      ),
    );
  }
  const endpoint = parseCloudEndpoint(text);
  if (endpoint.ok) return ok(endpoint.value.apiUrl);
  return err(
    failure(exitCodes.unreachable, `${file} ${endpoint.error}`, "start the cloud with `lode up`"),
  );
}

async function withAdminToken(
  apiUrl: string,
  directory: string,
  whence: string,
): Promise<Result<Located, Failure>> {
  const file = join(directory, adminTokenFileName);
  try {
    return found(apiUrl, (await readFile(file, "utf8")).trim(), whence);
  } catch (cause) {
    if (isForbidden(cause)) return err(forbidden(file));
    return found(apiUrl, null, whence);
  }
}

function isForbidden(cause: unknown): boolean {
  const { code } = cause as { code?: unknown };
  return code === "EACCES" || code === "EPERM";
}

function forbidden(file: string): Failure {
  return failure(
    exitCodes.unauthorised,
    `${file} may not be read by this user`,
    "run as root, or set LODE_API and LODE_TOKEN (`lode tokens create` makes one)",
  );
}
