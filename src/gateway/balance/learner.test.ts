import { expect, test } from "bun:test";
import fc from "fast-check";
import { inverseDiagonal } from "./inverse.ts";
import { CostLearner, columnsMax, solveNonNegative } from "./learner.ts";

/** Deterministic noise. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

/** Solves Mx = v by elimination; null when M is singular. */
function solveLinear(matrix: readonly (readonly number[])[], vector: readonly number[]) {
  const rows = matrix.map((row, index) => [...row, vector[index] as number]);
  const size = rows.length;
  for (let pivot = 0; pivot < size; pivot += 1) {
    let best = pivot;
    for (let row = pivot + 1; row < size; row += 1) {
      if (Math.abs(at(rows, row, pivot)) > Math.abs(at(rows, best, pivot))) best = row;
    }
    if (Math.abs(at(rows, best, pivot)) < 1e-12) return null;
    [rows[pivot], rows[best]] = [rows[best] as number[], rows[pivot] as number[]];
    for (let row = 0; row < size; row += 1) {
      if (row === pivot) continue;
      const factor = at(rows, row, pivot) / at(rows, pivot, pivot);
      for (let column = pivot; column <= size; column += 1) {
        (rows[row] as number[])[column] = at(rows, row, column) - factor * at(rows, pivot, column);
      }
    }
  }
  return rows.map((row, index) => (row[size] as number) / (row[index] as number));
}

const at = (rows: readonly (readonly number[])[], row: number, column: number) =>
  rows[row]?.[column] as number;

/** The batch problem min Σ(y − xθ)², θ ≥ 0, by trying every set of columns that are not zero. */
function naiveNonNegative(xs: readonly (readonly number[])[], ys: readonly number[]) {
  const size = xs[0]?.length ?? 0;
  let best: { loss: number; theta: number[] } = { loss: Number.POSITIVE_INFINITY, theta: [] };
  for (let set = 0; set < 2 ** size; set += 1) {
    const active = Array.from({ length: size }, (_, k) => k).filter((k) => (set >> k) & 1);
    const sum = (f: (x: readonly number[], y: number) => number) =>
      xs.reduce((total, x, t) => total + f(x, ys[t] as number), 0);
    const gram = active.map((i) => active.map((j) => sum((x) => (x[i] ?? 0) * (x[j] ?? 0))));
    const solution = solveLinear(
      gram,
      active.map((i) => sum((x, y) => (x[i] ?? 0) * y)),
    );
    if (solution === null || solution.some((value) => value < 0)) continue;
    const theta = new Array<number>(size).fill(0);
    for (const [index, k] of active.entries()) theta[k] = solution[index] as number;
    const loss = sum((x, y) => (y - x.reduce((s, v, k) => s + v * (theta[k] ?? 0), 0)) ** 2);
    if (loss < best.loss) best = { loss, theta };
  }
  return best;
}

const rowOf = (size: number) =>
  fc.array(fc.integer({ min: 0, max: 9 }), { minLength: size, maxLength: size });

test("recursive statistics and descent agree with the naive batch twin", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ x: rowOf(4), y: fc.integer({ min: 0, max: 100 }) }), {
        minLength: 6,
        maxLength: 20,
      }),
      (rows) => {
        // As the learner does, a little weight of its own for each unknown.
        const prior = Array.from({ length: 4 }, (_, k) => [0, 1, 2, 3].map((j) => +(j === k)));
        const xs = [...rows.map(({ x }) => x), ...prior];
        const ys = [...rows.map(({ y }) => y), 1, 2, 3, 4];
        const information = prior.map((row) => row.map(() => 0));
        const moment = [0, 0, 0, 0];
        for (const [t, x] of xs.entries()) {
          for (let i = 0; i < 4; i += 1) {
            moment[i] = (moment[i] ?? 0) + (x[i] ?? 0) * (ys[t] ?? 0);
            for (let j = 0; j < 4; j += 1) {
              (information[i] as number[])[j] = at(information, i, j) + (x[i] ?? 0) * (x[j] ?? 0);
            }
          }
        }
        const theta = [0, 0, 0, 0];
        solveNonNegative(information, moment, theta);
        const naive = naiveNonNegative(xs, ys);
        for (let k = 0; k < 4; k += 1) expect(theta[k]).toBeCloseTo(naive.theta[k] as number, 3);
      },
    ),
    { numRuns: 300, seed: 2 },
  );
});

test("the inverse's diagonal agrees with elimination", () => {
  fc.assert(
    fc.property(fc.array(rowOf(3), { minLength: 3, maxLength: 9 }), (xs) => {
      const gram = [0, 1, 2].map((i) =>
        [0, 1, 2].map((j) =>
          xs.reduce((sum, x) => sum + (x[i] ?? 0) * (x[j] ?? 0), i === j ? 0.5 : 0),
        ),
      );
      const diagonal = inverseDiagonal(gram);
      for (let k = 0; k < 3; k += 1) {
        const column = solveLinear(
          gram,
          [0, 1, 2].map((i) => +(i === k)),
        );
        expect(diagonal[k]).toBeCloseTo(column?.[k] as number, 6);
      }
    }),
    { numRuns: 300, seed: 3 },
  );
});

