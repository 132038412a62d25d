import { firstByteMs } from "../client.ts";
import { attempt } from "../peers/install.ts";
import { freePort, freshHello, type Peers } from "../peers/peers.ts";
import { medianOf, type Row, type Section, target } from "../report.ts";

const lodeRow = "`lode deploy` of a changed hello, whole command";
const stagesRow = "… of it after the upload began (`durationMs.total`)";

export async function deployToServing(peers: Peers, rounds: number): Promise<Section> {
  const lode = await attempt(() => lodeDeploys(peers, rounds));
  const docker = await attempt(() => dockerDeploys(peers, rounds));
  const name = "`docker build` + `docker run -p`";
  const rows: Row[] = [
    ...(lode.ok
      ? [
          { name: lodeRow, samples: lode.peer.command },
          { name: stagesRow, samples: lode.peer.stages },
        ]
      : [{ name: lodeRow, missing: lode.reason }]),
    docker.ok ? { name, samples: docker.peer } : { name, missing: docker.reason },
  ];
  return {
    title: "Deploy to serving",
    method:
      "A file of the app is changed, it is deployed again, and the new version answers a " +
      "request. Docker's old container is left running, its image has only the runtime and " +
      "one COPY.",
    unit: "ms",
    rows,
    targets: [target("deploy of hello in 500 ms", medianOf(rows, lodeRow), 500, "ms")],
  };
}

async function lodeDeploys(peers: Peers, rounds: number) {
  const command: number[] = [];
  const stages: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const folder = await freshHello(peers, `deploy-${round}`);
    const startMs = performance.now();
    const totalMs = await peers.lode.deploy(folder, "deployed");
    const durationMs = await firstByteMs(peers.lode.target("deployed"), startMs);
    if (round < 0) continue;
    command.push(durationMs);
    stages.push(totalMs);
  }
  return { command, stages };
}

async function dockerDeploys(peers: Peers, rounds: number): Promise<number[]> {
  const { docker } = peers;
  if (!docker.ok) throw new Error(docker.reason);
  const samples: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const folder = await freshHello(peers, `docker-deploy-${round}`);
    const port = await freePort();
    const name = `deploy-${round + 1}`;
    const startMs = performance.now();
    await docker.peer.build(folder, `lode-bench/${name}`);
    const run = { tag: `lode-bench/${name}`, name, port, network: "published" } as const;
    const durationMs = await docker.peer.runContainer(run, startMs);
    if (round >= 0) samples.push(durationMs);
    await docker.peer.remove([name]);
  }
  return samples;
}
