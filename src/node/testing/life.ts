// One life of lode, as far as its agent goes, for tests that end it by kill -9:
// `bun life.ts SEED`. SEED is a file of JSON (see `Seed`). On standard output it says
// `started`, and answers each line of its input with a node report on one line.
import { readFileSync } from "node:fs";
import { createMemoryWire } from "../../fabric/memory/wire.ts";
import { cloudPaths } from "../paths.ts";
import { memoryRecords, must, node, openAgent, openHost } from "./rig.ts";

/** The records that the killed process would have had in its ledger. */
export interface Seed {
  readonly data: string;
  readonly cloud: string;
  readonly uidBase: number;
  readonly entries: readonly { readonly key: string; readonly value: string }[];
  /** Digest → base64. */
  readonly blobs: Readonly<Record<string, string>>;
}

const seed = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Seed;
const records = memoryRecords();
const writes = seed.entries.map(({ key, value }) => ({ kind: "put" as const, key, value }));
must(await records.ledger.transact({ conditions: [], writes }));
for (const [digest, bytes] of Object.entries(seed.blobs)) {
  must(await records.blobs.put(digest, Buffer.from(bytes, "base64")));
}
const wire = createMemoryWire();
const paths = cloudPaths(seed.data, seed.cloud);
const { uidBase } = seed;
const agent = openAgent({ ...records, wire, paths, uidBase, gateways: [] }, await openHost(paths));
must(await agent.start());
console.log("started");
for await (const _line of console) {
  const report = await wire.request(`node.${node}.report`, { also: [] }, { timeoutMs: 5000 });
  console.log(JSON.stringify(must(report)));
}
