/**
 * The CPU that a response says its request used, in CPU-µs; null: it does not say.
 *
 * The header is ORCA's (Open Request Cost Aggregation; xds.data.orca.v3.OrcaLoadReport in HTTP):
 * `name=value` or `name:value` separated by commas, after the word TEXT or not; a JSON object,
 * after the word JSON or not; or the message itself in base64, after the word BIN or, in a header
 * of its own, without. ORCA leaves the names of costs to those who use them; read here is
 * `cpu_seconds`, among the request costs or the named metrics. The instance's utilization, which
 * ORCA can carry too, is measured by its cgroup already.
 */
export function reportedCostUs(header: string): number | null {
  const [, format, report = ""] = /^\s*(?:(JSON|TEXT|BIN) )?\s*(.*?)\s*$/s.exec(header) ?? [];
  if (format === "BIN" || (format === undefined && isBase64.test(report)))
    return readBinary(report);
  if (format === "JSON" || report.startsWith("{")) return readJson(report);
  return readText(report);
}

const costName = "cpu_seconds";
/** No list of names and values is: they have `=` or `:` in the middle. */
const isBase64 = /^[A-Za-z0-9+/]+={0,2}$/;

function readText(report: string): number | null {
  for (const part of report.split(",")) {
    const match = /^\s*([^=:\s]+)\s*[=:]\s*(\S+)\s*$/.exec(part);
    const [, name, value] = match ?? [];
    if (name === `request_cost.${costName}` || name === `named_metrics.${costName}`) {
      return inMicroseconds(Number(value));
    }
  }
  return null;
}

/** Protobuf's JSON has names in either spelling. */
const mapNames = ["request_cost", "requestCost", "named_metrics", "namedMetrics"];

function readJson(text: string): number | null {
  let report: Readonly<Record<string, unknown>> | null;
  try {
    report = JSON.parse(text);
  } catch {
    return null;
  }
  for (const name of mapNames) {
    const map = report?.[name] as Readonly<Record<string, unknown>> | null | undefined;
    const seconds = map?.[costName];
    if (typeof seconds === "number") return inMicroseconds(seconds);
  }
  return null;
}

/** Field numbers of the maps in OrcaLoadReport whose names applications choose. */
const requestCostField = 4;
const namedMetricsField = 8;

function readBinary(text: string): number | null {
  for (const [field, value] of fieldsOf(bytesOf(text))) {
    if (field !== requestCostField && field !== namedMetricsField) continue;
    const entry = new Map(fieldsOf(value));
    const seconds = entry.get(2);
    const name = String.fromCharCode(...(entry.get(1)?.subarray(0, costName.length + 1) ?? []));
    if (name !== costName || seconds?.byteLength !== 8) continue;
    return inMicroseconds(new DataView(seconds.buffer, seconds.byteOffset).getFloat64(0, true));
  }
  return null;
}

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Base64 up to its padding, or to what is none (RFC 4648, 4). */
function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let bits = 0;
  let count = 0;
  let length = 0;
  for (const character of text) {
    const digit = base64Digits.indexOf(character);
    if (digit < 0) break;
    bits = ((bits << 6) | digit) & 0xffff;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes[length] = bits >> count;
    length += 1;
  }
  return bytes.subarray(0, length);
}

/** The fields of a protobuf message that have bytes (maps, strings, doubles), up to a fault. */
function fieldsOf(message: Uint8Array): (readonly [number, Uint8Array])[] {
  const fields: (readonly [number, Uint8Array])[] = [];
  let at = 0;
  const readNumber = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at] ?? 0;
      at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.byteLength) {
    const tag = readNumber();
    const wireType = tag & 7;
    let length = 0;
    if (wireType === 0) readNumber();
    else if (wireType === 1) length = 8;
    else if (wireType === 2) length = readNumber();
    else if (wireType === 5) length = 4;
    else break;
    if (at + length > message.byteLength) break;
    if (wireType !== 0) fields.push([Math.floor(tag / 8), message.subarray(at, at + length)]);
    at += length;
  }
  return fields;
}

const secondsMax = 1000;

function inMicroseconds(seconds: number): number | null {
  return seconds >= 0 && seconds <= secondsMax ? seconds * 1e6 : null;
}
