import { err, ok, type Result } from "../base/result.ts";
import { type Diagnosis, diagnose } from "../node/doctor.ts";
import { lockDataDirectory } from "./lock.ts";
import { parseUpOptions, type RawUpOptions } from "./options.ts";
import type { Surroundings } from "./parts.ts";

export interface DoctorReport {
  readonly healthy: boolean;
  readonly checks: readonly Diagnosis[];
}

/** Checks the machine for `lode up` with these options; a running cloud's ports are its own. */
export async function examine(
  raw: RawUpOptions,
  { clock, random, env }: Surroundings,
): Promise<Result<DoctorReport, string>> {
  const options = parseUpOptions(raw, env);
  if (!options.ok) return err(options.error);
  const { dataDirectory, httpPort, httpsPort, apiPort } = options.value;
  const wanted = httpsPort === null ? [httpPort, apiPort] : [httpPort, httpsPort, apiPort];
  const ports = isCloudRunning(dataDirectory) ? [] : wanted;
  const checks = await diagnose({ dataDirectory, ports, clock, random });
  return ok({ healthy: checks.every((check) => check.ok), checks });
}

/** One line a check, with the remedy below one that failed. */
export function formatReport({ healthy, checks }: DoctorReport): string {
  const lines = checks.flatMap(({ check, ok: good, detail, remedy }) => [
    `${good ? "ok  " : "FAIL"} ${check}: ${detail}`,
    ...(good ? [] : [`     → ${remedy}`]),
  ]);
  const failed = checks.filter((check) => !check.ok).length;
  lines.push(healthy ? "this machine is ready" : `${failed} of ${checks.length} checks failed`);
  return `${lines.join("\n")}\n`;
}

function isCloudRunning(dataDirectory: string): boolean {
  try {
    const lock = lockDataDirectory(dataDirectory);
    if (!lock.ok) return true;
    lock.value.release();
  } catch {
    // No such directory, or not ours to open: nothing runs on it that we could know of.
  }
  return false;
}
