import { inverseDiagonal } from "./inverse.ts";

// What each class of requests costs, from windows of (CPU an instance used, requests of each
// class that it finished). With rows xᵗ = (seconds, n₁ … n_K), the CPU-µs yᵗ, weights wᵗ and the
// forgetting λ = 2^(−seconds/half-life), the costs are
//
//   θ = argmin_{θ ≥ 0} Σᵗ λ^(age of t) wᵗ (yᵗ − xᵗ·θ)²  +  ρ Σ_k (θ_k − m)²
//
// θ₀ being what the instance uses by itself (the idle intercept, CPU-µs a second) and m the mean
// cost of a request, so that a class nobody has seen costs the mean. This is recursive least
// squares in information form (A ← λA + w·x·xᵀ, b ← λb + w·y·x; Haykin, Adaptive Filter Theory,
// ch. 10) with the non-negative solution found by sequential coordinate-wise descent (Franc,
// Hlaváč, Navara 2005), warm from the last one: a handful of passes. A row is weighted by
// 1/seconds, as noise grows with a window's length, and less when it lies far out (Huber) or its
// ends cut through requests.
//
// The covariance of θ is s²·A⁻¹; a class's confidence follows from its standard error.

/** Half of what was learned is forgotten after so much observed time. */
const halfLifeSeconds = 600;
/** Columns are bounded; beyond, the class seen least goes. */
export const columnsMax = 65;
/** ρ: the prior weighs as much as so many requests seen alone. */
const priorWeight = 0.05;
/** An instance is thought to use nothing by itself, as if it had been seen idle for so long. */
const idlePriorSeconds = 1;
const huberDeviations = 4;
const inexactWeight = 0.1;
const passesMax = 300;
/** Windows beyond the number of unknowns before anything is believed. */
const spareWindowsMin = 4;

export interface CostWindow {
  /** How long it was, and what the instance used in it, in CPU-µs. */
  readonly seconds: number;
  readonly cpuUs: number;
  /** Requests finished, per class. */
  readonly finished: ReadonlyMap<string, number>;
  /** Nothing was in flight at its ends: all the CPU belongs to these requests. */
  readonly exact: boolean;
}

export interface CostEstimate {
  readonly name: string;
  /** CPU-µs a request. */
  readonly costUs: number;
  /** 0: a guess; 1: certain. Of a cost of c ± d (two standard errors), 1 − d/c. */
  readonly confidence: number;
  /** Requests seen, slowly forgotten. */
  readonly requests: number;
}

export interface Costs {
  readonly classes: readonly CostEstimate[];
  /** CPU-µs a second that an instance uses by itself. */
  readonly idleUs: number;
  /** Mean over requests, in CPU-µs; 0 before any. */
  readonly meanUs: number;
}

/** A class of this confidence is known well. */
export const confidenceMin = 0.5;

export class CostLearner {
  private readonly names: (string | null)[] = [null];
  private readonly columns = new Map<string, number>();
  private readonly requests: number[] = [0];
  /** A's rows, the lower triangle mirrored; index 0 is the intercept. */
  private information: number[][] = [[0]];
  private moment: number[] = [0];
  private theta: number[] = [0];
  private squares = 0;
  private windows = 0;
  private cpuUs = 0;
  private deviation = 0;

  /** Begins with what an earlier learner published, as if so many requests had been seen. */
  restore(costs: Omit<Costs, "meanUs">): void {
    let best = 0;
    for (const { name, costUs, confidence, requests } of costs.classes) {
      const column = this.columnOf(name);
      const weight = confidence * Math.min(requests, 100);
      this.addPrior(column, weight, costUs);
      this.requests[column] = requests;
      this.cpuUs += requests * costUs;
      best = Math.max(best, confidence);
    }
    this.addPrior(0, 1, costs.idleUs);
    this.windows = best >= confidenceMin ? this.names.length + 2 * spareWindowsMin : 0;
  }

  private addPrior(column: number, weight: number, value: number): void {
    const row = this.information[column] as number[];
    row[column] = (row[column] as number) + weight;
    this.moment[column] = (this.moment[column] as number) + weight * value;
    this.squares += weight * value * value;
    this.theta[column] = value;
  }

  observe(window: CostWindow): void {
    const seconds = Math.max(0.001, window.seconds);
    this.forget(2 ** (-Math.min(seconds, 60) / halfLifeSeconds));
    const row: (readonly [number, number])[] = [[0, seconds]];
    let predicted = (this.theta[0] as number) * seconds;
    for (const [name, count] of window.finished) {
      if (count <= 0) continue;
      const column = this.columnOf(name);
      row.push([column, count]);
      this.requests[column] = (this.requests[column] as number) + count;
      predicted += (this.theta[column] as number) * count;
    }
    if (row.length > 1) this.cpuUs += window.cpuUs;
    this.windows += 1;
    const weight = this.weightOf(window.cpuUs - predicted, seconds);
    this.take(row, window.cpuUs, window.exact ? weight : weight * inexactWeight);
  }

