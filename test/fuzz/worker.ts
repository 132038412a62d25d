// Cases [from, from + count) of one kind, in a process of their own: what a hang or a crash takes
// with it, and what it cannot hide. Prints its memory and sums as JSON lines.

import { parseArgs } from "node:util";
import { runAnswerCase } from "./answers.ts";
import { loadCorpus } from "./corpus.ts";
import { runHpackCase } from "./http2/hpack.ts";
import { Http2Fuzz } from "./http2/run.ts";
import { sabotage } from "./http2/sabotage.ts";
import { loadHttp2Corpus } from "./http2/script.ts";
import { startMemoryGateway } from "./memory-gateway.ts";
import { emptySum, runRequestCase, type Sum } from "./requests.ts";
import { World } from "./world.ts";

/** HTTP/1's requests, an app's answers, connections of HTTP/2, and their header blocks. */
export type Kind = "requests" | "answers" | "http2" | "hpack";

export interface Progress extends Sum {
  readonly done: boolean;
  readonly residentBytes: number;
}

const { values } = parseArgs({
  options: {
    kind: { type: "string" },
    seed: { type: "string" },
    from: { type: "string" },
    count: { type: "string" },
    /** A way to break the gateway first. */
    sabotage: { type: "string" },
  },
});
const kind = values.kind as Kind;
const [seed, from, count] = [Number(values.seed), Number(values.from), Number(values.count)];
const findingsMax = values.sabotage === undefined ? 20 : 1;
/** Between two lines; the parent takes silence for a hang. */
const lineMs = 2000;

const world = new World(await startMemoryGateway());
/** Runs a case by its index. */
function makeRunner(): (index: number, sum: Sum) => void {
  if (kind === "http2") {
    const fuzz = new Http2Fuzz(world, loadHttp2Corpus(), loadCorpus("answers"));
    return (index, sums) => fuzz.run(seed, index, sums);
  }
  if (kind === "hpack") return (index, sums) => runHpackCase(seed, index, sums);
  const corpus = loadCorpus(kind);
  const run = kind === "answers" ? runAnswerCase : runRequestCase;
  return (index, sums) => run(world, corpus, seed, index, sums);
}

const run = makeRunner();
if (values.sabotage !== undefined) await sabotage(values.sabotage);
const sum = emptySum();
const tell = (done: boolean) => {
  const progress: Progress = { ...sum, done, residentBytes: process.memoryUsage.rss() };
  console.log(JSON.stringify(progress));
};
let toldAt = performance.now();
for (let index = from; index < from + count && sum.findings.length < findingsMax; index += 1) {
  run(index, sum);
  if (performance.now() - toldAt < lineMs) continue;
  toldAt = performance.now();
  tell(false);
}
await world.stop();
if (world.lineCount > 0) {
  sum.findings.push({ index: -1, sent: "", faults: [`${world.lineCount} connections are left`] });
}
tell(true);
process.exit(0);
