// `npm run proof:sandbox`: runs every probe in every runtime and without a sandbox, measures
// the neighbour, and writes docs/SECURITY-PROOF.md with what was seen.

import { existsSync } from "node:fs";
import { cpus, release } from "node:os";
import { openControls } from "./control.ts";
import { readReport } from "./judge.ts";
import { type Probe, probes } from "./probes.ts";
import {
  apiMsMax,
  holds,
  measure,
  type Pressure,
  proofFile,
  refusedInside,
  slowdownMax,
} from "./prove.ts";
import { openStage, runtimes, type Stage } from "./stage.ts";
import { openWatch, type Watch } from "./watch.ts";

interface Row {
  readonly probe: Probe;
  /** What succeeded without a sandbox. */
  readonly control: readonly string[];
  /** Per runtime, null where it held. */
  readonly faults: readonly (string | null)[];
  /** What the kernel said, in the first runtime. */
  readonly refusals: readonly string[];
  readonly pressure: Pressure | null;
}

async function prove(stage: Stage, watch: Watch, probe: Probe) {
  const controls = await openControls(stage.program);
  const control = readReport(`${await controls.run(probe, stage.around)}\nend`).breaches;
  await controls.close();
  const faults: (string | null)[] = [];
  let refusals: readonly string[] = [];
  const isUpload = probe.group === "supply";
  for (const runtime of isUpload ? runtimes.slice(0, 1) : runtimes) {
    const { report, fault } = await refusedInside(stage, probe, runtime);
    faults.push(fault);
    if (refusals.length === 0) refusals = [...report.refusals, ...report.taken];
  }
  const pressure = isUpload ? null : await measure(stage, watch, probe, "native");
  return { probe, control, faults, refusals, pressure };
}

function isProven({ control, faults, pressure, probe }: Row): boolean {
  const isFast = pressure === null || holds(pressure, probe);
  return control.length > 0 && faults.every((fault) => fault === null) && isFast;
}

function cells(row: Row): string {
  const { probe, control, faults, refusals, pressure } = row;
  const plain = (text: string) => text.replaceAll("|", "/").replace(/\/tmp\/[\w/.-]*?\//g, "…/");
  const shown = plain(refusals.slice(0, 2).join("; ")).slice(0, 110);
  const held = faults.every((fault) => fault === null);
  const inside = held ? shown : `**${plain(faults.find((fault) => fault !== null) ?? "")}**`;
  const speed =
    pressure === null
      ? "–"
      : `${pressure.neighbourMs.without.toFixed(1)} → ${pressure.neighbourMs.during.toFixed(1)}`;
  const api = probe.bomb === true && pressure !== null ? pressure.apiMs.during.toFixed(0) : "–";
  const alone = control.length === 0 ? "**nothing**" : plain(control[0] ?? "").slice(0, 60);
  const isBusy = held && control.length > 0 && pressure?.isQuiet === false;
  const verdict = isProven(row) ? "held" : isBusy ? "machine busy" : "**not proven**";
  return `| ${probe.title} | ${inside} | ${alone} | ${speed} | ${api} | ${verdict} |`;
}

function page(rows: readonly Row[]): string {
  const version = existsSync("/sys/fs/cgroup/cgroup.controllers") ? 2 : 1;
  const proven = rows.filter(isProven).length;
  const head = [
    "# Proof of the sandbox",
    "",
    "Written by `npm run proof:sandbox`; what the layers are is in [SECURITY.md](../SECURITY.md).",
    `Linux ${release()}, ${cpus().length} cores, cgroup v${version}, ${new Date().toISOString()}.`,
    `${proven} of ${rows.length} probes held.`,
    "",
    `Each probe ran in an app on ${runtimes.join(", ")} (uploads once), and once without a`,
    "sandbox, where it must succeed. It holds when it was refused in all of them, the host's",
    `canaries are unchanged, the neighbour's p99 is at most ${slowdownMax} times what it is`,
    `without the probe, and under a bomb lode's API answers within ${apiMsMax} ms (p99).`,
    "`machine busy`: refused as it must be, but other programs left the cores too little to",
    "judge the neighbour by.",
  ];
  const groups = [...new Set(rows.map(({ probe }) => probe.group))];
  const tables = groups.flatMap((group) => [
    "",
    `## ${group}`,
    "",
    "| probe | in the sandbox | without one | neighbour p99, ms | API p99, ms | |",
    "|---|---|---|---|---|---|",
    ...rows.filter(({ probe }) => probe.group === group).map(cells),
  ]);
  return `${[...head, ...tables].join("\n")}\n`;
}

const stage = await openStage(runtimes);
const watch = openWatch(stage);
const rows: Row[] = [];
try {
  for (const probe of probes) {
    const row = await prove(stage, watch, probe);
    rows.push(row);
    process.stdout.write(`${isProven(row) ? "held      " : "NOT PROVEN"} ${probe.title}\n`);
  }
} finally {
  await watch.stop();
  for (const line of await stage.close()) process.stdout.write(`left behind: ${line}\n`);
}
await Bun.write(proofFile, page(rows));
process.stdout.write(`${rows.filter(isProven).length} of ${rows.length} held; see ${proofFile}\n`);
process.exit(rows.every(isProven) ? 0 : 1);
