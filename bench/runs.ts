import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { readable } from "../tools/plot/numbers.ts";

const repository = join(import.meta.dir, "..");

/** Where runs are kept, and what is written from them. */
export interface Place {
  readonly runs: string;
  readonly page: string;
  readonly plots: string;
  readonly says: string;
}

export const documents: Place = {
  runs: join(repository, ".build/bench"),
  page: join(repository, "docs/BENCHMARKS.md"),
  plots: join(repository, "docs/plots"),
  says: "docs/BENCHMARKS.md",
};

/** Of runs too short to be believed. */
export const trial: Place = {
  runs: join(repository, ".build/bench/trial"),
  page: join(repository, ".build/bench/trial/BENCHMARKS.md"),
  plots: join(repository, ".build/bench/trial/plots"),
  says: ".build/bench/trial/BENCHMARKS.md",
};

/** When and on what something was measured. */
export interface Circumstances {
  /** ISO 8601. */
  readonly begunAt: string;
  readonly seconds: number;
  /** The machine's load average when it began, which tells what disturbed it. */
  readonly loadBefore: number;
  readonly machine: string;
  /** Of those that took part. */
  readonly versions: readonly string[];
}

/** What was measured for one part of the page: all that its tables and plots are made from. */
export interface Run {
  readonly circumstances: Circumstances;
  readonly data: unknown;
}

/** Runs kept by an older benchmark may lack what this one writes pages from. */
const format = 1;

export async function keepRun(place: Place, part: string, run: Run): Promise<void> {
  mkdirSync(place.runs, { recursive: true });
  await Bun.write(fileOf(place, part), `${JSON.stringify({ format, ...run })}\n`);
}

/** Null: none is kept. */
export function keptRun(place: Place, part: string): Run | null {
  const file = fileOf(place, part);
  if (!existsSync(file)) return null;
  const kept = JSON.parse(readFileSync(file, "utf8")) as Run & { readonly format: number };
  return kept.format === format ? kept : null;
}

const fileOf = (place: Place, part: string) => join(place.runs, `${part}.json`);

/** Call it when a run begins, and what it returns when that is over. */
export function beginRun(versions: readonly string[]): () => Circumstances {
  const [loadBefore = 0] = loadavg();
  const begun = new Date();
  return () => ({
    begunAt: begun.toISOString(),
    seconds: (Date.now() - begun.getTime()) / 1000,
    loadBefore,
    machine: machine(),
    versions,
  });
}

function machine(): string {
  const system = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  const processor = cpus()[0]?.model.trim() ?? "unknown processor";
  const gigabytes = Math.round(totalmem() / 1024 ** 3);
  return `${cpus().length} × ${processor}, ${gigabytes} GB; ${system}, Linux ${release()}`;
}

export function inWords(circumstances: Circumstances): string {
  const { begunAt, seconds, loadBefore, versions } = circumstances;
  const began = `${begunAt.slice(0, 10)} at ${begunAt.slice(11, 16)} UTC`;
  const lasted = seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
  const load = `load average ${readable(loadBefore)} when it began`;
  return `Run on ${began}, ${lasted}; ${load}; ${[...versions, circumstances.machine].join("; ")}.`;
}