  private weightOf(residual: number, seconds: number): number {
    const bound = huberDeviations * this.deviation * Math.sqrt(seconds);
    const distance = Math.abs(residual);
    return (bound > 0 && distance > bound ? bound / distance : 1) / seconds;
  }

  private take(row: readonly (readonly [number, number])[], value: number, weight: number): void {
    for (const [i, x] of row) {
      const target = this.information[i] as number[];
      for (const [j, z] of row) target[j] = (target[j] as number) + weight * x * z;
      this.moment[i] = (this.moment[i] as number) + weight * value * x;
    }
    this.squares += weight * value * value;
  }

  private forget(factor: number): void {
    for (const row of this.information) {
      for (let index = 0; index < row.length; index += 1)
        row[index] = (row[index] as number) * factor;
    }
    for (let index = 0; index < this.moment.length; index += 1) {
      this.moment[index] = (this.moment[index] as number) * factor;
      this.requests[index] = (this.requests[index] as number) * factor;
    }
    this.squares *= factor;
    this.windows *= factor;
    this.cpuUs *= factor;
  }

  private columnOf(name: string): number {
    const known = this.columns.get(name);
    if (known !== undefined) return known;
    const column = this.names.length <= columnsMax ? this.grow() : this.evict();
    this.names[column] = name;
    this.columns.set(name, column);
    return column;
  }

  private grow(): number {
    const column = this.names.length;
    for (const row of this.information) row.push(0);
    this.information.push(new Array<number>(column + 1).fill(0));
    for (const list of [this.moment, this.theta, this.requests]) list.push(0);
    this.names.push(null);
    return column;
  }

  /** Frees the column of the class with the fewest requests. */
  private evict(): number {
    let least = 1;
    for (let column = 2; column < this.names.length; column += 1) {
      if ((this.requests[column] as number) < (this.requests[least] as number)) least = column;
    }
    this.columns.delete(this.names[least] as string);
    for (const row of this.information) row[least] = 0;
    this.information[least] = new Array<number>(this.names.length).fill(0);
    for (const list of [this.moment, this.theta, this.requests]) list[least] = 0;
    return least;
  }

  /** Solves for what was observed so far. */
  estimate(): Costs {
    const seen = this.requests.reduce((sum, count) => sum + count, 0);
    const meanUs = seen > 0 ? Math.max(0, this.cpuUs) / seen : 0;
    const size = this.names.length;
    const information = this.information.map((row, i) =>
      row.map((value, j) => (i === j ? value + (i === 0 ? idlePriorSeconds : priorWeight) : value)),
    );
    const moment = this.moment.map((value, i) => (i === 0 ? value : value + priorWeight * meanUs));
    solveNonNegative(information, moment, this.theta);
    this.deviation = Math.sqrt(this.varianceOf(size));
    const variances = inverseDiagonal(information);
    const believed = this.windows >= size + spareWindowsMin;
    const classes: CostEstimate[] = [];
    for (let column = 1; column < size; column += 1) {
      const costUs = this.theta[column] as number;
      const error = this.deviation * Math.sqrt(variances[column] as number);
      // A cost that is a small part of the mean is known when it is known to be small.
      const scale = Math.max(costUs, meanUs / 10);
      const confidence = believed && scale > 0 ? Math.max(0, 1 - (2 * error) / scale) : 0;
      const requests = this.requests[column] as number;
      classes.push({ name: this.names[column] as string, costUs, confidence, requests });
    }
    return { classes, idleUs: this.theta[0] as number, meanUs };
  }

  /** s²: of a residual a second long. */
  private varianceOf(size: number): number {
    let residual = this.squares;
    for (let i = 0; i < size; i += 1) {
      const theta = this.theta[i] as number;
      const row = this.information[i] as number[];
      let product = 0;
      for (let j = 0; j < size; j += 1) product += (row[j] as number) * (this.theta[j] as number);
      residual += theta * (product - 2 * (this.moment[i] as number));
    }
    return Math.max(0, residual) / Math.max(1, this.windows - size);
  }
}

/**
 * Minimises θᵀAθ − 2bᵀθ over θ ≥ 0 in place, from where θ is.
 *
 * @param information A, symmetric, with a positive diagonal.
 */
export function solveNonNegative(
  information: readonly (readonly number[])[],
  moment: readonly number[],
  theta: number[],
): void {
  const size = moment.length;
  for (let pass = 0; pass < passesMax; pass += 1) {
    let moved = 0;
    for (let k = 0; k < size; k += 1) {
      const row = information[k] as readonly number[];
      let rest = moment[k] as number;
      for (let j = 0; j < size; j += 1) rest -= (row[j] as number) * (theta[j] as number);
      const before = theta[k] as number;
      const after = Math.max(0, before + rest / (row[k] as number));
      theta[k] = after;
      moved = Math.max(moved, Math.abs(after - before) / (1e-6 + Math.max(before, after)));
    }
    if (moved < 1e-7) return;
  }
}
