import { assert } from "../base/assert.ts";
import type { Json } from "../base/json.ts";

/** Levels of arrays and objects in a payload [W2]. */
export const depthMax = 100;

/**
 * A deeply frozen copy, as JSON would carry it: properties that are undefined are left out, and
 * numbers that are not finite become null. Cheaper than serialising, and one copy serves every
 * receiver.
 */
export function frozenCopy(value: Json, depth = 0): Json {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  assert(typeof value === "object", `a ${typeof value} in a wire payload`);
  assert(depth < depthMax, `a wire payload nested deeper than ${depthMax}`);
  if (Array.isArray(value)) {
    const items: readonly (Json | undefined)[] = value;
    return Object.freeze(items.map((item) => frozenCopy(item ?? null, depth + 1)));
  }
  const copy: Record<string, Json> = {};
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    const value = frozenCopy(item, depth + 1);
    if (key !== "__proto__") copy[key] = value;
    else Object.defineProperty(copy, key, { value, enumerable: true });
  }
  return Object.freeze(copy);
}

/** Crashes on what no party may send [W2]. */
export function assertPayload(value: Json): void {
  assert(value !== undefined, "a wire payload that is undefined");
  assert(!nestsDeeper(value, depthMax), `a wire payload nested deeper than ${depthMax}`);
}

/** Whether arrays and objects lie more than `levels` deep in each other. */
export function nestsDeeper(value: Json | undefined, levels: number): boolean {
  if (value === null || typeof value !== "object") return false;
  if (levels === 0) return true;
  for (const item of Object.values(value)) if (nestsDeeper(item, levels - 1)) return true;
  return false;
}
