import { existsSync } from "node:fs";
import { join } from "node:path";
import { cpuTimeUs, firstByteMs, treeOf } from "../measure.ts";
import { attempt, ensureProgram, output, stop } from "../peers/install.ts";
import { freePort, helloFolder, type Peers, serveProgram } from "../peers/peers.ts";
import { proxyKinds, startProxy } from "../peers/proxies.ts";
import type { Row, Section } from "../report.ts";

/** Something that answers on a port, whose CPU time can be read. */
interface Contestant {
  readonly name: string;
  readonly url: string;
  readonly host: string;
  readonly proxyPids: () => readonly number[];
  readonly appPids: () => readonly number[];
  readonly stop: () => Promise<void>;
}

interface Round {
  readonly proxyUs: number;
  /** Proxy and app. */
  readonly bothUs: number;
  readonly requestsPerSecond: number;
}

const direct = "direct";

/**
 * Every round asks each contestant in turn, so that what else the machine does in between hits
 * all of them alike.
 */
export async function warmRequests(peers: Peers, rounds: number): Promise<Section[]> {
  const wrk = await ensureProgram("wrk", "wrk");
  const socket = join(peers.folder, "backend.sock");
  const backend = Bun.spawn([peers.bun, serveProgram, `unix:${socket}`], { stdin: "ignore" });
  for (let waited = 0; !existsSync(socket) && waited < 100; waited++) await Bun.sleep(20);
  const missing: Row[] = [];
  const contestants: Contestant[] = [await withoutProxy(peers), await lode(peers)];
  for (const kind of proxyKinds) {
    const started = await attempt(async () => {
      const proxy = await startProxy(kind, await freePort(), socket, join(peers.folder, "proxies"));
      await firstByteMs({ port: proxy.port, host: "localhost" }, performance.now());
      return proxy;
    });
    if (!started.ok) {
      missing.push({ name: kind.name, missing: started.reason });
      continue;
    }
    const proxy = started.peer;
    contestants.push({
      name: `${proxy.name} ${proxy.version}`,
      url: `http://127.0.0.1:${proxy.port}/`,
      host: "localhost",
      proxyPids: () => treeOf(proxy.process.pid),
      appPids: () => [backend.pid],
      stop: () => stop(proxy.process),
    });
  }
  const results = new Map<string, Round[]>(contestants.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const contestant of contestants) {
      const measured = await measure(wrk, contestant);
      if (round >= 0) results.get(contestant.name)?.push(measured);
    }
  }
  for (const contestant of contestants) await contestant.stop();
  await stop(backend);
  return sections(results, missing);
}

function sections(results: ReadonlyMap<string, readonly Round[]>, missing: readonly Row[]) {
  const rows = (pick: (round: Round) => number): Row[] =>
    [...results].map(([name, rounds]) => ({ name, samples: rounds.map(pick) }));
  const method =
    "One thread of wrk with 16 kept-alive connections for a second per round, the contestants in " +
    "turn. Every proxy passes to hello on a unix socket (Lode to its sandboxed instance) with " +
    "kept-alive connections; ";
  return [
    {
      title: "Warm request: CPU time",
      method: `${method}CPU time of the proxy's processes divided by the requests they answered.`,
      unit: "µs",
      rows: [...rows((round) => round.proxyUs).filter(({ name }) => name !== direct), ...missing],
      targets: [],
    },
    {
      title: "Warm request: CPU time of proxy and app",
      method:
        "The same rounds, with the CPU time of the app behind the proxy. Direct is the program " +
        "itself on a port, without a proxy.",
      unit: "µs",
      rows: [...rows((round) => round.bothUs), ...missing],
      targets: [],
    },
    {
      title: "Warm request: throughput",
      method: "The same rounds: requests answered per second, higher is better.",
      unit: "requests/s",
      rows: [...rows((round) => round.requestsPerSecond), ...missing],
      targets: [],
    },
  ];
}

async function withoutProxy(peers: Peers): Promise<Contestant> {
  const port = await freePort();
  const child = Bun.spawn([peers.bun, serveProgram, String(port)], { stdin: "ignore" });
  await firstByteMs({ port, host: "localhost" }, performance.now());
  return {
    name: direct,
    url: `http://127.0.0.1:${port}/`,
    host: "localhost",
    proxyPids: () => [],
    appPids: () => [child.pid],
    stop: () => stop(child),
  };
}

async function lode({ lode }: Peers): Promise<Contestant> {
  await lode.deploy(helloFolder, "warm");
  const [row] = await lode.cloud.ps("warm");
  const instance = row?.instance ?? "";
  const { port, host } = lode.target("warm");
  return {
    name: "Lode's gateways",
    url: `http://127.0.0.1:${port}/`,
    host,
    proxyPids: () => lode.processes().gateways,
    appPids: () => lode.processes().instances.get(instance) ?? [],
    stop: async () => undefined,
  };
}

async function measure(wrk: string, contestant: Contestant): Promise<Round> {
  const [proxyPids, appPids] = [contestant.proxyPids(), contestant.appPids()];
  const before = { proxyUs: cpuTimeUs(proxyPids), appUs: cpuTimeUs(appPids) };
  const host = `Host: ${contestant.host}`;
  const report = await output([wrk, "-t1", "-c16", "-d1s", "-H", host, contestant.url]);
  const proxyUs = cpuTimeUs(proxyPids) - before.proxyUs;
  const appUs = cpuTimeUs(appPids) - before.appUs;
  const requests = Number(/(\d+) requests in/.exec(report.text)?.[1] ?? 0);
  const wrong = /Non-2xx or 3xx responses: (\d+)|Socket errors/.exec(report.text);
  if (requests === 0 || wrong !== null) throw new Error(`${contestant.name}: ${report.text}`);
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(report.text)?.[1] ?? 0);
  return {
    proxyUs: proxyUs / requests,
    bothUs: (proxyUs + appUs) / requests,
    requestsPerSecond: perSecond,
  };
}
