// `npm run proof:sandbox`: runs every probe in every runtime and without a sandbox, measures
// the neighbour, on this machine and, for the other version of cgroups, in the rig's; writes
// docs/SECURITY-PROOF.md. `--here`: on this machine alone, and the last line is JSON.

import { cpus, release } from "node:os";
import { lastJson } from "../harness/cloud.ts";
import { slowness } from "../harness/pace.ts";
import { cgroupVersion } from "../limits/kernel.ts";
import { withRig } from "../rig/rig.ts";
import { openControls } from "./control.ts";
import { readReport } from "./judge.ts";
import { isProven, page, type Report, type Row } from "./page.ts";
import { type Probe, probes } from "./probes.ts";
import { measure, proofFile, refusedInside, roundsMin } from "./prove.ts";
import { openStage, runtimes, type Stage } from "./stage.ts";
import { openWatch, type Watch } from "./watch.ts";

const judgesTimes = slowness === 1;
const rigMinutesMax = 90;
/** The control runs of bombs take 2 GiB. */
const rigMemoryMib = 4096;

/**
 * Null unless times are judged: beside an app that is asked, lode rations what does nothing but
 * system calls, and on an emulated machine a probe would not come to its end in the time.
 */
function openWatchThroughout(stage: Stage): Watch | null {
  return judgesTimes ? openWatch(stage) : null;
}

async function press(stage: Stage, throughout: Watch | null, probe: Probe) {
  const watch = throughout ?? openWatch(stage);
  try {
    return await measure(stage, watch, probe, "native", 4 * roundsMin);
  } finally {
    if (throughout === null) await watch.stop();
  }
}

async function prove(stage: Stage, watch: Watch | null, probe: Probe): Promise<Row> {
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
  const isMeasured = !isUpload && (judgesTimes || probe.bomb === true);
  const pressure = isMeasured ? await press(stage, watch, probe) : null;
  return { id: probe.id, control, faults, refusals, pressure };
}

async function proveHere(): Promise<Report> {
  const stage = await openStage(runtimes);
  const watch = openWatchThroughout(stage);
  const rows: Row[] = [];
  try {
    for (const probe of probes) {
      const row = await prove(stage, watch, probe);
      rows.push(row);
      const verdict = isProven(row, { judgesTimes }) ? "held      " : "NOT PROVEN";
      const why = row.faults.find((fault) => fault !== null) ?? "";
      process.stdout.write(`${verdict} ${probe.title} ${why}`.trimEnd().concat("\n"));
    }
  } finally {
    await watch?.stop();
    for (const line of await stage.close()) process.stdout.write(`left behind: ${line}\n`);
  }
  const version = cgroupVersion();
  const kind = judgesTimes ? "" : "an emulated machine (test/rig), ";
  const parts = `Linux ${release()}, ${cpus().length} cores, cgroup v${version}`;
  const machine = `${kind}${parts}, ${new Date().toISOString()}`;
  return { cgroupVersion: version, machine, judgesTimes, rows };
}

async function proveInRig(): Promise<Report> {
  const command = ["tools/bun", "test/sandbox/proof.ts", "--here"];
  return await withRig({ memoryMib: rigMemoryMib }, async (rig) => {
    const { code, stdout, stderr } = await rig.run(command, {
      timeoutMs: rigMinutesMax * 60_000,
      onOutput: (bytes, stream) => void process[stream].write(bytes),
    });
    if (code > 1) throw new Error(`the proof in the rig ended with ${code}\n${stderr}`);
    return lastJson(stdout) as Report;
  });
}

const isAlone = process.argv.includes("--here");
const reports = [await proveHere()];
if (!isAlone && cgroupVersion() === 1) reports.push(await proveInRig());
const all = reports.flatMap((report) => report.rows.map((row) => isProven(row, report)));
console.log(`${all.filter((proven) => proven).length} of ${all.length} held`);
if (isAlone) {
  console.log(JSON.stringify(reports[0]));
} else {
  await Bun.write(proofFile, page(reports));
  console.log(`written: ${proofFile}`);
}
process.exit(all.every((proven) => proven) ? 0 : 1);
