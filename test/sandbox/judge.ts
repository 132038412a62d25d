// What a probe's report and the canaries say.

export interface Report {
  readonly breaches: readonly string[];
  readonly refusals: readonly string[];
  /** Possible and allowed: the canaries decide. */
  readonly taken: readonly string[];
  /** Why the report cannot be trusted; null: it is whole. */
  readonly broken: string | null;
}

export function readReport(text: string): Report {
  const of = (kind: string) =>
    [...text.matchAll(new RegExp(`^${kind} (.*)$`, "gm"))].map((match) => match[1] ?? "");
  const whole = /^(end|killed) /m.test(text);
  const broken = /^(broken|unknown|overdue).*$|^took broken.*$/m.exec(text)?.[0] ?? null;
  return {
    breaches: of("breach"),
    refusals: of("refused"),
    taken: of("took"),
    broken: broken ?? (whole ? null : `not a whole report: ${text.slice(0, 200)}`),
  };
}

/** Null when the sandbox held. */
export function faultOf(report: Report, canariesBefore: string, after: string): string | null {
  if (report.broken !== null) return report.broken;
  if (report.breaches.length > 0) return `possible: ${report.breaches.join("; ")}`;
  if (report.refusals.length + report.taken.length === 0) return "the probe tried nothing";
  return after === canariesBefore ? null : `a canary changed: ${after}, before: ${canariesBefore}`;
}
