import { afterAll, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { InstanceStatus } from "../model/instance.ts";
import { defaultLimits } from "../model/limits.ts";
import type { InstanceId } from "../model/names.ts";
import { fullCredit } from "./decide/credit.ts";
import { initialState } from "./decide/machine.ts";
import type { Situation } from "./decide/state.ts";
import { holdsNothing } from "./drivers/process.ts";
import { createInstanceFiles, type InstanceFile } from "./instance-files.ts";

const folder = mkdtempSync(join(tmpdir(), "lode-files-"));
afterAll(() => {
  for (const made of [folder, beds]) rmSync(made, { recursive: true, force: true });
});

const instance = "iabcdefghijk" as InstanceId;
const path = join(folder, `${instance}.json`);
const beds = mkdtempSync(join(tmpdir(), "lode-beds-"));
const files = createInstanceFiles(folder, beds);

function file(situation: Situation, restarts = 0): InstanceFile {
  const wanted = { keepAwake: true, freezeMs: null, idleMs: 1000, drain: null };
  const kind = { task: false, takesRequests: true, graceMs: 1000 };
  const state = { ...initialState(wanted, kind), situation, restarts };
  const limits = defaultLimits;
  return { instance, state, credit: fullCredit(limits), limits, held: holdsNothing };
}

const starting: Situation = { state: "starting", since: 5, pid: null };
const asleep: Situation = { state: "asleep", since: 7 };

function read() {
  const [found, ...others] = files.readAll();
  expect(others).toEqual([]);
  return found?.file.state;
}

test("the last state is read, also after a write that was cut short", () => {
  files.write(file(asleep));
  files.write(file(starting));
  expect(read()?.situation).toEqual(starting);
  appendFileSync(path, '\n{"format":1,"instance":"iabc');
  expect(read()?.situation).toEqual(starting);
  files.write(file(asleep));
  expect(read()?.situation).toEqual(asleep);
  files.remove(instance);
  expect(files.readAll()).toEqual([]);
});

test("a file stays short, and a resting instance's shorter", () => {
  for (let restarts = 0; restarts < 1000; restarts++) {
    files.write(file(starting, restarts));
    expect(statSync(path).size).toBeLessThanOrEqual(65_536);
  }
  expect(read()?.restarts).toBe(999);
  files.write(file(asleep, 1000));
  expect(statSync(path).size).toBeLessThan(8192);
  expect(read()?.restarts).toBe(1000);
  expect(readdirSync(folder)).toEqual([`${instance}.json`]);
});

test("what makes no sense is read as nothing", () => {
  files.remove(instance);
  appendFileSync(path, "{}\n\n[1\n");
  expect(files.readAll()).toEqual([]);
});

test("one that is put to bed is read when it is asked for, and not before", async () => {
  const status = { instance, phase: asleep } as unknown as InstanceStatus;
  files.write(file(asleep));
  expect(files.sleeper(instance)).toBeNull();
  files.putToBed(file(asleep, 3), status);
  expect(files.readAll()).toEqual([]);
  expect(await files.sleepers()).toEqual(new Set([instance]));
  const sleeper = files.sleeper(instance);
  if (sleeper === null || sleeper === "unreadable") throw new Error("it is in bed");
  expect(sleeper.status).toEqual(status);
  expect(sleeper.file.state).toEqual(file(asleep, 3).state);
  expect(sleeper.sameBoot).toBe(true);
  files.write(file(starting));
  files.rise(instance);
  expect(await files.sleepers()).toEqual(new Set());
  expect(read()?.situation).toEqual(starting);
  files.putToBed(file(asleep), status);
  appendFileSync(join(beds, `${instance}.json`), "{");
  expect(files.sleeper(instance)).toBe("unreadable");
  files.remove(instance);
  expect(await files.sleepers()).toEqual(new Set());
});
