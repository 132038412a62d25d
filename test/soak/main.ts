// `npm run proof:soak [-- --minutes N]`: a real cloud under everything that could make its
// gateways grow; their memory must stay as it is. Writes docs/GATEWAY-PROOF.md.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Line, lineChart } from "../../tools/plot/lines.ts";
import { linearScale } from "../../tools/plot/scale.ts";
import { Cloud, repository, run } from "../harness/cloud.ts";
import { writeSection } from "../harness/page.ts";
import * as load from "./load.ts";

const options = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    connections: { type: "string", default: "5000" },
    /** Where the page stays as it is. */
    dry: { type: "boolean", default: false },
  },
}).values;
const minutes = Number(options.minutes);
const connections = Number(options.connections);
/** Before: the same at a faster pace, until what runs often is compiled and all is connected. */
const warmUpSeconds = 60;
const warmUpPace = 0.03;
/** A garbage collector breathes, every few seconds: what is judged is the mean of a minute. */
const meanOfSeconds = 60;
const deviationMax = 0.05;

function residentBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1] ?? Number.NaN) * 1024;
}

const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

async function setCertificate(cloud: Cloud, host: string): Promise<void> {
  const [chain, key] = [join(cloud.scratch, "chain.pem"), join(cloud.scratch, "key.pem")];
  const made = await run([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-nodes", "-days", "30", "-subj", `/CN=${host}`, "-addext", `subjectAltName=DNS:${host}`],
    ...["-keyout", key, "-out", chain],
  ]);
  if (made.code !== 0) throw new Error(made.stderr);
  await cloud.ok(["certs", "set", "soak", "--cert", chain, "--key", key]);
}

function startLoad(target: load.Target, tally: load.Tally): Promise<void>[] {
  const many = <T>(count: number, make: (index: number) => T) =>
    Array.from({ length: count }, (_, index) => make(index));
  // Requests far apart, within a gateway's patience with an idle connection.
  const idle = { what: "idle connections, a request a minute", pauseMs: 45_000, isIdle: true };
  return [
    ...load.keepOpen(target, tally, { ...idle, count: connections * 0.9, tls: false }),
    ...load.keepOpen(target, tally, {
      ...{ what: "idle TLS connections", pauseMs: 45_000, isIdle: true },
      ...{ count: connections * 0.1, tls: true },
    }),
    ...load.keepOpen(target, tally, { what: "requests", count: 20, pauseMs: 150, tls: false }),
    ...load.keepOpen(target, tally, { what: "TLS requests", count: 10, pauseMs: 250, tls: true }),
    ...many(3, () => load.streamHttp2(target, tally, 200)),
    ...many(3, () => load.abortAnswers(target, tally, 1000)),
    ...many(3, () => load.abortUploads(target, tally, 500)),
    ...many(25, (index) => load.readSlowly(target, tally, 60_000_000, index * 4000)),
    ...many(25, () => load.writeSlowly(target, tally, 300)),
    ...many(2, (index) => load.stallReading(target, tally, index)),
    load.stallWriting(target, tally),
  ];
}

interface Sample {
  readonly residentBytes: readonly number[];
  readonly descriptors: readonly number[];
}

/** One sample of all gateways each second. */
async function watch(pids: readonly number[], seconds: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  const startedAt = performance.now();
  for (let second = 0; second < seconds; second += 1) {
    samples.push({
      residentBytes: pids.map(residentBytes),
      descriptors: pids.map(descriptors),
    });
    if (second % 30 === 0) {
      const sizes = samples.at(-1)?.residentBytes.map((bytes) => (bytes / 1e6).toFixed(1));
      console.log(`${second} s: ${sizes?.join(" and ")} MB`);
    }
    await Bun.sleep(startedAt + (second + 1) * 1000 - performance.now());
  }
  return samples;
}

interface Judged {
  readonly pid: number;
  /** One after another. */
  readonly means: readonly number[];
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
  /** Of single seconds. */
  readonly peak: number;
  readonly trough: number;
  readonly holds: boolean;
}

