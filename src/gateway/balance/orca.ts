/**
 * The CPU that a response says its request used, in CPU-µs; null: it does not say.
 *
 * The header is ORCA's (Open Request Cost Aggregation; xds.data.orca.v3.OrcaLoadReport in HTTP):
 * `name=value` or `name:value` separated by commas, after the word TEXT or not, or a JSON object
 * after the word JSON. ORCA leaves the names of costs to those who use them; read here is
 * `cpu_seconds`, among the request costs or the named metrics. The instance's utilization, which
 * ORCA can carry too, is measured by its cgroup already.
 */
export function reportedCostUs(header: string): number | null {
  const text = header.trim();
  if (text.startsWith("JSON ") || text.startsWith("{")) return readJson(text.replace(/^JSON /, ""));
  const listed = text.startsWith("TEXT ") ? text.slice(5) : text;
  for (const part of listed.split(",")) {
    const match = /^\s*([^=:\s]+)\s*[=:]\s*(\S+)\s*$/.exec(part);
    const [, name, value] = match ?? [];
    if (name === "request_cost.cpu_seconds" || name === "named_metrics.cpu_seconds") {
      return inMicroseconds(Number(value));
    }
  }
  return null;
}

function readJson(text: string): number | null {
  let report: { readonly request_cost?: unknown; readonly named_metrics?: unknown } | null;
  try {
    report = JSON.parse(text);
  } catch {
    return null;
  }
  const costs = report?.request_cost ?? report?.named_metrics;
  const seconds = (costs as { readonly cpu_seconds?: unknown } | null | undefined)?.cpu_seconds;
  return typeof seconds === "number" ? inMicroseconds(seconds) : null;
}

const secondsMax = 1000;

function inMicroseconds(seconds: number): number | null {
  return seconds >= 0 && seconds <= secondsMax ? seconds * 1e6 : null;
}
