import { err, ok, type Result } from "../base/result.ts";
import { parseBytes, parseCores } from "../base/units.ts";
import type { Bounds } from "./limits.ts";

/**
 * Parses `min:max:burst` as `lode limits` and lode.toml write it: one number is the max, two
 * are min and max, an empty part is no bound (`0.25::4`).
 */
function parseBounds(
  text: string,
  parseAmount: (text: string) => Result<number, string>,
): Result<Bounds, string> {
  const parts = text.split(":");
  if (parts.length > 3) {
    return err(`"${text}" has ${parts.length} parts; write max, min:max or min:max:burst`);
  }
  const amounts: (number | null)[] = [];
  for (const part of parts) {
    if (part.trim() === "") {
      amounts.push(null);
      continue;
    }
    const amount = parseAmount(part);
    if (!amount.ok) return amount;
    amounts.push(amount.value);
  }
  const [first = null, second = null, third = null] = amounts;
  const bounds =
    parts.length === 1
      ? { min: null, max: first, burst: null }
      : { min: first, max: second, burst: third };
  return checkBounds(bounds, text);
}

/** Bounds must not contradict one another: min ≤ max ≤ burst. */
export function checkBounds(bounds: Bounds, text: string): Result<Bounds, string> {
  const { min, max, burst } = bounds;
  if (min !== null && max !== null && min > max) {
    return err(`"${text}" has a min above its max`);
  }
  if (max !== null && burst !== null && max > burst) {
    return err(`"${text}" has a max above its burst`);
  }
  if (min !== null && burst !== null && min > burst) {
    return err(`"${text}" has a min above its burst`);
  }
  return ok(bounds);
}

/** `0.25:2:4` into cores. */
export function parseCpuBounds(text: string): Result<Bounds, string> {
  return parseBounds(text, parseCores);
}

/** `64M:512M:1G` into bytes. */
export function parseMemoryBounds(text: string): Result<Bounds, string> {
  return parseBounds(text, (part) => {
    const bytes = parseBytes(part);
    if (!bytes.ok || bytes.value > 0) return bytes;
    return err(`"${text}" has a bound of 0 bytes; leave it empty for no bound`);
  });
}
