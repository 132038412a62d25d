// `npm run proof:fuzz [-- --count N --seed S --part NAME]`: mutated requests of HTTP/1 and HTTP/2,
// header blocks and answers through the gateway, in memory and over sockets; writes
// docs/GATEWAY-PROOF.md. The same seed makes the same mutations. It ends with 1 when anything was
// found. Interrupted, it goes on where it was, as long as neither the gateway nor the fuzzer has
// changed.

import { parseArgs } from "node:util";
import { writeSection } from "../harness/page.ts";
import { loadCorpus } from "./corpus.ts";
import { loadHttp2Corpus } from "./http2/script.ts";
import { Http2SocketFuzz } from "./http2/sockets.ts";
import { runInMemory } from "./memory.ts";
import { Dice } from "./random.ts";
import { type Sum, withHost } from "./requests.ts";
import {
  type BackEnd,
  backEnds,
  startGatewayProcess,
  startNaiveProcess,
  startServer,
  stopChild,
} from "./servers.ts";
import { SocketFuzz, type SocketSum } from "./sockets.ts";
import { openStore } from "./store.ts";
import type { Kind } from "./worker.ts";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "10000000" },
    seed: { type: "string", default: "1" },
    part: { type: "string" },
    /** Where the page stays as it is. */
    dry: { type: "boolean", default: false },
  },
});
const count = Number(values.count);
const seed = Number(values.seed);
/** `count` are requests in memory, half of them of HTTP/2: these come a few to a connection. */
const http1Cases = Math.ceil(count / 2);
const http2Cases = Math.ceil(count / 2 / 3.5);
const hpackCases = Math.ceil(count / 40);
const answerCases = Math.ceil(count / 10);
/** Over sockets, to each back end. */
const socketCases = Math.ceil(count / 100);
const http2SocketCases = Math.ceil(count / 2000);
const number = (value: number) => value.toLocaleString("en");
let failed = false;

interface Found {
  readonly index: number;
  readonly sent: string;
  readonly faults: readonly string[];
}

/** Shows what was found, whole, so that it can be put into the corpus. */
function show(title: string, findings: readonly Found[]): void {
  if (findings.length > 0) failed = true;
  for (const { index, sent, faults } of findings.slice(0, 5)) {
    console.log(`${title}, seed ${seed}, case ${index}: ${JSON.stringify(sent)}`);
    for (const fault of faults) console.log(`    ${fault.slice(0, 1000)}`);
  }
}

const outcome = (findings: readonly Found[]) =>
  findings.length === 0 ? "**nothing was found**" : `**${findings.length} findings**`;

function header(durationMs: number): string {
  const seconds = (durationMs / 1000).toFixed(0);
  return `Seed ${seed}, ${seconds} s of one core on ${new Date().toISOString().slice(0, 10)}.`;
}

async function write(title: string, lines: readonly string[]): Promise<void> {
  console.log(`\n${title}\n${lines.join("\n")}`);
  if (!values.dry) await writeSection(title, lines);
}

/** The run of one kind in memory, and the first lines of its section. */
async function runKind(kind: Kind, cases: number): Promise<{ sum: Sum; lines: string[] }> {
  let shownAt = 0;
  const progress = (done: number) => {
    if (performance.now() - shownAt < 15_000) return;
    shownAt = performance.now();
    console.log(`${kind}: ${number(done)} of ${number(cases)}`);
  };
  const job = { kind, seed, count: cases };
  const { sum, durationMs, grownBytesMax } = await runInMemory(job, progress, openStore());
  show(kind, sum.findings);
  // A leak of a hundred bytes a case would be tens of megabytes.
  if (grownBytesMax > 100e6) failed = true;
  const rate = number(Math.round(sum.requests / (durationMs / 1000)));
  const grown = Math.round(grownBytesMax / 1e6);
  const lines = [
    `${header(durationMs)} ${rate} a second; a worker grew`,
    `by at most ${grown} MB after its first quarter.`,
    "",
  ];
  return { sum, lines };
}

async function proveRequests(): Promise<void> {
  const { sum, lines } = await runKind("requests", http1Cases);
  await write("Fuzzing: requests in memory", [
    ...lines,
    `${number(sum.cases)} mutated client streams from ${loadCorpus("requests").length} files`,
    "through a whole gateway (`startGateway`, its sockets and clock replaced), in random pieces:",
    `${outcome(sum.findings)}. ${number(sum.forwarded)} requests went on to the app,`,
    `${number(sum.refused)} streams ended with a refusal, in ${number(sum.stopped)} nothing`,
    "went on. For each the naive twin says what",
    "must go on, byte for byte what each field and body is, and what the client must be told;",
    "four lax readers (bare line feeds, bare returns, the length before the coding, CGI names)",
    "must end each forwarded request at the same byte; a connection to the app serves many",
    "cases. The gateway may not read on while nobody takes what it writes, keep anything of a",
    "client that left, or throw.",
  ]);
}

