import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { median, percentile } from "./measure.ts";

/** One line of a table: what was measured how often, or why it was not. */
export type Row =
  | { readonly name: string; readonly samples: readonly number[] }
  | { readonly name: string; readonly missing: string };

export interface TargetLine {
  readonly says: string;
  readonly measured: string;
  readonly met: boolean;
}

export interface Section {
  readonly title: string;
  /** How it was measured, in a few sentences. */
  readonly method: string;
  readonly unit: string;
  /** The first row is what the others are set in proportion to. */
  readonly rows: readonly Row[];
  readonly targets: readonly TargetLine[];
}

export function medianOf(rows: readonly Row[], name: string): number | null {
  const row = rows.find((candidate) => candidate.name === name);
  return row === undefined || "missing" in row ? null : median(row.samples);
}

export function percentileOf(rows: readonly Row[], name: string, percent: number): number | null {
  const row = rows.find((candidate) => candidate.name === name);
  return row === undefined || "missing" in row ? null : percentile(row.samples, percent);
}

export function target(says: string, measured: number | null, max: number, unit: string) {
  if (measured === null) return { says, measured: "not measured", met: false };
  return { says, measured: `${format(measured)} ${unit}`.trim(), met: measured <= max };
}

export function format(value: number): string {
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

/** The table of a section as Markdown; also what is printed. */
export function renderSection(section: Section): string {
  const first = section.rows[0];
  const base = first === undefined || "missing" in first ? null : median(first.samples);
  const header = [
    `| | median ${section.unit} | min–max | n | ratio |`,
    "|---|---:|---:|---:|---:|",
  ];
  const lines = section.rows.map((row) => {
    if ("missing" in row) return `| ${row.name} | — | — | 0 | ${row.missing} |`;
    const value = median(row.samples);
    const range = `${format(Math.min(...row.samples))}–${format(Math.max(...row.samples))}`;
    const ratio = base === null || base === 0 ? "" : `${format(value / base)}×`;
    return `| ${row.name} | ${format(value)} | ${range} | ${row.samples.length} | ${ratio} |`;
  });
  const targets = section.targets.map(
    ({ says, measured, met }) => `- ${met ? "met" : "**not met**"}: ${says} — ${measured}`,
  );
  const parts = [`## ${section.title}`, "", section.method, "", ...header, ...lines];
  return [...parts, ...(targets.length > 0 ? ["", ...targets] : [])].join("\n");
}

/** From its heading to the next one; null: there is none of this title. */
export function sectionOf(document: string, title: string): string | null {
  const begin = `\n${document}`.indexOf(`\n## ${title}\n`);
  if (begin < 0) return null;
  const end = document.indexOf("\n## ", begin + 1);
  return document.slice(begin, end < 0 ? undefined : end).trimEnd();
}

/** The document with this section in place of that of the same title, or at the end. */
export function withSection(document: string, title: string, section: string): string {
  const present = sectionOf(document, title);
  if (present !== null) return document.replace(present, () => section);
  return `${document.trimEnd()}\n\n${section}\n`;
}

/** `loadBefore`: the machine's load average before the run, which tells what disturbed it. */
export function renderDocument(
  sections: readonly Section[],
  versions: readonly string[],
  loadBefore: number,
): string {
  const system = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  const processor = cpus()[0]?.model.trim() ?? "unknown processor";
  const gigabytes = Math.round(totalmem() / 1024 ** 3);
  return [
    "# Benchmarks",
    "",
    "Written by `npm run bench`, which starts Lode and its peers on one machine in one run, side",
    "by side, and takes medians. A ratio compares with the first row of its table. Every peer runs",
    "the same program, `examples/hello`, unless said otherwise.",
    "",
    `- machine: ${cpus().length} × ${processor}, ${gigabytes} GB; ${system}, Linux ${release()}`,
    `- load average before the run: ${format(loadBefore)}`,
    `- date: ${new Date().toISOString().slice(0, 10)}`,
    ...versions.map((version) => `- ${version}`),
    "",
    ...sections.flatMap((section) => [renderSection(section), ""]),
  ].join("\n");
}