/** Each mean against their median. */
function judge(pid: number, bytes: readonly number[]): Judged {
  const means: number[] = [];
  for (let from = 0; from + meanOfSeconds <= bytes.length; from += meanOfSeconds) {
    const window = bytes.slice(from, from + meanOfSeconds);
    means.push(window.reduce((sum, value) => sum + value, 0) / window.length);
  }
  const sorted = means.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const [lowest = Number.NaN, highest = Number.NaN] = [sorted[0], sorted.at(-1)];
  const holds = lowest >= median * (1 - deviationMax) && highest <= median * (1 + deviationMax);
  const [peak, trough] = [Math.max(...bytes), Math.min(...bytes)];
  return { pid, means, median, lowest, highest, peak, trough, holds };
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
const percent = (part: number, whole: number) => `${((part / whole - 1) * 100).toFixed(1)} %`;

function page(judged: readonly Judged[], tally: load.Tally, open: number): string[] {
  const date = new Date().toISOString().slice(0, 10);
  const verdict = judged.every(({ holds }) => holds) && tally.faults.size === 0;
  return [
    `${minutes} minutes on ${date}, ${judged.length} gateways of a real cloud, an app on Node,`,
    `after ${warmUpSeconds} s of the same at ${Math.round(1 / warmUpPace)} times the pace;`,
    `${open} descriptors open in the gateways at the end.`,
    verdict ? "It holds." : "**It does not hold.**",
    "",
    `Resident memory in means of ${meanOfSeconds} s; wanted: within ± ${deviationMax * 100} % of`,
    "their median. Garbage comes and goes between them.",
    "",
    "| gateway | median, MB | lowest mean | highest mean | seconds from, to, MB | |",
    "|---|---|---|---|---|---|",
    ...judged.map(({ median, lowest, highest, peak, trough, holds }, index) => {
      const range = `${megabytes(trough)}–${megabytes(peak)}`;
      const means = `${percent(lowest, median)} | ${percent(highest, median)}`;
      const verdict = holds ? "holds" : "**fails**";
      return `| ${index} | ${megabytes(median)} | ${means} | ${range} | ${verdict} |`;
    }),
    "",
    `![${pictureTitle}](plots/soak.svg)`,
    "",
    "| what went on all the time | times |",
    "|---|---|",
    ...[...tally.done].sort().map(([what, times]) => `| ${what} | ${times} |`),
    "",
    tally.faults.size === 0 ? "Nothing went wrong." : "What went wrong:",
    ...[...tally.faults].map(([what, times]) => `- ${times} × ${what}`),
    "",
    "A reader or an app that stalls must stop whoever writes, with no more on the way than this",
    `kernel's buffers hold (${megabytes(load.heldBytesMax)} MB in four sockets), and not a`,
    "byte more while it stalls.",
  ];
}

const pictureTitle = "Resident memory of the gateways";

/** From zero, so that flat looks flat. */
function picture(judged: readonly Judged[], samples: readonly Sample[]): string {
  const lines = judged.map(
    ({ means, median }, index): Line => ({
      name: `gateway ${index}`,
      points: means.map((bytes, nth) => ({
        ...{ x: (nth + 0.5) * meanOfSeconds, y: bytes / 1e6 },
      })),
      behind: samples.map(({ residentBytes: bytes }, x) => ({ x, y: (bytes[index] ?? 0) / 1e6 })),
      band: {
        from: 0,
        low: (median * (1 - deviationMax)) / 1e6,
        high: (median * (1 + deviationMax)) / 1e6,
      },
    }),
  );
  const most = Math.max(...lines.flatMap(({ behind = [] }) => behind.map(({ y }) => y)));
  return lineChart({
    title: pictureTitle,
    note:
      `Thin: each second. Dots: means of ${meanOfSeconds} s, ` +
      `which should stay within the bands, ± ${deviationMax * 100} % of their median.`,
    across: { label: "seconds", scale: linearScale(samples.length - 1) },
    up: { label: "MB", scale: linearScale(most) },
    lines,
  });
}

async function soak(cloud: Cloud): Promise<boolean> {
  await cloud.deploy(join(repository, "test/soak/app"), "soak");
  const host = "soak.localhost";
  await setCertificate(cloud, host);
  const target = { httpPort: cloud.httpPort, httpsPort: cloud.httpsPort, host };
  const tally = new load.Tally();
  const pids = cloud.gatewayPids();
  const running = startLoad(target, tally);
  tally.pace = warmUpPace;
  await Bun.sleep(warmUpSeconds * 1000);
  tally.pace = 1;
  const samples = await watch(pids, minutes * 60);
  const open = samples.at(-1)?.descriptors.reduce((sum, count) => sum + count, 0) ?? 0;
  tally.stopped = true;
  const judged = pids.map((pid, index) =>
    judge(
      pid,
      samples.map((sample) => sample.residentBytes[index] ?? 0),
    ),
  );
  const lines = page(judged, tally, open);
  console.log(lines.join("\n"));
  if (!options.dry) {
    await Bun.write(join(repository, "docs/plots/soak.svg"), picture(judged, samples));
    await writeSection("Ten minutes of soak", lines);
  }
  void running;
  return judged.every(({ holds }) => holds) && tally.faults.size === 0;
}

const cloud = await Cloud.start({ https: true, readyWithinMs: 120_000 });
let holds = false;
try {
  holds = await soak(cloud);
} finally {
  for (const line of await cloud.stop()) console.log(`left behind: ${line}`);
}
process.exit(holds ? 0 : 1);
