// Asks the neighbour and the API all the time, and tells how long answers took in windows.

import { quantile, request } from "../harness/http.ts";
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

  async function ask(into: Sample[], pauseMs: number, once: () => Promise<number>) {
    while (going) {
      const at = performance.now();
      const status = await once().catch((error) => `${error}`);
      if (status !== 200) errors.push(`${status}`);
      into.push({ at, durationMs: performance.now() - at });
      await Bun.sleep(pauseMs);
    }
  }
  const port = cloud.httpPort;
  const visit = async () => (await request({ port, host: cloud.host(neighbour) })).status;
  const list = async () => {
    const response = await cloud.api("/v1/projects/default/apps");
    await response.text();
    return response.status;
  };
  const loops = [
    ...Array.from({ length: clients }, () => ask(samples.neighbour, neighbourPauseMs, visit)),
    ask(samples.api, apiPauseMs, list),
  ];
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
      await Promise.all(loops);
    },
  };
}

function p99Of(samples: readonly Sample[], windows: readonly Window[]): number {
  const inside = samples.filter(({ at }) => windows.some(({ from, to }) => at >= from && at < to));
  return quantile(
    inside.map(({ durationMs }) => durationMs),
    0.99,
  );
}
