// `npm run proof:fuzz [-- --count N --seed S --part requests|answers|sockets]`: mutated requests
// and answers through the gateway, in memory and over sockets; writes docs/GATEWAY-PROOF.md.
// The same seed makes the same mutations. It ends with 1 when anything was found. Interrupted, it
// goes on where it was, as long as neither the gateway nor the fuzzer has changed.

import { parseArgs } from "node:util";
import { writeSection } from "../harness/page.ts";
import { loadCorpus } from "./corpus.ts";
import { runInMemory } from "./memory.ts";
import { Dice } from "./random.ts";
import { withHost } from "./requests.ts";
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
/** Of the requests in memory: so many answers, and so many requests over sockets to each. */
const answersShare = 5;
const socketsShare = 100;
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

async function proveInMemory(kind: "requests" | "answers", cases: number): Promise<void> {
  let shownAt = 0;
  const progress = (done: number) => {
    if (performance.now() - shownAt < 15_000) return;
    shownAt = performance.now();
    console.log(`${kind}: ${number(done)} of ${number(cases)}`);
  };
  const job = { kind, seed, count: cases };
  const { sum, durationMs, grownBytesMax } = await runInMemory(job, progress, openStore());
  show(kind, sum.findings);
  // A leak of a hundred bytes a case would be hundreds of megabytes.
  if (grownBytesMax > 100e6) failed = true;
  const grown = Math.round(grownBytesMax / 1e6);
  const memory = `A worker grew by at most ${grown} MB after its first tenth.`;
  const corpus = `${loadCorpus(kind).length} files`;
  if (kind === "requests") {
    await write("Fuzzing: requests in memory", [
      header(durationMs),
      "",
      `${number(sum.cases)} mutated client streams from ${corpus} through a whole gateway`,
      "(`startGateway`, its sockets and clock replaced), in random pieces:",
      `${outcome(sum.findings)}. ${number(sum.forwarded)} requests went on to the app,`,
      `${number(sum.refused)} streams ended with a refusal, in ${number(sum.stopped)} nothing`,
      "went on. For each the naive twin says what",
      "must go on, byte for byte what each field and body is, and what the client must be told;",
      "four lax readers (bare line feeds, bare returns, the length before the coding, CGI names)",
      "must end each forwarded request at the same byte; a connection to the app serves many",
      "cases. The gateway may not read on while nobody takes what it writes, keep anything of a",
      `client that left, or throw. ${memory}`,
    ]);
    return;
  }
  await write("Fuzzing: answers in memory", [
    header(durationMs),
    "",
    `${number(sum.cases)} mutated answers of an app from ${corpus}, in random pieces, with and`,
    `without an end of the connection: ${outcome(sum.findings)}. ${number(sum.refused)} became a`,
    "502; the others reached the client as the twin reads them, or visibly broken off; the next",
    `request on the client's connection always got its own answer. ${memory}`,
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

async function proveOn(kind: BackEnd, cases: number): Promise<Row> {
  const caught = await control(kind);
  const server = await startServer(kind);
  const gateway = await startGatewayProcess({ [kind]: server.port });
  const corpus = loadCorpus("requests");
  const fuzz = new SocketFuzz(gateway.told["port"] ?? 0, `${kind}.test`, corpus, seed);
  let shownAt = 0;
  await fuzz.run(cases, (done) => {
    if (performance.now() - shownAt < 15_000) return;
    shownAt = performance.now();
    console.log(`${kind}: ${number(done)} of ${number(cases)}`);
  });
  // Logs are written a second later.
  await Bun.sleep(2000);
  const { count: seen, problems } = await server.seen();
  const logged = server.logged();
  const code = await stopChild(gateway.process);
  await server.stop();
  show(kind, fuzz.sum.findings);
  for (const problem of problems) console.log(`${kind} saw ${problem}`);
  if (problems.length > 0 || caught.length === 0) failed = true;
  if (code !== 0) fuzz.sum.findings.push({ index: -1, sent: "", faults: [`the gateway: ${code}`] });
  return { kind, sum: fuzz.sum, seen, logged, problems, caught };
}

const columns = [
  ...["back end", "streams", "refused by the gateway", "answered as meant"],
  ...["refused by the back end", "broken off (502)", "marked requests answered"],
  ...["requests seen", "logged"],
];

async function proveOnSockets(cases: number): Promise<void> {
  const startedAt = performance.now();
  const rows: Row[] = [];
  for (const kind of backEnds) rows.push(await proveOn(kind, cases));
  const findings = rows.flatMap(({ sum }) => sum.findings);
  const strangers = rows.flatMap(({ problems }) => problems);
  if (findings.length > 0) failed = true;
  await write("Fuzzing: requests over sockets", [
    header(performance.now() - startedAt),
    "",
    `${number(cases)} mutated client streams through a gateway process to each back end:`,
    `${outcome(findings)}, and ${strangers.length} requests seen that the gateway did not send.`,
    "Each answer tells the method, target and body that the back end saw; each request must bear",
    "an id of the gateway's, once; behind each stream that leaves its connection open a marked",
    "request must get its own answer. nginx and HAProxy pass on to an echo on Node.",
    "",
    `| ${columns.join(" | ")} |`,
    `|${"---|".repeat(columns.length)}`,
    ...rows.map(({ kind, sum, seen, logged }) => {
      const cells = [sum.cases, sum.refused, sum.answered, sum.refusedBehind, sum.broken];
      const all = [...cells, sum.followed, seen].map(number);
      return `| ${kind} | ${all.join(" | ")} | ${logged === null ? "–" : number(logged)} |`;
    }),
    "",
    "The detector detects: a naive forwarder in the gateway's place was found out by these files",
    "of the corpus:",
    "",
    ...rows.map(({ kind, caught }) => `- ${kind}: ${caught.join(", ") || "**none**"}`),
  ]);
}

const isWanted = (part: string) => values.part === undefined || values.part === part;
if (isWanted("requests")) await proveInMemory("requests", count);
if (isWanted("answers")) await proveInMemory("answers", Math.ceil(count / answersShare));
if (isWanted("sockets")) await proveOnSockets(Math.ceil(count / socketsShare));
process.exit(failed ? 1 : 0);
