import { readdirSync } from "node:fs";
import type { MetricFamily, MetricSample } from "../../control/operations.ts";

/** Of the answer of `/metrics`. */
export const exposition = "text/plain; version=0.0.4; charset=utf-8";

/** Prometheus' text format, version 0.0.4. Families without a sample are left out. */
export function expose(families: readonly MetricFamily[]): string {
  const lines: string[] = [];
  for (const { kind, name, help, samples } of families) {
    if (samples.length === 0) continue;
    lines.push(`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${kind}`);
    for (const sample of samples) lines.push(lineOf(name, sample));
  }
  return `${lines.join("\n")}\n`;
}

function lineOf(name: string, { suffix, labels, value }: MetricSample): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${quoted(text)}"`);
  const within = pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
  return `${name}${suffix}${within} ${value}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function quoted(text: string): string {
  return escaped(text).replaceAll('"', '\\"');
}

/** This process itself, under the names that all client libraries use. */
export function processFamilies(): readonly MetricFamily[] {
  const { user, system } = process.cpuUsage();
  const single = (kind: MetricFamily["kind"], name: string, help: string, value: number) => ({
    ...{ kind, name, help },
    samples: [{ suffix: "" as const, labels: {}, value }],
  });
  return [
    single(
      "counter",
      "process_cpu_seconds_total",
      "CPU time of the root process of lode.",
      (user + system) / 1e6,
    ),
    single(
      "gauge",
      "process_resident_memory_bytes",
      "Resident memory of the root process of lode.",
      process.memoryUsage.rss(),
    ),
    single(
      "gauge",
      "process_start_time_seconds",
      "When the root process of lode started, since the Unix epoch.",
      performance.timeOrigin / 1000,
    ),
    single(
      "gauge",
      "process_open_fds",
      "Open file descriptors of the root process of lode.",
      readdirSync("/proc/self/fd").length,
    ),
  ];
}
