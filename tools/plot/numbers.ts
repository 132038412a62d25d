/** Three significant digits, thousands set apart: 94,692 or 30.1 or 0.97. */
export function readable(value: number): string {
  const size = Math.abs(value);
  return fixed(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** As many digits after the point as are given, thousands set apart. */
export function fixed(value: number, digits: number): string {
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** By nearest rank. */
export function percentile(values: readonly number[], percent: number): number {
  return percentileOfSorted(
    values.toSorted((one, other) => one - other),
    percent,
  );
}

/** Of values that ascend. */
export function percentileOfSorted(sorted: readonly number[], percent: number): number {
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN;
}
