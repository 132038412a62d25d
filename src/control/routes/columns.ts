import type { Clock } from "../../base/time.ts";
import type { InstanceId } from "../../model/names.ts";

/** Gateways may still write an instance's column for so long after it left the routes. */
const graceMs = 60_000;

/**
 * Columns of the gateways' shared load table. An instance keeps its column while it exists; a
 * column that became free is given again, the lowest first, only after a grace period.
 */
export class Columns {
  readonly #clock: Clock;
  readonly #byApp = new Map<string, Map<InstanceId, number>>();
  /** In the order they became free. */
  #resting: { readonly column: number; readonly freeAt: number }[] = [];
  /** Min-heap. */
  readonly #free: number[] = [];
  #next = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  columnOf(app: string, instance: InstanceId): number {
    const ofApp = this.#byApp.get(app) ?? new Map<InstanceId, number>();
    const known = ofApp.get(instance);
    if (known !== undefined) return known;
    this.#wake();
    const column = this.#free.length > 0 ? pop(this.#free) : this.#next++;
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
      this.#resting.push({ column, freeAt: this.#clock.now() + graceMs });
    }
    if (ofApp.size === 0) this.#byApp.delete(app);
  }

  #wake(): void {
    const now = this.#clock.now();
    const still = this.#resting.findIndex(({ freeAt }) => freeAt > now);
    const due = still === -1 ? this.#resting.length : still;
    if (due === 0) return;
    for (const { column } of this.#resting.slice(0, due)) push(this.#free, column);
    this.#resting = this.#resting.slice(due);
  }
}

function push(heap: number[], value: number): void {
  let index = heap.length;
  heap.push(value);
  while (index > 0) {
    const parent = (index - 1) >> 1;
    const above = heap[parent] as number;
    if (above <= value) break;
    heap[index] = above;
    index = parent;
  }
  heap[index] = value;
}

function pop(heap: number[]): number {
  const top = heap[0] as number;
  const last = heap.pop() as number;
  if (heap.length === 0) return top;
  let index = 0;
  while (true) {
    const left = 2 * index + 1;
    if (left >= heap.length) break;
    const right = left + 1;
    const isRight = right < heap.length && (heap[right] as number) < (heap[left] as number);
    const child = isRight ? right : left;
    if ((heap[child] as number) >= last) break;
    heap[index] = heap[child] as number;
    index = child;
  }
  heap[index] = last;
  return top;
}
