// Asks the neighbour and the API all the time, and tells how long answers took in windows.

import { quantile } from "../harness/http.ts";
import type { Stage } from "./stage.ts";

interface Sample {
  readonly at: number;
  readonly durationMs: number;
}

export interface Window {
  readonly from: number;
  readonly to: number;
}

export interface Watch {
  /** Of the neighbour's requests that began in the windows, and of the API's. */
  neighbourP99Ms(windows: readonly Window[]): number;
  apiP99Ms(windows: readonly Window[]): number;
  /** What went wrong since the last call. */
  takeErrors(): readonly string[];
  stop(): Promise<void>;
}

const clients = 2;
const neighbourPauseMs = 2;
const apiPauseMs = 20;

export function openWatch(stage: Stage): Watch {
  const { cloud, neighbour } = stage;
  const samples = { neighbour: [] as Sample[], api: [] as Sample[] };
  let errors: string[] = [];
  let going = true;

  const words = [cloud.httpPort, cloud.host(neighbour), neighbourPauseMs * 1000].map(String);
  const visitors = Array.from({ length: clients }, () =>
    Bun.spawn([stage.visitor, ...words], { stdout: "pipe", stderr: "inherit" }),
  );
  async function listen(visitor: (typeof visitors)[number]) {
    let rest = "";
    for await (const piece of visitor.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + piece).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [atUs = 0, durationUs = 0, status] = line.split(" ").map(Number);
        if (status !== 200) errors.push(`the neighbour: ${status}`);
        const at = atUs / 1000 - performance.timeOrigin;
        samples.neighbour.push({ at, durationMs: durationUs / 1000 });
      }
    }
  }
  async function askApi() {
    while (going) {
      const at = performance.now();
      const status = await listApps(stage).catch((error) => `${error}`);
      if (status !== 200) errors.push(`the API: ${status}`);
      samples.api.push({ at, durationMs: performance.now() - at });
      await Bun.sleep(apiPauseMs);
    }
  }
  const loops = [...visitors.map(listen), askApi()];
  return {
    neighbourP99Ms: (windows) => p99Of(samples.neighbour, windows),
    apiP99Ms: (windows) => p99Of(samples.api, windows),
    takeErrors() {
      const taken = errors;
      errors = [];
      return taken;
    },
    async stop() {
      going = false;
      for (const visitor of visitors) visitor.kill();
      await Promise.all(loops);
    },
  };
}

async function listApps({ cloud }: Stage): Promise<number> {
  const response = await cloud.api("/v1/projects/default/apps");
  await response.text();
  return response.status;
}

function p99Of(samples: readonly Sample[], windows: readonly Window[]): number {
  const inside = samples.filter(({ at }) => windows.some(({ from, to }) => at >= from && at < to));
  return quantile(
    inside.map(({ durationMs }) => durationMs),
    0.99,
  );
}
