import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Write } from "../src/fabric/ledger.ts";
import { createSqliteLedger } from "../src/fabric/sqlite/ledger.ts";
import { systemClock } from "../src/fabric/system.ts";
import type { App } from "../src/model/app.ts";
import type { Assignment, InstanceStatus } from "../src/model/instance.ts";
import { keys } from "../src/model/keys.ts";
import { type AppName, defaultProject, type InstanceId } from "../src/model/names.ts";
import type { Deployment, Release } from "../src/model/release.ts";
import { createInstanceFiles, type InstanceFile } from "../src/node/instance-files.ts";
import { cloudPaths, dataPaths, nodePaths } from "../src/node/paths.ts";

/** What lode itself wrote of one app that sleeps. */
interface Template {
  readonly app: App;
  readonly release: Release;
  readonly deployment: Deployment;
  readonly assignment: Assignment;
  readonly file: InstanceFile;
  readonly status: InstanceStatus;
}

const appsPerTransaction = 25;
const transactionsAtOnce = 40;
const laterRevisions = 1_000;

export function sleeperName(index: number): AppName {
  return `sleeper-${String(index).padStart(6, "0")}` as AppName;
}

/**
 * Registers so many more apps like one that was deployed and sleeps, each with a release, a
 * deployment, an instance and a host of its own: the records that control wrote for it, with
 * other names, through the ledger and the agent's own files. No lode runs meanwhile.
 */
export async function registerSleepers(
  dataDirectory: string,
  like: string,
  status: InstanceStatus,
  count: number,
): Promise<void> {
  const paths = cloudPaths(dataDirectory, "");
  const opened = await createSqliteLedger({ path: dataPaths.ledger(paths), clock: systemClock });
  if (!opened.ok) throw new Error(opened.error.message);
  const ledger = opened.value;
  const files = createInstanceFiles(nodePaths.instances(paths), nodePaths.beds(paths));
  const read = async <Record>(key: string): Promise<Record> => {
    const entry = await ledger.get(key);
    if (!entry.ok || entry.value === null) throw new Error(`the ledger has no ${key}`);
    return JSON.parse(entry.value.value) as Record;
  };
  const name = like as AppName;
  const node = nodeOf(dataDirectory);
  const file = files.readAll().find((each) => each.file.instance === status.instance)?.file;
  const sleeper = files.sleeper(status.instance);
  const bed = sleeper === "unreadable" ? undefined : sleeper?.file;
  const template: Template = {
    app: await read(keys.app(defaultProject, name)),
    release: await read(keys.release(defaultProject, name, 1)),
    deployment: await read(keys.deployment(defaultProject, name, 1)),
    assignment: await read(keys.assignment(node as Assignment["node"], status.instance)),
    file: file ?? (bed as InstanceFile),
    status,
  };
  const first = await read<number>(keys.uidCounter);
  let jobs: Promise<unknown>[] = [];
  for (let from = 0; from < count; from += appsPerTransaction) {
    const writes: Write[] = [];
    for (let index = from; index < Math.min(count, from + appsPerTransaction); index++) {
      writes.push(...recordsOf(template, index, first + index));
      const instance = instanceOf(index);
      const { file: held, status: seen } = template;
      files.putToBed({ ...held, instance }, { ...seen, instance, app: sleeperName(index) });
    }
    jobs.push(ledger.transact({ conditions: [], writes }));
    if (jobs.length === transactionsAtOnce) {
      await Promise.all(jobs);
      jobs = [];
    }
  }
  await Promise.all(jobs);
  // Other things happened since: what was written last is looked at by each start.
  const value = JSON.stringify(first + count);
  const write: Write = { kind: "put", key: keys.uidCounter, value };
  await Promise.all(
    Array.from({ length: laterRevisions }, () =>
      ledger.transact({ conditions: [], writes: [write] }),
    ),
  );
  await ledger.close();
  const asleep = (await files.sleepers()).size;
  if (asleep < count) throw new Error(`only ${asleep} of ${count} apps were put to sleep`);
}

function recordsOf(template: Template, index: number, uidOffset: number): readonly Write[] {
  const name = sleeperName(index);
  const instance = instanceOf(index);
  const { app, release, deployment, assignment } = template;
  const put = (key: string, value: object): Write => ({
    ...{ kind: "put", key, value: JSON.stringify(value) },
  });
  return [
    put(keys.app(defaultProject, name), { ...app, name, uidOffset }),
    put(keys.release(defaultProject, name, 1), { ...release, app: name }),
    put(keys.deployment(defaultProject, name, 1), { ...deployment, app: name }),
    put(keys.assignment(assignment.node, instance), {
      ...{ ...assignment, app: name, instance, uidOffset },
    }),
    put(keys.host(`${name}.localhost`), { project: defaultProject, app: name }),
  ];
}

/** Spread over the alphabet, as random ids are. */
function instanceOf(index: number): InstanceId {
  const digits = Bun.hash(sleeperName(index)).toString(36).padStart(11, "0").slice(-11);
  return `i${digits}` as InstanceId;
}

function nodeOf(dataDirectory: string): string {
  const identity = readFileSync(join(dataDirectory, "cloud.json"), "utf8");
  return (JSON.parse(identity) as { node: string }).node;
}
