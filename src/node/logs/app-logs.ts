import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock, Timestamp } from "../../base/time.ts";
import type { AppName, InstanceId, ProcessType, ProjectName } from "../../model/names.ts";
import type { LogLine, LogsReply, LogsRequest } from "../../model/wire.ts";
import { removeTree } from "../drivers/tree.ts";
import { type CloudPaths, nodePaths } from "../paths.ts";
import { type InstanceLog, openInstanceLog } from "./instance-log.ts";
import { freeHead } from "./space.ts";

/** Logs of ended instances that are kept, per app. */
const endedKept = 20;
/** Lines in one reply at most, whatever is asked. */
const tailMax = 10_000;

export interface LogOwner {
  readonly project: ProjectName;
  readonly app: AppName;
  readonly instance: InstanceId;
  readonly process: ProcessType;
}

/** The logs of every app that has or had instances on this node. */
export interface AppLogs {
  /** The log of an instance that exists; the same one each time. */
  of(owner: LogOwner): InstanceLog;
  /** The instance sleeps: nothing of its log is kept in memory. */
  rest(instance: InstanceId): void;
  /** The instance is gone; its lines stay for a while. */
  release(owner: LogOwner): Promise<void>;
  query(request: LogsRequest): LogsReply;
  /** The app is gone, and its lines with it. */
  forget(project: ProjectName, app: AppName): Promise<void>;
  close(): void;
}

export function createAppLogs(
  paths: CloudPaths,
  clock: Clock,
  publish: (project: ProjectName, line: LogLine) => void,
): AppLogs {
  const open = new Map<InstanceId, { owner: LogOwner; log: InstanceLog }>();
  /** `project/app` → publish until. */
  const followed = new Map<string, Timestamp>();

  function directoryOf({ project, app, instance, process }: LogOwner): string {
    return join(nodePaths.logsOf(paths, project, app), `${instance}.${process}`);
  }

  function openLog(owner: LogOwner): InstanceLog {
    const { project, app, instance, process } = owner;
    const log = openInstanceLog(directoryOf(owner), clock, (line) =>
      publish(project, { ...line, app, instance, process }),
    );
    const until = followed.get(`${project}/${app}`) ?? 0;
    if (until > clock.now()) log.followUntil(until);
    return log;
  }

  function of(owner: LogOwner): InstanceLog {
    const known = open.get(owner.instance);
    if (known !== undefined) return known.log;
    const log = openLog(owner);
    open.set(owner.instance, { owner, log });
    return log;
  }

  function follow(project: ProjectName, app: AppName, forMs: number): void {
    const until = clock.now() + forMs;
    followed.set(`${project}/${app}`, until);
    for (const { owner, log } of open.values()) {
      if (owner.project === project && owner.app === app) log.followUntil(until);
    }
  }

  function query(request: LogsRequest): LogsReply {
    const { project, app, process, instance, since } = request;
    if (request.followMs !== undefined) follow(project, app, request.followMs);
    const tail = Math.min(request.tail, tailMax);
    if (tail <= 0) return { lines: [] };
    const lines: LogLine[] = [];
    for (const owner of ownersIn(nodePaths.logsOf(paths, project, app), project, app)) {
      if (process !== null && owner.process !== process) continue;
      if (instance !== null && owner.instance !== instance) continue;
      const log = open.get(owner.instance)?.log ?? openLog(owner);
      for (const line of log.read({ since, tail })) {
        lines.push({ ...line, app, instance: owner.instance, process: owner.process });
      }
    }
    return { lines: lines.sort((left, right) => left.at - right.at).slice(-tail) };
  }

  async function release(owner: LogOwner): Promise<void> {
    open.get(owner.instance)?.log.rest();
    open.delete(owner.instance);
    const folder = nodePaths.logsOf(paths, owner.project, owner.app);
    const ended = ownersIn(folder, owner.project, owner.app)
      .filter(({ instance }) => !open.has(instance))
      .map((one) => ({ path: directoryOf(one), at: changedAt(directoryOf(one)) }))
      .sort((left, right) => right.at - left.at);
    for (const { path } of ended.slice(endedKept)) await removeTree(path);
  }

  return {
    of,
    rest(instance) {
      open.get(instance)?.log.rest();
      open.delete(instance);
    },
    release,
    query,
    forget: (project, app) => removeTree(nodePaths.logsOf(paths, project, app)),
    close() {
      for (const { log } of open.values()) log.rest();
      open.clear();
    },
  };
}

function ownersIn(folder: string, project: ProjectName, app: AppName): LogOwner[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names.map((name) => {
    const [instance, process] = name.split(".") as [InstanceId, ProcessType];
    return { project, app, instance, process };
  });
}

/** A folder's own time stands still while its files grow: the newest of them counts. */
function changedAt(directory: string): Timestamp {
  const files = ["out", "events"];
  return Math.max(
    ...files.map(
      (name) => statSync(join(directory, name), { throwIfNoEntry: false })?.mtimeMs ?? 0,
    ),
  );
}

/** Logs are bounded by freeing the head of a file; not every file system can. */
export async function checkLogStorage(paths: CloudPaths): Promise<Result<void, string>> {
  const folder = nodePaths.logs(paths);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const probe = join(folder, ".probe");
  writeFileSync(probe, new Uint8Array(8192));
  if (await freeHead(probe, 4096, [])) return ok(undefined);
  return err(
    `${folder} lies on a file system that cannot free a file's head, which bounds the logs of ` +
      `apps; put the data directory on ext4, xfs, btrfs or tmpfs`,
  );
}
