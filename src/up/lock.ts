import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import { lockDescriptor } from "../node/linux/files.ts";

export interface DataLock {
  release(): void;
}

/** Held by the lode that runs on a data directory; the kernel lets go of it when lode dies. */
export function lockDataDirectory(dataDirectory: string): Result<DataLock, string> {
  const file = join(dataDirectory, "lode.lock");
  const descriptor = openSync(file, "a+", 0o600);
  if (!lockDescriptor(descriptor).ok) {
    closeSync(descriptor);
    const holder = lockHolder(dataDirectory);
    return err(
      `the data directory ${dataDirectory} is in use by lode with pid ${holder}; ` +
        `stop it with "lode down --data-dir ${dataDirectory}" or use another --data-dir`,
    );
  }
  truncateAndWrite(descriptor, String(process.pid));
  return ok({ release: () => closeSync(descriptor) });
}

/** The pid that last took the lock; meaningful while somebody holds it. */
export function lockHolder(dataDirectory: string): number | null {
  try {
    const pid = Number(readFileSync(join(dataDirectory, "lode.lock"), "utf8"));
    return Number.isSafeInteger(pid) && pid > 1 ? pid : null;
  } catch {
    return null;
  }
}

function truncateAndWrite(descriptor: number, text: string): void {
  ftruncateSync(descriptor, 0);
  writeSync(descriptor, text);
}