async function proveHttp2(): Promise<void> {
  const { sum, lines } = await runKind("http2", http2Cases);
  const files = loadHttp2Corpus().length;
  await write("Fuzzing: HTTP/2 in memory", [
    ...lines,
    `${number(sum.requests)} requests on ${number(sum.cases)} mutated connections from`,
    `${files} files (frames of curl, nghttp, h2load and node:http2 among them) and from`,
    "well-formed ones of random shape, mutated as fields, as frames, in their order and as bytes,",
    `in random pieces through a whole gateway: ${outcome(sum.findings)}.`,
    `${number(sum.forwarded)} requests went on to the app, ${number(sum.refused)} connections`,
    `ended with an error, on ${number(sum.stopped)} nothing went on. Frame by frame the naive twin`,
    "says whether it is an error of the stream or of the connection, and which; every answered",
    "stream must have one answer, its own; no window may be overrun or lost, nothing may follow",
    "the connection's error, and a request behind all that must still be answered. What goes on",
    "to the app is read by the strict and the lax readers of HTTP/1 as above.",
  ]);
}

async function proveHpack(): Promise<void> {
  const { sum, lines } = await runKind("hpack", hpackCases);
  await write("Fuzzing: HPACK", [
    ...lines,
    `${number(sum.requests)} header blocks on ${number(sum.cases)} connections, written by every`,
    "choice the format allows or by nghttp2, a third of them mutated: the gateway's decoder, the",
    `naive twin and nghttp2 read the same fields or refuse; ${outcome(sum.findings)}.`,
    `${number(sum.forwarded)} could be read, ${number(sum.refused)} could not. What the`,
    "gateway's encoder writes nghttp2 reads back.",
  ]);
}

async function proveAnswers(): Promise<void> {
  const { sum, lines } = await runKind("answers", answerCases);
  await write("Fuzzing: answers in memory", [
    ...lines,
    `${number(sum.cases)} mutated answers of an app from ${loadCorpus("answers").length} files,`,
    "in random pieces, with and",
    `without an end of the connection: ${outcome(sum.findings)}. ${number(sum.refused)} became a`,
    "502; the others reached the client as the twin reads them, or visibly broken off; the next",
    "request on the client's connection always got its own answer.",
  ]);
}

interface Row {
  readonly kind: BackEnd;
  readonly sum: SocketSum;
  readonly seen: number;
  readonly logged: number | null;
  readonly problems: readonly string[];
  readonly caught: readonly string[];
}

/** Vectors that a naive forwarder falls for; which of them work is up to the back end. */
const vectors = ["smuggle-cl-te", "smuggle-te-cl", "te-length-line-feed", "te-upper"];
const desync = /smuggled|another's|it saw|more than was asked|malformed answer/;

