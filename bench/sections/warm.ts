import { join } from "node:path";
import { cloudPaths, dataPaths } from "../../src/node/paths.ts";
import { firstByteMs } from "../client.ts";
import { cpuTimeUs, treeOf } from "../measure.ts";
import { attempt, ensureProgram, output, stop } from "../peers/install.ts";
import { freePort, helloFolder, type Peers, serveProgram } from "../peers/peers.ts";
import {
  makeCertificate,
  type Ports,
  type ProxyKind,
  proxyKinds,
  type ReverseProxy,
  startProxy,
} from "../peers/proxies.ts";
import { medianOf, type Row, type Section, type TargetLine, target } from "../report.ts";

/** Something that answers on a port, whose CPU time can be read. */
interface Contestant {
  readonly name: string;
  readonly ports: Ports;
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

/** Rounds that are not counted: each gateway and the app compile what they run often. */
const warmUpRounds = 4;

const direct = "direct";
const gateways = "Lode's gateways";

type Protocol = "plain" | "tls" | "http2";

interface Asked {
  readonly protocol: Protocol;
  readonly name: string;
  /** Of nginx's CPU time per request in the same run. */
  readonly timesOfNginxMax: number;
}

export const protocols: readonly Asked[] = [
  { protocol: "plain", name: "HTTP/1.1", timesOfNginxMax: 1 },
  { protocol: "tls", name: "HTTP/1.1 over TLS", timesOfNginxMax: 1 },
  { protocol: "http2", name: "HTTP/2", timesOfNginxMax: 1.5 },
];

export const cpuTitle = (protocol: string) => `${protocol}: CPU time`;
export const throughputTitle = "Throughput";

type Results = ReadonlyMap<string, Readonly<Record<Protocol, Round[]>>>;

/**
 * Every round asks each contestant in turn, so that what else the machine does in between hits
 * all of them alike.
 */
export async function warmRequests(peers: Peers, rounds: number): Promise<Section[]> {
  const tools = {
    wrk: await ensureProgram("wrk", "wrk"),
    h2load: await ensureProgram("h2load", "nghttp2-client"),
  };
  const missing: Row[] = [];
  const { contestant: ours, socket } = await lode(peers);
  const contestants: Contestant[] = [await withoutProxy(peers), ours];
  for (const kind of proxyKinds) {
    const started = await attempt(() => startOne(peers, kind, socket));
    if (started.ok) contestants.push(contestantOf(started.peer, ours.appPids));
    else missing.push({ name: kind.name, missing: started.reason });
  }
  const results: Results = new Map(
    contestants.map(({ name }) => [name, { plain: [], tls: [], http2: [] }]),
  );
  try {
    for (let round = -warmUpRounds; round < rounds; round++) {
      await measureRound(tools, contestants, (name, protocol, measured) => {
        if (round >= 0) results.get(name)?.[protocol].push(measured);
      });
    }
  } finally {
    for (const contestant of contestants) await contestant.stop();
  }
  return sections(results, missing);
}

async function measureRound(
  tools: Tools,
  contestants: readonly Contestant[],
  note: (name: string, protocol: Protocol, measured: Round) => void,
): Promise<void> {
  for (const { protocol } of protocols) {
    for (const contestant of contestants) {
      // The program by itself has no TLS.
      if (contestant.name === direct && protocol !== "plain") continue;
      note(contestant.name, protocol, await measure(tools, contestant, protocol));
    }
  }
}

async function startOne(peers: Peers, kind: ProxyKind, socket: string): Promise<ReverseProxy> {
  const folder = join(peers.folder, "proxies");
  const ports = { plain: await freePort(), tls: await freePort() };
  const certificate = await makeCertificate(folder, "localhost");
  const proxy = await startProxy(kind, ports, socket, folder, certificate);
  await firstByteMs({ port: ports.plain, host: "localhost" }, performance.now());
  return proxy;
}

function contestantOf(proxy: ReverseProxy, appPids: Contestant["appPids"]): Contestant {
  return {
    name: `${proxy.name} ${proxy.version}`,
    ports: proxy.ports,
    host: "localhost",
    proxyPids: () => treeOf(proxy.process.pid),
    appPids,
    stop: () => stop(proxy.process),
  };
}

function sections(results: Results, missing: readonly Row[]): Section[] {
  const rows = (protocol: Protocol, pick: (round: Round) => number): Row[] =>
    [...results].flatMap(([name, rounds]) =>
      rounds[protocol].length === 0 ? [] : [{ name, samples: rounds[protocol].map(pick) }],
    );
  const method =
    "wrk, for TLS h2load, in one thread with 16 kept-alive connections for a second per round, " +
    "the contestants in turn. All pass to the same instance of hello, in Lode's sandbox, on its " +
    "unix socket with kept-alive connections; Lode and nginx write an access log; the " +
    `first ${warmUpRounds} rounds are not counted; `;
  const perProtocol = protocols.map(({ protocol, name, timesOfNginxMax }): Section => {
    const own = rows(protocol, (round) => round.proxyUs).filter((row) => row.name !== direct);
    return {
      title: cpuTitle(name),
      method: `${method}CPU time of the proxy's processes divided by the requests they answered.`,
      unit: "µs",
      rows: [...own, ...missing],
      targets: [againstNginx(own, timesOfNginxMax)],
    };
  });
  return [
    ...perProtocol,
    {
      title: "CPU time of proxy and app",
      method:
        "The rounds of plain HTTP/1.1, with the CPU time of the app behind the proxy. Direct is " +
        "the program itself on a port, without a proxy.",
      unit: "µs",
      rows: [...rows("plain", (round) => round.bothUs), ...missing],
      targets: [],
    },
    {
      title: throughputTitle,
      method: "The same rounds: requests answered per second, higher is better.",
      unit: "requests/s",
      rows: [...rows("plain", (round) => round.requestsPerSecond), ...missing],
      targets: [],
    },
  ];
}

function againstNginx(rows: readonly Row[], goal: number): TargetLine {
  const nginx = rows.find(({ name }) => name.startsWith("nginx "))?.name ?? "";
  const [ours, theirs] = [medianOf(rows, gateways), medianOf(rows, nginx)];
  const ratio = ours === null || theirs === null ? null : ours / theirs;
  return target(`at most ${goal}× nginx's`, ratio, goal, "×");
}

async function withoutProxy(peers: Peers): Promise<Contestant> {
  const port = await freePort();
  const child = Bun.spawn([peers.bun, serveProgram, String(port)], { stdin: "ignore" });
  await firstByteMs({ port, host: "localhost" }, performance.now());
  return {
    name: direct,
    ports: { plain: port, tls: 0 },
    host: "localhost",
    proxyPids: () => [],
    appPids: () => [child.pid],
    stop: () => stop(child),
  };
}

/** @returns the socket of its instance, too. */
async function lode({
  lode,
  folder,
}: Peers): Promise<{ readonly contestant: Contestant; readonly socket: string }> {
  await lode.deploy(helloFolder, "warm");
  const [row] = await lode.cloud.ps("warm");
  const instance = row?.instance ?? "";
  const target = lode.target("warm");
  const host = target.host.replace(/:\d+$/, "");
  await lode.certify(await makeCertificate(join(folder, "proxies"), host));
  const contestant = {
    name: gateways,
    ports: { plain: target.port, tls: lode.cloud.httpsPort },
    host,
    proxyPids: () => lode.processes().gateways,
    appPids: () => lode.processes().instances.get(instance) ?? [],
    stop: async () => undefined,
  };
  const sockets = dataPaths.appSockets(cloudPaths(lode.cloud.dataDirectory, lode.cloud.id()));
  return { contestant, socket: join(sockets, `${instance}.sock`) };
}

interface Tools {
  readonly wrk: string;
  readonly h2load: string;
}

function commandFor(tools: Tools, contestant: Contestant, protocol: Protocol): readonly string[] {
  const { ports, host } = contestant;
  if (protocol === "plain") {
    const url = `http://127.0.0.1:${ports.plain}/`;
    return [tools.wrk, "-t1", "-c16", "-d1s", "-H", `Host: ${host}`, url];
  }
  const version = protocol === "tls" ? ["--h1"] : [];
  const to = `--connect-to=127.0.0.1:${ports.tls}`;
  return [tools.h2load, ...version, "-t1", "-c16", "-D1", to, `https://${host}:${ports.tls}/`];
}

async function measure(tools: Tools, contestant: Contestant, protocol: Protocol): Promise<Round> {
  const [proxyPids, appPids] = [contestant.proxyPids(), contestant.appPids()];
  const before = { proxyUs: cpuTimeUs(proxyPids), appUs: cpuTimeUs(appPids) };
  const report = await output(commandFor(tools, contestant, protocol));
  const proxyUs = cpuTimeUs(proxyPids) - before.proxyUs;
  const appUs = cpuTimeUs(appPids) - before.appUs;
  const requests = Number(
    /(\d+) requests in|status codes: (\d+) 2xx/.exec(report.text)?.slice(1).join("") ?? 0,
  );
  const wrong = /Non-2xx or 3xx responses|Socket errors|[1-9]\d* (?:failed|errored|[345]xx)/.exec(
    report.text,
  );
  if (requests === 0 || wrong !== null) throw new Error(`${contestant.name}: ${report.text}`);
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(report.text)?.[1] ?? 0);
  return {
    proxyUs: proxyUs / requests,
    bothUs: (proxyUs + appUs) / requests,
    requestsPerSecond: perSecond,
  };
}
