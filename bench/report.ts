import { median, percentile, readable } from "../tools/plot/numbers.ts";

/** One line of a table: what was measured how often, or why it was not. */
export type Row =
  | {
      readonly name: string;
      readonly samples: readonly number[];
      /** What the rows of its table differ by, where that is a number. */
      readonly at?: number;
    }
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
  const samples = samplesOf(rows, name);
  return samples === null ? null : median(samples);
}

export function percentileOf(rows: readonly Row[], name: string, percent: number): number | null {
  const samples = samplesOf(rows, name);
  return samples === null ? null : percentile(samples, percent);
}

function samplesOf(rows: readonly Row[], name: string): readonly number[] | null {
  const row = rows.find((candidate) => candidate.name === name);
  return row === undefined || "missing" in row ? null : row.samples;
}

export function target(says: string, measured: number | null, max: number, unit: string) {
  if (measured === null) return { says, measured: "not measured", met: false };
  return { says, measured: `${readable(measured)} ${unit}`.trim(), met: measured <= max };
}

export function targetLine({ says, measured, met }: TargetLine): string {
  return `- ${met ? "met" : "**not met**"}: ${says} — ${measured}`;
}

/** How it was measured, the table and the targets as Markdown; also what is printed. */
export function renderSection(section: Section): readonly string[] {
  const first = section.rows[0];
  const base = first === undefined || "missing" in first ? null : median(first.samples);
  const header = [
    `| | median ${section.unit} | min–max | n | ratio |`,
    "|---|---:|---:|---:|---:|",
  ];
  const lines = section.rows.map((row) => {
    if ("missing" in row) return `| ${row.name} | — | — | 0 | ${row.missing} |`;
    const value = median(row.samples);
    const range = `${readable(Math.min(...row.samples))}–${readable(Math.max(...row.samples))}`;
    const ratio = base === null || base === 0 ? "" : `${readable(value / base)}×`;
    return `| ${row.name} | ${readable(value)} | ${range} | ${row.samples.length} | ${ratio} |`;
  });
  const targets = section.targets.map(targetLine);
  const table = [section.method, "", ...header, ...lines];
  return targets.length > 0 ? [...table, "", ...targets] : table;
}
