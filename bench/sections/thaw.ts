import { join } from "node:path";
import { until } from "../../test/harness/host.ts";
import { percentile } from "../../tools/plot/numbers.ts";
import { firstByteMs } from "../client.ts";
import { freshHello, type Peers } from "../peers/peers.ts";
import { type Section, target } from "../report.ts";

/** Between two requests, so that both rows meet a machine at rest. */
const restMs = 300;

/** What a request pays for finding its app frozen, beside one whose app merely had no work. */
export async function thaw(peers: Peers, rounds: number): Promise<Section> {
  const { lode } = peers;
  const [awake, frozen] = ["thaw-awake", "thaw-frozen"];
  await deploy(peers, awake, "min = 1\n");
  await deploy(peers, frozen, 'min = 0\nfreeze = "100ms"\n');
  const samples = { awake: [] as number[], frozen: [] as number[] };
  const take = async (app: string) => await firstByteMs(lode.target(app), performance.now());
  for (let round = -1; round < rounds; round++) {
    await Bun.sleep(restMs);
    const fromAwake = await take(awake);
    await until(`${frozen} is frozen`, async () => (await lode.states(frozen))[0] === "frozen");
    await Bun.sleep(restMs);
    const fromFrozen = await take(frozen);
    if (round < 0) continue;
    samples.awake.push(fromAwake);
    samples.frozen.push(fromFrozen);
  }
  return {
    title: "Thaw",
    method:
      "From the request to the first byte of the answer through the gateway, in turn, each after " +
      `${restMs} ms without one: an app that is awake, and one that was frozen.`,
    unit: "ms",
    rows: [
      { name: "Lode, awake", samples: samples.awake },
      { name: "Lode, frozen → first byte", samples: samples.frozen },
    ],
    targets: [
      target("99 % within 3 ms", percentile(samples.frozen, 99), 3, "ms"),
      target("… as of an app that is awake", percentile(samples.awake, 99), 3, "ms"),
    ],
  };
}

async function deploy(peers: Peers, app: string, scale: string): Promise<void> {
  const folder = await freshHello(peers, app);
  await Bun.write(join(folder, "lode.toml"), `[scale]\n${scale}`);
  await peers.lode.deploy(folder, app);
}
