import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { systemClock, systemRandom } from "../../fabric/system.ts";
import type { Cgroup, CgroupTree } from "../cgroup/cgroup.ts";
import { openCgroupTree } from "../cgroup/detect.ts";
import { openTreeV2 } from "../cgroup/v2.ts";
import { createExitWatcher } from "../linux/exit-watcher.ts";
import { makePipe } from "../linux/files.ts";
import { type KernelEvents, openKernelEvents } from "../linux/kernel-events.ts";
import { listeningPort, listenTcp } from "../linux/sockets.ts";
import type { Network } from "../network/network.ts";
import { openNetwork } from "../network/open.ts";
import { openSandbox } from "./open.ts";
import type { Sandbox, SandboxExit, SandboxSpec } from "./sandbox.ts";

setDefaultTimeout(30_000);

const cloud = systemRandom.token(6);
const runDirectory = `/run/lode-${cloud}`;
const uid = 100_000 + Math.floor(systemRandom.next() * 1_000_000);
const directory = mkdtempSync("/tmp/lode-sandbox-");

let events: KernelEvents;
let cgroups: CgroupTree;
let network: Network;
let sandbox: Sandbox;

function must<Value>(result: { ok: true; value: Value } | { ok: false; error: string }): Value {
  if (!result.ok) throw new Error(result.error);
  return result.value;
}

beforeAll(async () => {
  chmodSync(directory, 0o711);
  events = must(openKernelEvents());
  const shared = { cloud, runDirectory, clock: systemClock };
  cgroups = must(openCgroupTree({ ...shared, events }));
  const opened = must(await openNetwork({ ...shared, poolSize: 2 }));
  network = opened.network;
  const { nameServers } = opened;
  // The mounts of launches are made at once: all but the first launch happens in them.
  const after = (delayMs: number, callback: () => void) =>
    systemClock.after(delayMs > 1000 ? delayMs : 0, callback);
  const clock = { ...systemClock, after };
  sandbox = must(
    openSandbox({ ...shared, clock, shown: [directory], nameServers, cgroups, network }),
  );
});

afterAll(async () => {
  await cgroups.destroy();
  await network.destroy();
  sandbox.close();
  events.close();
  rmSync(runDirectory, { recursive: true });
  rmSync(directory, { recursive: true });
  const leftovers = [
    readFileSync("/proc/self/mountinfo", "utf8"),
    ...readdirSync("/sys/class/net"),
    Bun.spawnSync(["find", "/sys/fs/cgroup", "-name", `lode-${cloud}`]).stdout.toString(),
  ].filter((text) => text.includes(cloud));
  expect(leftovers).toEqual([]);
});

const base: SandboxSpec = {
  uid,
  hostname: "web-1",
  network: "none",
  binds: [],
  tmpBytes: 16 << 20,
  workingDirectory: "/",
  env: { PATH: "/usr/bin:/bin", HOME: "/home/app" },
  argv: [],
  openFiles: 2000,
};

let groups = 0;

interface Running {
  readonly cgroup: Cgroup;
  readonly statusFile: string;
  readonly monitorPid: number;
  readonly output: Promise<string>;
  readonly end: Promise<SandboxExit>;
}

async function launch(
  change: Partial<SandboxSpec>,
  inherited: readonly number[] = [],
  entered?: { childPid: number; cgroup: Cgroup },
): Promise<Running> {
  groups += 1;
  const cgroup = entered?.cgroup ?? (await cgroups.create(`test-${groups}`));
  const statusFile = join(directory, `status-${groups}`);
  const pipe = makePipe();
  const spec = { ...base, ...change };
  const input = openSync("/dev/null", "r");
  const io = { statusFile, stdin: input, stdout: pipe.write, stderr: pipe.write };
  const launched =
    entered === undefined
      ? await sandbox.launch(spec, cgroup, { ...io, inherited })
      : await sandbox.enter(entered.childPid, spec, cgroup, io);
  closeSync(pipe.write);
  closeSync(input);
  const watcher = createExitWatcher(events);
  const { monitorPid, monitorStartTicks } = launched;
  const output = new Response(Bun.file(pipe.read).stream()).text().then((text) => {
    closeSync(pipe.read);
    return text.trim();
  });
  const ended = watcher.ended({ pid: monitorPid, startTicks: monitorStartTicks });
  const end = ended.then(() => sandbox.exitOf(statusFile));
  return { cgroup, statusFile, monitorPid, output, end };
}

async function output(command: string, change: Partial<SandboxSpec> = {}): Promise<string> {
  const running = await launch({ argv: ["/bin/sh", "-c", command], ...change });
  return running.output;
}

