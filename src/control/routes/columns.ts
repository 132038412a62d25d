import { assert } from "../../base/assert.ts";
import type { InstanceId } from "../../model/names.ts";

/** The table has 2^20 columns; the first 2^12 of them are four pages of a gateway's row. */
const smallestBits = 12;
const largestBits = 20;

/**
 * Columns of the gateways' shared load table. An instance's column follows from its id, so that
 * it is the same in the next life of control, while gateways still count in it: a slot of a
 * small region at the table's beginning, or, where another instance has that, of a region four
 * times as large, and so on. Ids are never given again, so a column is hardly ever reused.
 */
export class Columns {
  readonly #byApp = new Map<string, Map<InstanceId, number>>();
  readonly #taken = new Set<number>();

  columnOf(app: string, instance: InstanceId): number {
    const ofApp = this.#byApp.get(app) ?? new Map<InstanceId, number>();
    const known = ofApp.get(instance);
    if (known !== undefined) return known;
    const column = this.#choose(instance);
    this.#taken.add(column);
    this.#byApp.set(app, ofApp.set(instance, column));
    return column;
  }

  /** Of the app's instances only these still exist. */
  keep(app: string, existing: Iterable<InstanceId>): void {
    const ofApp = this.#byApp.get(app);
    if (ofApp === undefined) return;
    const kept = new Set(existing);
    for (const [instance, column] of ofApp) {
      if (kept.has(instance)) continue;
      ofApp.delete(instance);
      this.#taken.delete(column);
    }
    if (ofApp.size === 0) this.#byApp.delete(app);
  }

  #choose(instance: InstanceId): number {
    const hash = hashOf(instance);
    for (let bits = smallestBits; bits <= largestBits; bits += 2) {
      const column = hash & (2 ** bits - 1);
      if (!this.#taken.has(column)) return column;
    }
    const columns = 2 ** largestBits;
    assert(this.#taken.size < columns, "more instances take requests than the table has columns");
    let column = hash % columns;
    while (this.#taken.has(column)) column = (column + 1) % columns;
    return column;
  }
}

/** FNV-1a with a final mix, unsigned. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
