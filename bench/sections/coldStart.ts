import { join } from "node:path";
import { answerOf, firstByteMs } from "../client.ts";
import type { DockerNetwork } from "../peers/docker.ts";
import { type Available, attempt, stop } from "../peers/install.ts";
import { freePort, freshHello, helloFolder, type Peers } from "../peers/peers.ts";
import { medianOf, percentileOf, type Row, type Section, target } from "../report.ts";

/** One way to start hello from nothing. */
interface Contestant {
  /** Makes sure that nothing runs. */
  prepare(): Promise<void>;
  start(): Promise<Started>;
}

interface Started {
  readonly firstByteMs: number;
  end(): Promise<void>;
}

const bareRow = "bare `bun index.ts`";
const lodeRow = "Lode, asleep → first byte through the gateway";
const readyRow = "Lode, asleep with a sandbox made ahead → first byte";
const claimRow = "… of it until the app's first instruction";
const awakeRow = "Lode, awake → first byte";
const workerdRow = "workerd, process start";
const dockerRow = "`docker run -p`";
const dockerHostRow = "`docker run --network host`";
/** Before each start, so that what came before does not disturb it. */
const settleMs = 100;

/** Every round starts each contestant once: what else the machine does hits all alike. */
export async function coldStart(peers: Peers, rounds: number): Promise<Section> {
  const contestants: readonly (readonly [string, Available<Contestant>])[] = [
    [bareRow, await attempt(() => bareExec(peers))],
    [lodeRow, await attempt(() => lodeWake(peers, "nothing"))],
    [readyRow, await attempt(() => lodeWake(peers, "ready"))],
    [claimRow, await attempt(() => lodeClaim(peers))],
    [awakeRow, await attempt(() => lodeAwake(peers))],
    [workerdRow, await attempt(() => workerdStart(peers))],
    [dockerRow, await attempt(() => dockerRun(peers, "published"))],
    [dockerHostRow, await attempt(() => dockerRun(peers, "host"))],
  ];
  const samples = new Map<string, number[]>(contestants.map(([name]) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, contestant] of contestants) {
      if (!contestant.ok) continue;
      await contestant.peer.prepare();
      await Bun.sleep(settleMs);
      const started = await contestant.peer.start();
      if (round >= 0) samples.get(name)?.push(started.firstByteMs);
      await started.end();
    }
  }
  const rows = contestants.map(
    ([name, contestant]): Row =>
      contestant.ok
        ? { name, samples: samples.get(name) ?? [] }
        : { name, missing: contestant.reason },
  );
  const lode = medianOf(rows, lodeRow);
  const docker = medianOf(rows, dockerRow);
  const over = (name: string, percent: number): number | null => {
    const [ours, theirs] = [name, bareRow].map((row) => percentileOf(rows, row, percent));
    return typeof ours === "number" && typeof theirs === "number" ? ours / theirs : null;
  };
  const proportion = (to: number | null) => (lode === null || to === null ? null : lode / to);
  return {
    title: "Cold start",
    method:
      "From the request (Lode) or from spawning the process (the others) to the first byte of " +
      "the answer, the contestants in turn. A client without a listener to talk to connects " +
      "again at once. Lode and `docker run -p` give the app a network of its own, the others " +
      "do not. A sandbox made ahead holds the runtime, and nothing of the app has run in it.",
    unit: "ms",
    rows,
    targets: [
      target("from nothing at most 2.5 × bare exec", over(lodeRow, 50), 2.5, "×"),
      target("from a sandbox made ahead at most 1.5 × bare exec", over(readyRow, 50), 1.5, "×"),
      target("… its 99th percentile at most 3 ×", over(readyRow, 99), 3, "×"),
      target("… let go, and the app's code begun, in 2 ms", medianOf(rows, claimRow), 2, "ms"),
      target("from nothing at most 1/10 of Docker", proportion(docker), 0.1, "of Docker"),
    ],
  };
}

async function nothing(): Promise<void> {}

async function bareExec(peers: Peers): Promise<Contestant> {
  const start = async () => {
    const port = await freePort();
    const startMs = performance.now();
    const child = Bun.spawn([peers.bun, "index.ts"], {
      cwd: helloFolder,
      env: { ...process.env, PORT: String(port) },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    const durationMs = await firstByteMs({ port, host: "localhost" }, startMs);
    return { firstByteMs: durationMs, end: () => stop(child) };
  };
  return { prepare: nothing, start };
}

async function lodeWake({ lode }: Peers, from: "nothing" | "ready"): Promise<Contestant> {
  const app = `cold-${from}`;
  await lode.deploy(helloFolder, app);
  const start = async () => {
    const durationMs = await firstByteMs(lode.target(app), performance.now());
    return { firstByteMs: durationMs, end: nothing };
  };
  const prepare = async () => {
    await lode.putToSleep(app);
    if (from === "ready") await lode.untilReady(app);
    else await lode.endReady(app);
  };
  return { prepare, start };
}

/** An app that tells when its code began, by the clock that it shares with who asks. */
async function lodeClaim(peers: Peers): Promise<Contestant> {
  const { lode } = peers;
  const folder = join(peers.folder, "claim");
  const source =
    "const begunAt = performance.timeOrigin + performance.now();\n" +
    "export default { fetch: () => new Response(String(begunAt)) };\n";
  await Bun.write(join(folder, "index.ts"), source);
  await lode.deploy(folder, "claim");
  const start = async () => {
    const askedAt = performance.timeOrigin + performance.now();
    const { body } = await answerOf(lode.target("claim"));
    return { firstByteMs: Number(body) - askedAt, end: nothing };
  };
  const prepare = async () => {
    await lode.putToSleep("claim");
    await lode.untilReady("claim");
  };
  return { prepare, start };
}

async function lodeAwake({ lode }: Peers): Promise<Contestant> {
  await lode.deploy(helloFolder, "awake");
  const start = async () => {
    const durationMs = await firstByteMs(lode.target("awake"), performance.now());
    return { firstByteMs: durationMs, end: nothing };
  };
  return { prepare: nothing, start };
}

async function workerdStart({ workerd }: Peers): Promise<Contestant> {
  if (!workerd.ok) throw new Error(workerd.reason);
  const start = async () => {
    const port = await freePort();
    const config = await workerd.peer.writeConfig(port);
    const startMs = performance.now();
    const child = workerd.peer.exec(config);
    const durationMs = await firstByteMs({ port, host: "localhost" }, startMs);
    return { firstByteMs: durationMs, end: () => stop(child) };
  };
  return { prepare: nothing, start };
}

async function dockerRun(peers: Peers, network: DockerNetwork): Promise<Contestant> {
  const { docker } = peers;
  if (!docker.ok) throw new Error(docker.reason);
  await docker.peer.build(await freshHello(peers, "docker-cold"), "lode-bench/cold");
  let count = 0;
  const start = async () => {
    const port = await freePort();
    const name = `cold-${network}-${count++}`;
    const run = { tag: "lode-bench/cold", name, port, network };
    return {
      firstByteMs: await docker.peer.runContainer(run),
      end: () => docker.peer.remove([name]),
    };
  };
  return { prepare: nothing, start };
}