async function childOf(running: Running): Promise<number> {
  for (;;) {
    const pid = await sandbox.childPidOf(running.statusFile);
    if (pid !== null) return pid;
    await Bun.sleep(1);
  }
}

test("the self-test holds", async () => {
  expect(await sandbox.selfTest(process.execPath)).toBeNull();
});

test("a program is an unprivileged user alone in its namespaces", async () => {
  const text = await output(
    `id -u; id -un; hostname; pwd; ls /proc | grep -c '^[0-9]'; ls /sys 2>&1;
     grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp|Groups):' /proc/self/status | tr -s '\\t ' ' ';
     ulimit -n; ulimit -c; ls /proc/self/fd | tr '\\n' ' '`,
  );
  expect(text.split("\n")).toEqual([
    "1000",
    "app",
    "web-1",
    "/",
    expect.stringMatching(/^[34]$/),
    "ls: cannot access '/sys': No such file or directory",
    "Groups: ",
    "CapEff: 0000000000000000",
    "CapBnd: 0000000000000000",
    "NoNewPrivs: 1",
    "Seccomp: 2",
    "2000",
    "0",
    "0 1 2 3",
  ]);
});

test("what is writable: /tmp, /run, /dev/shm, home; nothing else", async () => {
  const text = await output(
    `for d in / /usr /etc /dev /proc /proc/sys/kernel /tmp /run /dev/shm /home/app; do
       touch $d/x 2>/dev/null && echo $d; done; head -c 20M /dev/zero > /tmp/big; echo $?`,
  );
  expect(text.split("\n").filter((line) => !line.startsWith("head:"))).toEqual([
    "/tmp",
    "/run",
    "/dev/shm",
    "/home/app",
    "1",
  ]);
});

test("nothing of the host's secrets or names is visible", async () => {
  const text = await output(
    `ls -d /root /home/* /var /opt /srv /boot /etc/shadow /etc/ssh /etc/hostname 2>/dev/null;
     cat /etc/hosts; getent hosts web-1 | tr -s ' '; cat /etc/resolv.conf | head -1`,
  );
  expect(text.split("\n")).toEqual([
    "/home/app",
    "127.0.0.1 localhost",
    "::1 localhost",
    "127.0.0.1 web-1",
    "127.0.0.1 web-1",
    `nameserver ${network.gatewayAddress}`,
  ]);
});

test("the environment arrives exactly, and no secret shows in any command line", async () => {
  const env = { ...base.env, SECRET: "hunter2 'quoted'\nsecond", LD_PRELOAD: "/nowhere.so" };
  const running = await launch({ argv: ["/bin/sleep", "30"], env });
  const pid = await childOf(running);
  while (readFileSync(`/proc/${pid}/comm`, "utf8") !== "sleep\n") await Bun.sleep(1);
  const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
  expect(environment.split("\0").filter((line) => line !== "" && !line.startsWith("PWD="))).toEqual(
    expect.arrayContaining([
      "PATH=/usr/bin:/bin",
      "SECRET=hunter2 'quoted'\nsecond",
      "LD_PRELOAD=/nowhere.so",
    ]),
  );
  expect(readFileSync(`/proc/${running.monitorPid}/environ`, "utf8")).not.toContain("nowhere");
  for (const member of await running.cgroup.pids()) {
    expect(readFileSync(`/proc/${member}/cmdline`, "utf8")).not.toContain("hunter2");
    expect(readFileSync(`/proc/${member}/status`, "utf8")).toContain(`Uid:\t${uid}\t`);
  }
  await running.cgroup.kill();
});

test("exit codes and signals are told, an end without either is unknown", async () => {
  const codes = [0, 3, 255];
  for (const code of codes) {
    expect(await (await launch({ argv: ["/bin/sh", "-c", `exit ${code}`] })).end).toEqual(
      code === 255 ? { kind: "exit", code: 255 } : { kind: "exit", code },
    );
  }
  const killed = await launch({ argv: ["/bin/sh", "-c", "kill -TERM $$"] });
  expect(await killed.end).toEqual({ kind: "signal", signal: "SIGTERM" });
  const swept = await launch({ argv: ["/bin/sleep", "30"] });
  await childOf(swept);
  process.kill(swept.monitorPid, "SIGKILL");
  expect(await swept.end).toEqual({ kind: "unknown" });
  await swept.cgroup.kill();
  expect(await swept.cgroup.pids()).toEqual([]);
  const missing = await launch({ argv: ["/no/such/program"] });
  expect(await missing.end).toEqual({ kind: "unknown" });
  expect(await missing.output).toContain("No such file");
});

