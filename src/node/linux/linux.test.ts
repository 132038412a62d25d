import { afterEach, expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { createExitWatcher } from "./exit-watcher.ts";
import { hardLimits, lockDescriptor, memoryFile } from "./files.ts";
import { isRunning, readParentPid, readStartTicks, signalProcess } from "./identity.ts";
import { type KernelEvents, openKernelEvents } from "./kernel-events.ts";
import { listeningPort, listenTcp } from "./sockets.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function kernelEvents(): KernelEvents {
  const events = openKernelEvents();
  if (!events.ok) throw new Error(events.error);
  cleanups.push(() => events.value.close());
  return events.value;
}

function sleeper(): { pid: number; startTicks: number } {
  const child = Bun.spawn(["sleep", "60"]);
  cleanups.push(() => child.kill("SIGKILL"));
  return { pid: child.pid, startTicks: readStartTicks(child.pid) ?? 0 };
}

test("the end of a process is told once, also of many, also of one that is gone", async () => {
  const watcher = createExitWatcher(kernelEvents());
  const processes = Array.from({ length: 200 }, sleeper);
  let ended = 0;
  const waits = processes.map((identity) => watcher.ended(identity).then(() => (ended += 1)));
  await Bun.sleep(20);
  expect(ended).toBe(0);
  for (const identity of processes.slice(0, 150)) expect(signalProcess(identity, 9)).toBe(true);
  await Promise.all(waits.slice(0, 150));
  expect(ended).toBe(150);
  for (const identity of processes.slice(150)) signalProcess(identity, 9);
  await Promise.all(waits);
  await watcher.ended({ pid: process.pid, startTicks: 1 });
  watcher.close();
});

test("the end of a process that is not our child is told", async () => {
  const watcher = createExitWatcher(kernelEvents());
  const shell = Bun.spawn(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], { stdout: "pipe" });
  const pid = Number(await shell.stdout.text());
  await shell.exited;
  const identity = { pid, startTicks: readStartTicks(pid) ?? 0 };
  expect(readParentPid(pid)).not.toBe(process.pid);
  const wait = watcher.ended(identity);
  expect(signalProcess(identity, 9)).toBe(true);
  await wait;
  expect(isRunning(identity)).toBe(false);
});

test("a reused pid is not signalled", () => {
  const identity = sleeper();
  const other = { ...identity, startTicks: identity.startTicks - 1 };
  expect(signalProcess(other, 9)).toBe(false);
  expect(isRunning(other)).toBe(false);
  expect(isRunning(identity)).toBe(true);
});

test("waiting costs no thread", async () => {
  const threads = () =>
    Number(/Threads:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
  const before = threads();
  const watcher = createExitWatcher(kernelEvents());
  const identity = sleeper();
  const wait = watcher.ended(identity);
  await Bun.sleep(5);
  expect(threads()).toBe(before);
  signalProcess(identity, 9);
  await wait;
});

test("a TCP socket listens on IPv4 and IPv6, and Bun serves on it", async () => {
  for (const host of ["127.0.0.1", "::1"]) {
    const made = listenTcp({ host, port: 0, backlog: 16, reusePort: true });
    if (!made.ok) throw new Error(made.error);
    const port = listeningPort(made.value);
    const twin = listenTcp({ host, port, backlog: 16, reusePort: true });
    expect(twin.ok).toBe(true);
    if (twin.ok) closeSync(twin.value);
    const taken = listenTcp({ host, port, backlog: 16, reusePort: false });
    expect(taken.ok ? "" : taken.error).toContain("another program has it");
    closeSync(made.value);
  }
  const wrong = listenTcp({ host: "localhost", port: 0, backlog: 1, reusePort: false });
  expect(wrong.ok ? "" : wrong.error).toContain("not an IPv4 or IPv6 address");
  const absent = listenTcp({ host: "203.0.113.9", port: 0, backlog: 1, reusePort: false });
  expect(absent.ok ? "" : absent.error).toContain("no such address");
  for (const host of ["1.2.3", "1:2", ":::", "1::2::3", "g::", "256.1.1.1", "1:2:3:4:5:6:7:8:9"]) {
    expect(listenTcp({ host, port: 0, backlog: 1, reusePort: false }).ok).toBe(false);
  }
});

test("a lock is exclusive and ends with its descriptor", () => {
  const path = `/tmp/lode-lock-test-${process.pid}`;
  const first = openSync(path, "w");
  const second = openSync(path, "w");
  expect(lockDescriptor(first).ok).toBe(true);
  const refused = lockDescriptor(second);
  expect(refused.ok ? "" : refused.error.code).toBe("EAGAIN");
  closeSync(first);
  expect(lockDescriptor(second).ok).toBe(true);
  closeSync(second);
});

test("a memory file holds its content from the start", () => {
  const descriptor = memoryFile(new TextEncoder().encode("hello"));
  const buffer = new Uint8Array(8);
  expect(readSync(descriptor, buffer)).toBe(5);
  closeSync(descriptor);
  expect(hardLimits().openFiles).toBeGreaterThan(100);
});
