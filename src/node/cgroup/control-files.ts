import { chownSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import type { Clock } from "../../base/time.ts";
import { pause } from "../linux/time.ts";
import type { Freezer } from "./cgroup.ts";

/**
 * Access to cgroup files. Synchronous on purpose: they are memory, a read takes 5–10 µs, and
 * handing it to a thread costs ten times that.
 */

/** What a write or a removal was refused with, ENOENT for a file that is not there. */
export type ErrorCode = string;

export function readControl(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trimEnd();
  } catch {
    return null;
  }
}

export function readNumber(path: string): number {
  return Number(readControl(path) ?? 0);
}

/** Null when it was taken. */
export function writeControl(path: string, value: string): ErrorCode | null {
  try {
    writeFileSync(path, value);
    return null;
  } catch (error) {
    return codeOf(error);
  }
}

/** For a write that the kernel works on for long; refused, or no such file: nothing is done. */
export async function writeAside(path: string, value: string): Promise<void> {
  await writeFile(path, value).catch(() => {});
}

/** A write that only fails when the cgroup is gone or the kernel lacks what was detected. */
export function mustWrite(path: string, value: string): void {
  const code = writeControl(path, value);
  if (code !== null) throw new Error(`writing "${value}" to ${path} failed: ${code}`);
}

/** As whoever `letThaw` let. False: the cgroup has gone, or never froze. */
export function thaw({ directory, file, thawed }: Freezer, name: string): boolean {
  return writeControl(`${directory}/${name}/${file}`, thawed) === null;
}

/** Lets a user write the file of a cgroup that root made; one that has gone needs nobody. */
export function letThaw(file: string, uid: number | null): void {
  if (uid === null) return;
  try {
    chownSync(file, uid, 0);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

/** The value after `key ` in a file of `key value` lines; 0 when absent. */
export function readField(path: string, key: string): number {
  const text = readControl(path);
  if (text === null) return 0;
  const line = text.split("\n").find((candidate) => candidate.startsWith(`${key} `));
  return line === undefined ? 0 : Number(line.slice(key.length + 1));
}

export function readPids(directory: string): number[] {
  const text = readControl(`${directory}/cgroup.procs`);
  return text === null || text === "" ? [] : text.split("\n").map(Number);
}

/**
 * Removes an empty cgroup directory. For a moment after its last process was reaped the
 * kernel may still call it busy.
 */
export async function removeDirectory(directory: string, clock: Clock): Promise<void> {
  const attempts = 200;
  for (let attempt = 0; ; attempt++) {
    try {
      rmdirSync(directory);
      return;
    } catch (error) {
      const code = codeOf(error);
      if (code === "ENOENT") return;
      if (code !== "EBUSY" || attempt === attempts) {
        throw new Error(`removing cgroup ${directory} failed: ${code}`);
      }
    }
    await pause(clock, Math.min(1 + attempt, 20));
  }
}

export function codeOf(error: unknown): ErrorCode {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

/** Cgroup names given by the agent: one path component. */
export function isCgroupName(name: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(name);
}