test("binds show what they should, and the app owns what is its own", async () => {
  const data = join(directory, "data");
  const release = join(directory, "release");
  for (const path of [data, join(release, "node_modules")]) mkdirSync(path, { recursive: true });
  const layer = join(directory, "layer");
  mkdirSync(layer);
  writeFileSync(join(release, "app.txt"), "release");
  writeFileSync(join(layer, "lib.txt"), "layer");
  Bun.spawnSync(["chown", String(uid), data]);
  const text = await output(
    "cat app.txt node_modules/lib.txt; touch x 2>&1; echo hi > /data/f; stat -c %U /data/f",
    {
      binds: [
        { source: release, destination: "/app", writable: false },
        { source: layer, destination: "/app/node_modules", writable: false },
        { source: data, destination: "/data", writable: true },
      ],
      workingDirectory: "/app",
    },
  );
  expect(text).toBe("releaselayertouch: cannot touch 'x': Read-only file system\napp");
  expect(readFileSync(join(data, "f"), "utf8")).toBe("hi\n");
});

test("a symlink in a writable bind is not followed by the next launch", async () => {
  const data = join(directory, "trap");
  mkdirSync(data);
  Bun.spawnSync(["chown", String(uid), data]);
  const binds = [{ source: data, destination: "/data", writable: true }];
  await output(`ln -s ${directory}/outside /data/sub`, { binds });
  const below = { source: "/usr/share", destination: "/data/sub/made", writable: false };
  const launched = launch({ argv: ["/bin/true"], binds: [...binds, below] });
  expect(launched).rejects.toThrow("which the app can write");
  await launched.catch(() => null);
  expect(existsSync(join(directory, "outside"))).toBe(false);
});

test("an instance has its slot's network, a gateway the node's", async () => {
  const slot = await network.acquire({ kind: "public" });
  const addresses = "/usr/sbin/ip -br -4 address | tr -s ' ' | cut -d' ' -f3";
  const own = await output(addresses, { network: slot });
  expect(own.split("\n").map((line) => line.trim())).toEqual(["127.0.0.1/8", `${slot.address}/22`]);
  expect(await output("getent hosts web-1", { network: slot })).toStartWith(slot.address);
  await network.release(slot);
  const host = await output("readlink /proc/self/ns/net", { network: "host" });
  expect(host).toBe(Bun.spawnSync(["readlink", "/proc/self/ns/net"]).stdout.toString().trim());
});

test("descriptors given on are found from 3, and nothing else", async () => {
  const sockets = [0, 1, 2].map(() =>
    must(listenTcp({ host: "127.0.0.1", port: 0, backlog: 8, reusePort: true })),
  );
  const ports = sockets.map(listeningPort);
  const source = `import os, socket
sockets = [socket.socket(fileno=n) for n in (3, 4, 5)]
print([each.getsockname()[1] for each in sockets])
print(sorted(int(n) for n in os.listdir("/proc/self/fd")))`;
  const argv = ["/usr/bin/python3", "-c", source];
  const running = await launch({ argv, network: "host" }, sockets);
  for (const socket of sockets) closeSync(socket);
  expect(await running.output).toBe(`[${ports.join(", ")}]\n[0, 1, 2, 3, 4, 5, 6]`);
});

test("a second program joins the first: same processes, user, cgroup, filter", async () => {
  const running = await launch({ argv: ["/bin/sleep", "30"] });
  const childPid = await childOf(running);
  const command = `readlink /proc/self/ns/pid /proc/self/ns/user; id -un;
    grep -a -l sleep /proc/*/comm;
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t ' ' ';
    unshare -U true 2>&1;
    readlink /proc/self/ns/net; ls /proc/self/fd | tr '\\n' ' '`;
  const second = await launch({ argv: ["/bin/sh", "-c", command] }, [], {
    childPid,
    cgroup: running.cgroup,
  });
  expect(await running.cgroup.pids()).toContain(second.monitorPid);
  const namespaces = ["pid", "user", "net"].map((kind) =>
    Bun.spawnSync(["readlink", `/proc/${childPid}/ns/${kind}`])
      .stdout.toString()
      .trim(),
  );
  expect((await second.output).split("\n")).toEqual([
    ...namespaces.slice(0, 2),
    "app",
    expect.stringContaining("/comm"),
    "CapEff: 0000000000000000",
    "NoNewPrivs: 1",
    "Seccomp: 2",
    "unshare: unshare failed: Operation not permitted",
    namespaces[2] ?? "",
    "0 1 2 3",
  ]);
  expect(await second.end).toEqual({ kind: "exit", code: 0 });
  await running.cgroup.kill();
});

