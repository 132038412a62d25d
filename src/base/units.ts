import { err, ok, type Result } from "./result.ts";

const memoryFactors: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/** Parses `64M`, `1.5G`, `512MiB`, `1048576` (binary multiples) into bytes. */
export function parseBytes(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  const factor = match === null ? undefined : memoryFactors[(match[2] ?? "").toUpperCase()];
  if (match === null || factor === undefined) {
    return err(`"${text}" is not an amount of memory; write it like 64M, 1.5G or 512MiB`);
  }
  return ok(Math.round(Number(match[1]) * factor));
}

/** Parses `2`, `0.25`, `250m` (thousandths, as Kubernetes has it) into cores. */
export function parseCores(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(text.trim());
  const cores = match === null ? 0 : Number(match[1]) / (match[2] === "m" ? 1000 : 1);
  if (cores <= 0) return err(`"${text}" is not a number of cores; write it like 0.25, 2 or 250m`);
  return ok(cores);
}

const durationFactorsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Parses `500ms`, `30s`, `5m`, `2h`, `1d` into milliseconds; a bare number is seconds. */
export function parseDurationMs(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/.exec(text.trim());
  const factor = match === null ? undefined : durationFactorsMs[match[2] ?? "s"];
  if (match === null || factor === undefined) {
    return err(`"${text}" is not a duration; write it like 500ms, 30s, 5m or 2h`);
  }
  return ok(Math.round(Number(match[1]) * factor));
}

/** Formats bytes with three significant digits: `3.2M`, `1.5G`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "K", "M", "G"]) {
    if (value < 1000) return `${Number(value.toPrecision(3))}${unit}`;
    value /= 1024;
  }
  return `${Number(value.toPrecision(3))}T`;
}

/** Formats a duration as its largest one or two units: `850ms`, `12s`, `3m 5s`, `2d 4h`. */
export function formatDurationMs(durationMs: number): string {
  if (durationMs < 999.5) return `${Math.round(durationMs)}ms`;
  const seconds = Math.round(durationMs / 1000);
  const parts: readonly (readonly [string, number])[] = [
    ["d", Math.floor(seconds / 86_400)],
    ["h", Math.floor(seconds / 3600) % 24],
    ["m", Math.floor(seconds / 60) % 60],
    ["s", seconds % 60],
  ];
  const first = parts.findIndex(([, amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([, amount]) => amount > 0)
    .map(([unit, amount]) => `${amount}${unit}`)
    .join(" ");
}
