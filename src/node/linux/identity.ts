import { closeSync, readFileSync } from "node:fs";
import { attempt, libc, systemCalls } from "./libc.ts";
import type { ProcessIdentity } from "./processes.ts";

/** Field 22 of /proc/PID/stat, clock ticks since boot; null when there is no such process. */
export function readStartTicks(pid: number): number | null {
  const stat = readStat(pid);
  return stat === null ? null : Number(stat[19]);
}

/** The process exists, is the same one, and is not a zombie. */
export function isRunning(identity: ProcessIdentity): boolean {
  const stat = readStat(identity.pid);
  return stat !== null && Number(stat[19]) === identity.startTicks && stat[0] !== "Z";
}

/** Parent of a process; null when it is gone. */
export function readParentPid(pid: number): number | null {
  const stat = readStat(pid);
  return stat === null ? null : Number(stat[1]);
}

/**
 * A pidfd of exactly this process, close-on-exec; null when it has ended. The start time is
 * read after the descriptor is held, so a reused pid cannot slip in between.
 */
export function openPidDescriptor(identity: ProcessIdentity): number | null {
  const opened = attempt(
    "pidfd_open",
    libc.syscall(systemCalls.pidfdOpen, identity.pid, 0, 0, 0, 0),
  );
  if (!opened.ok) {
    if (opened.error.code === "ESRCH") return null;
    throw new Error(`pidfd_open of ${identity.pid}: ${opened.error.code}`);
  }
  if (readStartTicks(identity.pid) === identity.startTicks) return opened.value;
  closeSync(opened.value);
  return null;
}

/** Sends a signal to exactly this process; false when it has ended. */
export function signalProcess(identity: ProcessIdentity, signal: number): boolean {
  const descriptor = openPidDescriptor(identity);
  if (descriptor === null) return false;
  const sent = attempt(
    "pidfd_send_signal",
    libc.syscall(systemCalls.pidfdSendSignal, descriptor, signal, 0, 0, 0),
  );
  closeSync(descriptor);
  if (!sent.ok && sent.error.code !== "ESRCH") {
    throw new Error(`signal ${signal} to ${identity.pid}: ${sent.error.code}`);
  }
  return sent.ok;
}

/** Fields after the command's name, so that element 0 is the state (field 3). */
function readStat(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}