test("with one hierarchy (cgroup v2) the chain is born in its cgroup", async () => {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  const parent = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(mounts)?.[1];
  if (parent === undefined) return;
  const tree = must(
    openTreeV2({
      ...{ cloud, parent, controllers: [], cores: 2, clock: systemClock, events },
      memory: { treeBytes: 2 ** 40, instanceBytes: 2 ** 40 },
      thawUid: null,
    }),
  );
  const cgroup = await tree.create("app");
  const statusFile = join(directory, "born");
  const io = { statusFile, stdin: null, stdout: null, stderr: null };
  const { monitorPid } = await sandbox.launch({ ...base, argv: ["/bin/sleep", "30"] }, cgroup, io);
  expect(await cgroup.pids()).toContain(monitorPid);
  while ((await sandbox.childPidOf(statusFile)) === null) await Bun.sleep(1);
  expect((await cgroup.pids()).length).toBe(3);
  await tree.destroy();
});

test("the runtimes of this machine run", async () => {
  const bun = { source: process.execPath, destination: "/lode/bun", writable: false };
  const env = { ...base.env, BUN_BE_BUN: "1" };
  const programs: [string, Partial<SandboxSpec>][] = [
    [process.execPath, { argv: ["/lode/bun", "-e", "console.log(6 * 7)"], binds: [bun], env }],
    ["/usr/bin/node", { argv: ["node", "-e", "console.log(6 * 7)"] }],
    ["/usr/bin/python3", { argv: ["python3", "-c", "import ssl, socket; print(6 * 7)"] }],
    ["/usr/bin/perl", { argv: ["perl", "-e", "print 6 * 7"] }],
  ];
  for (const [path, change] of programs) {
    if (!existsSync(path)) continue;
    expect(await (await launch(change)).output).toBe("42");
  }
  if (!existsSync("/usr/bin/java")) return;
  const java = await launch({ argv: ["java", "-version"] });
  expect(await java.output).toContain("Runtime Environment");
  expect(await java.end).toEqual({ kind: "exit", code: 0 });
});

test("sandboxes are in a session of their own and outlive a killed lode", async () => {
  const marker = join(directory, "marker");
  mkdirSync(marker);
  Bun.spawnSync(["chown", String(uid), marker]);
  const statusFile = join(directory, "survivor");
  const cgroup = await cgroups.create("survivor");
  const spec: SandboxSpec = {
    ...base,
    binds: [{ source: marker, destination: "/marker", writable: true }],
    argv: ["/bin/sh", "-c", "while ! test -e /marker/go; do sleep 0.01; done; exit 7"],
  };
  const script = join(directory, "lode.ts");
  writeFileSync(
    script,
    `import { startChain } from ${JSON.stringify(join(import.meta.dir, "chain.ts"))};
    const request = ${JSON.stringify({
      host: {
        bubblewrap: "/usr/bin/bwrap",
        etcDirectory: `${runDirectory}/etc`,
        systemLinks: [
          { path: "/bin", target: "usr/bin" },
          { path: "/lib", target: "usr/lib" },
          { path: "/lib64", target: "usr/lib64" },
        ],
        systemDirectories: [],
        procMasks: [],
        procReadOnly: [],
      },
      seccompFile: `${runDirectory}/seccomp.bpf`,
      spec,
      cgroup: { joinPaths: cgroup.joinPaths },
      io: { statusFile, stdin: null, stdout: null, stderr: null },
      childPid: null,
    })};
    const mounts = { within: (_, action) => action() };
    console.log(JSON.stringify(startChain({ ...request, mounts })));
    process.kill(process.pid, "SIGKILL");`,
  );
  const lode = Bun.spawn([process.execPath, script], { stdout: "pipe", stderr: "inherit" });
  const launched = JSON.parse(await lode.stdout.text());
  await lode.exited;
  expect(lode.signalCode).toBe("SIGKILL");
  const stat = readFileSync(`/proc/${launched.monitorPid}/stat`, "utf8").split(") ")[1]?.split(" ");
  expect(stat?.[3]).toBe(String(launched.monitorPid));
  const watcher = createExitWatcher(events);
  writeFileSync(join(marker, "go"), "");
  await watcher.ended({ pid: launched.monitorPid, startTicks: launched.monitorStartTicks });
  expect(await sandbox.exitOf(statusFile)).toEqual({ kind: "exit", code: 7 });
});