/** The names of vectors by which the judge found out the naive forwarder. */
async function control(kind: BackEnd): Promise<string[]> {
  const caught: string[] = [];
  const corpus = loadCorpus("requests").filter(({ name }) => vectors.includes(name));
  for (const [index, { name, text }] of corpus.entries()) {
    const server = await startServer(kind);
    const naive = await startNaiveProcess(server.port);
    const host = `${kind}.test`;
    const fuzz = new SocketFuzz(naive.told["port"] ?? 0, host, corpus, seed, 1000);
    await fuzz.runStream(withHost(text, host), Dice.of(seed, index), index);
    // Others come by the same connection to the back end, one while the other waits.
    const neighbour = async (name: string) => {
      const request = `GET /${name} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
      await fuzz.runStream(request, Dice.of(seed, index), index);
    };
    const first = neighbour("first");
    await Bun.sleep(100);
    await Promise.all([first, neighbour("second")]);
    const { problems } = await server.seen();
    const faults = fuzz.sum.findings.flatMap((finding) => finding.faults);
    if (problems.length > 0 || faults.some((fault) => desync.test(fault))) caught.push(name);
    await stopChild(naive.process);
    await server.stop();
  }
  return caught;
}

type Protocol = "HTTP/1" | "HTTP/2";

async function proveOn(kind: BackEnd, protocol: Protocol, cases: number): Promise<Row> {
  const isHttp2 = protocol === "HTTP/2";
  const caught = isHttp2 ? [] : await control(kind);
  const server = await startServer(kind);
  // The corpus of HTTP/2 has bytes of real clients, and so a host of its own.
  const gateway = await startGatewayProcess({ [isHttp2 ? "app" : kind]: server.port });
  const { port = 0, tlsPort = 0 } = gateway.told;
  const fuzz = isHttp2
    ? new Http2SocketFuzz(tlsPort, loadHttp2Corpus(), seed)
    : new SocketFuzz(port, `${kind}.test`, loadCorpus("requests"), seed);
  let shownAt = 0;
  await fuzz.run(cases, (done) => {
    if (performance.now() - shownAt < 15_000) return;
    shownAt = performance.now();
    console.log(`${protocol} to ${kind}: ${number(done)} of ${number(cases)}`);
  });
  // Logs are written a second later.
  await Bun.sleep(2000);
  const { count: seen, problems } = await server.seen();
  const logged = server.logged();
  const code = await stopChild(gateway.process);
  await server.stop();
  show(kind, fuzz.sum.findings);
  for (const problem of problems) console.log(`${kind} saw ${problem}`);
  if (problems.length > 0 || (!isHttp2 && caught.length === 0)) failed = true;
  if (code !== 0) fuzz.sum.findings.push({ index: -1, sent: "", faults: [`the gateway: ${code}`] });
  return { kind, sum: fuzz.sum, seen, logged, problems, caught };
}

const columns = [
  ...["back end", "streams or connections", "refused by the gateway", "answered as meant"],
  ...["refused by the back end", "broken off (502)", "marked requests answered"],
  ...["requests seen", "logged"],
];

function table(rows: readonly Row[]): string[] {
  return [
    `| ${columns.join(" | ")} |`,
    `|${"---|".repeat(columns.length)}`,
    ...rows.map(({ kind, sum, seen, logged }) => {
      const cells = [sum.cases, sum.refused, sum.answered, sum.refusedBehind, sum.broken];
      const all = [...cells, sum.followed, seen].map(number);
      return `| ${kind} | ${all.join(" | ")} | ${logged === null ? "–" : number(logged)} |`;
    }),
  ];
}

/** All back ends, one after the other, and the first words of the section. */
async function runOnSockets(
  protocol: Protocol,
  cases: number,
): Promise<{ rows: Row[]; lines: string[] }> {
  const startedAt = performance.now();
  const rows: Row[] = [];
  for (const kind of backEnds) rows.push(await proveOn(kind, protocol, cases));
  const findings = rows.flatMap(({ sum }) => sum.findings);
  const strangers = rows.flatMap(({ problems }) => problems);
  if (findings.length > 0) failed = true;
  const what = protocol === "HTTP/1" ? "client streams" : "connections";
  const lines = [
    header(performance.now() - startedAt),
    "",
    `${number(cases)} mutated ${what} through a gateway process to each back end:`,
    `${outcome(findings)}, and ${strangers.length} requests seen that the gateway did not send.`,
  ];
  return { rows, lines };
}

async function proveOnSockets(): Promise<void> {
  const { rows, lines } = await runOnSockets("HTTP/1", socketCases);
  await write("Fuzzing: requests over sockets", [
    ...lines,
    "Each answer tells the method, target and body that the back end saw; each request must bear",
    "an id of the gateway's, once; behind each stream that leaves its connection open a marked",
    "request must get its own answer. nginx and HAProxy pass on to an echo on Node.",
    "",
    ...table(rows),
    "",
    "The detector detects: a naive forwarder in the gateway's place was found out by these files",
    "of the corpus:",
    "",
    ...rows.map(({ kind, caught }) => `- ${kind}: ${caught.join(", ") || "**none**"}`),
  ]);
}

async function proveHttp2OnSockets(): Promise<void> {
  const { rows, lines } = await runOnSockets("HTTP/2", http2SocketCases);
  await write("Fuzzing: HTTP/2 over sockets", [
    ...lines,
    "Over TLS, 48 connections at a time; judged as above, by what came out in the end. Refused",
    "are pages and connections that ended with an error.",
    "",
    ...table(rows),
  ]);
}

const parts: Readonly<Record<string, () => Promise<void>>> = {
  requests: proveRequests,
  http2: proveHttp2,
  hpack: proveHpack,
  answers: proveAnswers,
  sockets: proveOnSockets,
  "http2-sockets": proveHttp2OnSockets,
};
for (const [part, prove] of Object.entries(parts)) {
  if (values.part === undefined || values.part === part) await prove();
}
process.exit(failed ? 1 : 0);
