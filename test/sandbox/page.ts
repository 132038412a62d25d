// The page of the proof: what was seen on each machine, side by side.

import { type Probe, probes } from "./probes.ts";
import { apiMsMax, holds, type Pressure, slowdownMax } from "./prove.ts";
import { runtimes } from "./stage.ts";

export interface Row {
  readonly id: string;
  /** What succeeded without a sandbox. */
  readonly control: readonly string[];
  /** Per runtime, null where it held. */
  readonly faults: readonly (string | null)[];
  /** What the kernel said, in the first runtime. */
  readonly refusals: readonly string[];
  readonly pressure: Pressure | null;
}

/** Of one machine. */
export interface Report {
  readonly cgroupVersion: 1 | 2;
  readonly machine: string;
  /** Whether its times say something: an emulated machine's do not. */
  readonly judgesTimes: boolean;
  readonly rows: readonly Row[];
}

function isRefused({ control, faults }: Row): boolean {
  return control.length > 0 && faults.every((fault) => fault === null);
}

function verdict({ id, pressure, ...row }: Row, judgesTimes: boolean) {
  if (!isRefused({ id, pressure, ...row })) return "not proven";
  const probe = probeOf(id);
  if (!judgesTimes || pressure === null || holds(pressure, probe)) return "held";
  return pressure.isQuiet ? "not proven" : "machine busy";
}

function probeOf(id: string): Probe {
  const probe = probes.find((one) => one.id === id);
  if (probe === undefined) throw new Error(`there is no probe ${id}`);
  return probe;
}

export function isProven(row: Row, { judgesTimes }: Pick<Report, "judgesTimes">): boolean {
  return verdict(row, judgesTimes) === "held";
}

function plain(text: string, length: number): string {
  return text
    .replaceAll("|", "/")
    .replace(/\/tmp\/[\w/.-]*?\//g, "…/")
    .slice(0, length);
}

function inside(row: Row): string {
  const fault = row.faults.find((one) => one !== null);
  if (fault !== undefined && fault !== null) return `**${plain(fault, 200)}**`;
  return plain(row.refusals.slice(0, 2).join("; "), 110);
}

function cells({ judgesTimes }: Report, row: Row | undefined): string[] {
  if (row === undefined) return ["–", "–", "–", "–", "**not run**"];
  const alone = row.control.length === 0 ? "**nothing**" : plain(row.control[0] ?? "", 60);
  const { pressure } = row;
  const change = (of: "neighbourMs" | "apiMs") =>
    pressure === null
      ? "–"
      : `${pressure[of].without.toFixed(1)} → ${pressure[of].during.toFixed(1)}`;
  const api = probeOf(row.id).bomb === true ? change("apiMs") : "–";
  const end = verdict(row, judgesTimes);
  const shown = end === "not proven" ? `**${end}**` : end;
  return [inside(row), alone, change("neighbourMs"), api, shown];
}

function introduction(reports: readonly Report[]): string[] {
  const machines = reports.map((report) => {
    const proven = report.rows.filter((row) => isProven(row, report)).length;
    return `- **v${report.cgroupVersion}**: ${report.machine}. ${proven} of ${probes.length} held.`;
  });
  return [
    "# Proof of the sandbox",
    "",
    "Written by `npm run proof:sandbox`; what the layers are is in [SECURITY.md](../SECURITY.md).",
    "The same probes ran on",
    "",
    ...machines,
    "",
    `Each probe ran in an app on ${runtimes.join(", ")} (uploads once), and once without a`,
    "sandbox, where it must succeed. It holds when it was refused in all of them, the host's",
    `canaries are unchanged, the neighbour's p99 is at most ${slowdownMax} times what it is`,
    `without the probe, and under a bomb lode's API answers within ${apiMsMax} ms (p99).`,
    "`machine busy`: refused as it must be, but other programs left the cores too little to",
    "judge the neighbour by. On an emulated machine the times of bombs are shown, not judged: its",
    "processors are threads of a host that they share with all else there.",
  ];
}

/** One line for each probe and machine, so that both can be compared. */
export function page(reports: readonly Report[]): string {
  const groups = [...new Set(probes.map(({ group }) => group))];
  const tables = groups.flatMap((group) => [
    "",
    `## ${group}`,
    "",
    "| probe | cgroup | in the sandbox | without one | neighbour p99, ms | API p99, ms | |",
    "|---|---|---|---|---|---|---|",
    ...probes
      .filter((probe) => probe.group === group)
      .flatMap(({ id, title }) =>
        reports.map((report, index) => {
          const row = report.rows.find((one) => one.id === id);
          const first = [index === 0 ? title : "", `v${report.cgroupVersion}`];
          return `| ${[...first, ...cells(report, row)].join(" | ")} |`;
        }),
      ),
  ]);
  return `${[...introduction(reports), ...tables].join("\n")}\n`;
}
