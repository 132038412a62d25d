import { freePorts } from "../../test/harness/host.ts";
import { firstByteMs } from "../client.ts";
import { cgroupMemoryBytes, pssBytes, treeOf } from "../measure.ts";
import { output, stop } from "../peers/install.ts";
import { freePort, freshHello, helloFolder, type Peers } from "../peers/peers.ts";
import { medianOf, type Row, type Section, target } from "../report.ts";

const megabyte = 1e6;
export const memoryMaxMB = 5;
const lodePss = "Lode, PSS of the instance's processes";

interface Sizes {
  readonly pss: readonly number[];
  readonly cgroup: readonly number[];
}

export async function idleMemory(peers: Peers, apps: number, containers: number): Promise<Section> {
  const lode = await lodeApps(peers, apps);
  const rows: Row[] = [
    { name: lodePss, samples: lode.pss },
    { name: "Lode, charged to the cgroup", samples: lode.cgroup },
  ];
  if (peers.docker.ok) {
    const docker = await dockerContainers(peers, containers);
    rows.push(
      { name: "Docker, PSS of container and its shim", samples: docker.pss },
      { name: "Docker, charged to the cgroup (no shim)", samples: docker.cgroup },
    );
  } else rows.push({ name: "Docker", missing: peers.docker.reason });
  if (peers.workerd.ok) {
    rows.push({ name: "workerd, PSS per isolate", samples: await isolates(peers, apps) });
  } else rows.push({ name: "workerd", missing: peers.workerd.reason });
  const worst = Math.max(medianOf(rows, lodePss) ?? 0, medianOf(rows, rows[1]?.name ?? "") ?? 0);
  return {
    title: "Memory of an idle app",
    method:
      `${apps} hello apps on Lode, each deployed and asked once; ${containers} containers; ` +
      `${apps} isolates in one workerd process (its PSS divided among them, no isolation by the ` +
      "kernel). PSS divides shared pages among those who share them; a cgroup is charged for " +
      "what its processes touched first.",
    unit: "MB",
    rows,
    targets: [target(`${apps} idle fetch apps at most 5 MB each`, worst, memoryMaxMB, "MB")],
  };
}

/** What Lode keeps ready for an app that sleeps: bubblewrap's two processes and the runtime. */
export async function readyMemory({ lode }: Peers, apps: number): Promise<Section> {
  const names = Array.from({ length: apps }, (_, index) => `ready-${index}`);
  const trees: (readonly number[])[] = [];
  for (const app of names) {
    await lode.deploy(helloFolder, app);
    await firstByteMs(lode.target(app), performance.now());
    await lode.putToSleep(app);
    await lode.untilReady(app);
  }
  await Bun.sleep(3000);
  for (const app of names) trees.push(await lode.pidsOf(app));
  const measured = sizes(trees);
  const pss = "PSS of its processes";
  const rows = [
    { name: pss, samples: measured.pss },
    { name: "charged to the cgroup", samples: measured.cgroup },
  ];
  return {
    title: "Memory of a sandbox made ahead",
    method: `${apps} hello apps that sleep, each with its next sandbox made.`,
    unit: "MB",
    rows,
    targets: [target("at most 5 MB each", medianOf(rows, pss), memoryMaxMB, "MB")],
  };
}

async function lodeApps({ lode }: Peers, apps: number): Promise<Sizes> {
  const before = new Set(lode.processes().instances.keys());
  const names = Array.from({ length: apps }, (_, index) => `idle-${index}`);
  const queue = [...names];
  const worker = async () => {
    for (let app = queue.shift(); app !== undefined; app = queue.shift()) {
      await lode.deploy(helloFolder, app);
      await firstByteMs(lode.target(app), performance.now());
    }
  };
  await Promise.all([worker(), worker()]);
  await Bun.sleep(3000);
  const trees = [...lode.processes().instances]
    .filter(([name]) => !before.has(name))
    .map(([, pids]) => pids);
  if (trees.length < apps) throw new Error(`only ${trees.length} of ${apps} apps run`);
  return sizes(trees);
}

function sizes(trees: readonly (readonly number[])[]): Sizes {
  return {
    pss: trees.map((pids) => pssBytes(pids) / megabyte),
    cgroup: trees.flatMap((pids) => {
      const bytes = cgroupMemoryBytes(pids[0] ?? 0);
      return bytes === null ? [] : [bytes / megabyte];
    }),
  };
}

async function dockerContainers(peers: Peers, containers: number): Promise<Sizes> {
  const { docker } = peers;
  if (!docker.ok) throw new Error(docker.reason);
  await docker.peer.build(await freshHello(peers, "docker-idle"), "lode-bench/idle");
  const names = Array.from({ length: containers }, (_, index) => `idle-${index}`);
  for (const name of names) {
    const port = await freePort();
    await docker.peer.runContainer({ tag: "lode-bench/idle", name, port, network: "host" });
  }
  await Bun.sleep(3000);
  const pids = await Promise.all(names.map((name) => docker.peer.pidOf(name)));
  const shims = await Promise.all(
    pids.map(async (pid) => Number((await output(["ps", "-o", "ppid=", "-p", `${pid}`])).text)),
  );
  const measured = sizes(pids.map((pid) => treeOf(pid)));
  const shimPss = shims.map((pid) => pssBytes([pid]) / megabyte);
  await docker.peer.remove(names);
  return {
    pss: measured.pss.map((pss, index) => pss + (shimPss[index] ?? 0)),
    cgroup: measured.cgroup,
  };
}

async function isolates({ workerd }: Peers, count: number): Promise<number[]> {
  if (!workerd.ok) throw new Error(workerd.reason);
  const ports = await freePorts(count);
  const child = await workerd.peer.start(ports);
  for (const port of ports) await firstByteMs({ port, host: "localhost" }, performance.now());
  await Bun.sleep(3000);
  const samples: number[] = [];
  for (let reading = 0; reading < 20; reading++) {
    samples.push(pssBytes([child.pid]) / megabyte / count);
    await Bun.sleep(50);
  }
  await stop(child);
  return samples;
}
