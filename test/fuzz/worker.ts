// Cases [from, from + count) of one kind, in a process of their own: what a hang or a crash takes
// with it, and what it cannot hide. Prints its memory and sums as JSON lines.

import { parseArgs } from "node:util";
import { runAnswerCase } from "./answers.ts";
import { loadCorpus } from "./corpus.ts";
import { startMemoryGateway } from "./memory-gateway.ts";
import { emptySum, runRequestCase, type Sum } from "./requests.ts";
import { World } from "./world.ts";

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
  },
});
const kind = values.kind === "answers" ? "answers" : "requests";
const run = kind === "answers" ? runAnswerCase : runRequestCase;
const [seed, from, count] = [Number(values.seed), Number(values.from), Number(values.count)];
const findingsMax = 20;
/** Between two lines; the parent takes silence for a hang. */
const lineMs = 2000;

const world = new World(await startMemoryGateway());
const corpus = loadCorpus(kind);
const sum = emptySum();
const tell = (done: boolean) => {
  const progress: Progress = { ...sum, done, residentBytes: process.memoryUsage.rss() };
  console.log(JSON.stringify(progress));
};
let toldAt = performance.now();
for (let index = from; index < from + count && sum.findings.length < findingsMax; index += 1) {
  run(world, corpus, seed, index, sum);
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
