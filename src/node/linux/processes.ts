/** Signal to a process or group, only when pid and start time still name the same process. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. */
  readonly startTicks: number;
}

/** Tells of ended processes by pidfd, also of those that are not our children. */
export interface ExitWatcher {
  /** Resolves when the process has ended; at once when it is gone already. */
  ended(identity: ProcessIdentity): Promise<void>;
  close(): void;
}