test("finds costs 1:100 under noise, idle use and unequal load, and says how sure it is", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), (seed) => {
      const random = seeded(seed);
      const learner = new CostLearner();
      for (let step = 0; step < 300; step += 1) {
        const load = step % 10 === 0 ? 0 : 1 + (step % 10);
        const cheap = Math.round(random() * 20 * load);
        const dear = random() < 0.05 * load ? 1 : 0;
        const seconds = 1 + random();
        const noise = 1 + 0.2 * (random() - 0.5);
        const cpuUs = (cheap * 1000 + dear * 100_000) * noise + 500 * seconds;
        const finished = new Map([
          ["GET /cheap", cheap],
          ["GET /dear", dear],
        ]);
        learner.observe({ seconds, cpuUs, finished, exact: true });
      }
      const { classes, idleUs, meanUs } = learner.estimate();
      const [cheap, dear] = ["GET /cheap", "GET /dear"].map((wanted) =>
        classes.find(({ name }) => name === wanted),
      );
      expect(Math.abs((cheap?.costUs ?? 0) - 1000)).toBeLessThan(120);
      expect(Math.abs((dear?.costUs ?? 0) - 100_000)).toBeLessThan(8000);
      expect(idleUs).toBeLessThan(4000);
      expect(cheap?.confidence).toBeGreaterThan(0.7);
      expect(dear?.confidence).toBeGreaterThan(0.8);
      expect(meanUs).toBeGreaterThan(1000);
    }),
    { numRuns: 30, seed: 4 },
  );
});

test("what always comes together, or hardly came, is not called sure", () => {
  const learner = new CostLearner();
  const random = seeded(5);
  for (let step = 0; step < 60; step += 1) {
    const count = 1 + Math.floor(random() * 9);
    const finished = new Map([
      ["GET /page", count],
      ["GET /image", count],
    ]);
    learner.observe({
      seconds: 1,
      cpuUs: count * 3000 * (0.9 + 0.2 * random()),
      finished,
      exact: true,
    });
  }
  const { classes } = learner.estimate();
  for (const one of classes) expect(one.confidence).toBeLessThan(0.5);
  const sum = classes.reduce((total, { costUs }) => total + costUs, 0);
  expect(Math.abs(sum - 3000)).toBeLessThan(300);
  const young = new CostLearner();
  young.observe({ seconds: 1, cpuUs: 5000, finished: new Map([["GET /", 5]]), exact: true });
  expect(young.estimate().classes[0]?.confidence).toBe(0);
});

test("costs that change are learned again, and a wild window moves little", () => {
  const learner = new CostLearner();
  const random = seeded(6);
  const feed = (steps: number, costUs: number) => {
    for (let step = 0; step < steps; step += 1) {
      const count = 1 + Math.floor(random() * 9);
      const cpuUs = count * costUs * (0.95 + 0.1 * random());
      learner.observe({ seconds: 1, cpuUs, finished: new Map([["GET /", count]]), exact: true });
      learner.estimate();
    }
    return learner.estimate().classes[0]?.costUs ?? 0;
  };
  expect(Math.abs(feed(200, 1000) - 1000)).toBeLessThan(50);
  learner.observe({ seconds: 1, cpuUs: 5_000_000, finished: new Map([["GET /", 5]]), exact: true });
  expect(Math.abs((learner.estimate().classes[0]?.costUs ?? 0) - 1000)).toBeLessThan(100);
  expect(Math.abs(feed(3000, 4000) - 4000)).toBeLessThan(400);
});

test("columns are bounded, windows without requests do no harm", () => {
  const learner = new CostLearner();
  for (let name = 0; name < 500; name += 1) {
    learner.observe({
      seconds: 1,
      cpuUs: 1000,
      finished: new Map([[`GET /${name}`, 1]]),
      exact: true,
    });
    learner.observe({ seconds: 1, cpuUs: 0, finished: new Map(), exact: true });
  }
  const { classes } = learner.estimate();
  expect(classes.length).toBe(columnsMax);
  for (const { costUs } of classes) expect(Number.isFinite(costUs)).toBe(true);
});

test("a successor goes on from what was published", () => {
  const learner = new CostLearner();
  const random = seeded(7);
  const observe = (target: CostLearner) => {
    const counts: [string, number][] = [
      ["GET /a", Math.floor(random() * 20)],
      ["GET /b", Math.floor(random() * 3)],
    ];
    const cpuUs = (counts[0]?.[1] ?? 0) * 500 + (counts[1]?.[1] ?? 0) * 9000;
    target.observe({
      seconds: 1,
      cpuUs: cpuUs * (0.95 + random() / 10),
      finished: new Map(counts),
      exact: true,
    });
  };
  for (let step = 0; step < 100; step += 1) observe(learner);
  const successor = new CostLearner();
  successor.restore(learner.estimate());
  for (let step = 0; step < 3; step += 1) observe(successor);
  const { classes } = successor.estimate();
  const [a, b] = ["GET /a", "GET /b"].map((wanted) => classes.find(({ name }) => name === wanted));
  expect(Math.abs((a?.costUs ?? 0) - 500)).toBeLessThan(50);
  expect(Math.abs((b?.costUs ?? 0) - 9000)).toBeLessThan(900);
  expect(a?.confidence).toBeGreaterThan(0.5);
});
