import { firstByteMs } from "../measure.ts";
import { attempt, stop } from "../peers/install.ts";
import { freePort, freshHello, helloFolder, type Peers } from "../peers/peers.ts";
import { medianOf, type Row, type Section, target } from "../report.ts";

/** Once unmeasured, then `rounds` times. */
async function sample(rounds: number, once: () => Promise<number>): Promise<number[]> {
  await once();
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) samples.push(await once());
  return samples;
}

async function row(name: string, measure: () => Promise<number[]>): Promise<Row> {
  const outcome = await attempt(measure);
  return outcome.ok ? { name, samples: outcome.peer } : { name, missing: outcome.reason };
}

export async function coldStart(peers: Peers, rounds: number): Promise<Section> {
  const rows = [
    await row("bare `bun index.ts`", () => bareExec(peers, rounds)),
    await row("Lode, asleep → first byte through the gateway", () => lodeWake(peers, rounds)),
    await row("workerd, process start", () => workerdStart(peers, rounds)),
    await row("`docker run` (host network)", () => dockerRun(peers, rounds)),
  ];
  const bare = medianOf(rows, "bare `bun index.ts`") ?? Number.NaN;
  const lode = medianOf(rows, "Lode, asleep → first byte through the gateway");
  const docker = medianOf(rows, "`docker run` (host network)");
  const toDocker = lode === null || docker === null ? null : lode / docker;
  return {
    title: "Cold start",
    method:
      "From the request (Lode) or from spawning the process (the others) to the first byte of " +
      "the answer. A client without a listener to talk to connects again at once.",
    unit: "ms",
    rows,
    targets: [
      target("at most 2.5 × bare exec", lode === null ? null : lode / bare, 2.5, "×"),
      target("at most 1/10 of Docker", toDocker, 0.1, "of Docker"),
    ],
  };
}

async function bareExec(peers: Peers, rounds: number): Promise<number[]> {
  return await sample(rounds, async () => {
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
    await stop(child);
    return durationMs;
  });
}

async function lodeWake({ lode }: Peers, rounds: number): Promise<number[]> {
  await lode.deploy(helloFolder, "cold");
  return await sample(rounds, async () => {
    await lode.putToSleep("cold");
    return await firstByteMs(lode.target("cold"), performance.now());
  });
}

async function workerdStart({ workerd }: Peers, rounds: number): Promise<number[]> {
  if (!workerd.ok) throw new Error(workerd.reason);
  return await sample(rounds, async () => {
    const port = await freePort();
    const config = await workerd.peer.writeConfig(port);
    const startMs = performance.now();
    const child = workerd.peer.exec(config);
    const durationMs = await firstByteMs({ port, host: "localhost" }, startMs);
    await stop(child);
    return durationMs;
  });
}

async function dockerRun(peers: Peers, rounds: number): Promise<number[]> {
  const { docker } = peers;
  if (!docker.ok) throw new Error(docker.reason);
  await docker.peer.build(await freshHello(peers, "docker-cold"), "lode-bench/cold");
  let count = 0;
  return await sample(rounds, async () => {
    const port = await freePort();
    const name = `cold-${count++}`;
    const startMs = performance.now();
    const client = docker.peer.runContainer("lode-bench/cold", name, port);
    const durationMs = await firstByteMs({ port, host: "localhost" }, startMs);
    await client.exited;
    await docker.peer.remove([name]);
    return durationMs;
  });
}
