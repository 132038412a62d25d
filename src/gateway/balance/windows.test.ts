import { expect, test } from "bun:test";
import type { InstanceId, NodeName } from "../../model/names.ts";
import type { FinishedClass, GatewayFinished, NodeCpu } from "../../model/wire.ts";
import { CostLearner } from "./learner.ts";
import { CostWindows, windowMsMax } from "./windows.ts";

const instance = "i1" as InstanceId;
const node = "n1" as NodeName;

const cpu = (sequence: number, at: number, cpuTimeUs: number, epoch = "e1"): NodeCpu => ({
  ...{ node, epoch, sequence },
  instances: [{ instance, sample: sequence, at, cpuTimeUs, coresMax: null }],
});

const answer = (
  gateway: string,
  sequence: number,
  count: number,
  more: { readonly inFlight?: number; readonly reported?: number; readonly from?: number } = {},
): GatewayFinished => {
  const reportedCount = more.reported === undefined ? 0 : 1;
  const reportedUs = more.reported ?? 0;
  const one: FinishedClass = { name: "GET /", count, reportedCount, reportedUs };
  const from = more.from ?? (sequence === 1 ? null : sequence - 1);
  const part = {
    instance,
    app: "p/a",
    release: 1,
    from,
    inFlight: more.inFlight ?? 0,
    classes: [one],
  };
  return { gateway, node, epoch: "e1", sequence, instances: [part] };
};

test("CPU and requests of the same time come together, over all gateways", () => {
  const windows = new CostWindows();
  expect(windows.sampled(cpu(1, 1000, 5000))).toEqual([]);
  windows.counted(answer("a", 1, 50));
  windows.counted(answer("b", 1, 60));
  expect(windows.sampled(cpu(2, 2000, 12_000))).toEqual([]);
  windows.counted(answer("a", 2, 3));
  windows.counted(answer("b", 2, 4, { reported: 500 }));
  const [window] = windows.sampled(cpu(3, 3000, 20_000));
  expect(window).toEqual({
    app: "p/a",
    release: 1,
    seconds: 1,
    cpuUs: 6500,
    finished: new Map([["GET /", 6]]),
    reported: new Map([["GET /", { count: 1, us: 500 }]]),
    exact: true,
  });
});

test("with requests in flight a window goes on, but not for ever", () => {
  const windows = new CostWindows();
  windows.sampled(cpu(1, 1000, 0));
  windows.counted(answer("a", 1, 0, { inFlight: 1 }));
  let ended = 0;
  for (let sequence = 2; sequence < 30; sequence += 1) {
    for (const window of windows.sampled(cpu(sequence, sequence * 1000, sequence))) {
      const { seconds, finished, exact } = window;
      ended += 1;
      expect(exact).toBe(false);
      expect(seconds).toBeGreaterThanOrEqual(windowMsMax / 1000);
      expect(finished.get("GET /")).toBeGreaterThanOrEqual(seconds);
    }
    windows.counted(answer("a", sequence, 1, { inFlight: 1 }));
  }
  expect(ended).toBe(2);
});

test("one that began with requests in flight and ends without tells of too little CPU", () => {
  const windows = new CostWindows();
  windows.sampled(cpu(1, 1000, 0));
  windows.counted(answer("a", 1, 0, { inFlight: 1 }));
  windows.sampled(cpu(2, 2000, 10));
  windows.counted(answer("a", 2, 1));
  expect(windows.sampled(cpu(3, 3000, 20))).toEqual([]);
  windows.counted(answer("a", 3, 1));
  expect(windows.sampled(cpu(4, 4000, 30))).toMatchObject([{ seconds: 1, cpuUs: 10, exact: true }]);
});

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

test("under load, where windows cut through requests, costs are learned without a bias", () => {
  for (const seed of [7919, 15_838, 23_757]) {
    const random = seeded(seed);
    const windows = new CostWindows();
    const learner = new CostLearner();
    const ended = { cheap: 0, dear: 0 };
    const queue: number[] = [];
    let left = 0;
    let usedUs = 0;
    let sequence = 0;
    // A tenth of a core at 80 % load, by the millisecond; half of the work is dear.
    for (let ms = 0; ms < 600_000; ms += 1) {
      if (random() < 0.08 / 1.98) queue.push(random() < 1 / 101 ? 100_000 : 1000);
      for (let budgetUs = 100; budgetUs > 0 && queue.length > 0; ) {
        if (left === 0) left = queue[0] as number;
        const spentUs = Math.min(budgetUs, left);
        budgetUs -= spentUs;
        left -= spentUs;
        usedUs += spentUs;
        if (left === 0) ended[queue.shift() === 1000 ? "cheap" : "dear"] += 1;
      }
      if (ms % 1000 !== 999) continue;
      sequence += 1;
      for (const window of windows.sampled(cpu(sequence, ms, usedUs))) learner.observe(window);
      const classes = (["cheap", "dear"] as const).map((name) => {
        const count = ended[name];
        ended[name] = 0;
        return { name, count, reportedCount: 0, reportedUs: 0 };
      });
      const from = sequence === 1 ? null : sequence - 1;
      const part = { instance, app: "p/a", release: 1, from, inFlight: queue.length, classes };
      windows.counted({ gateway: "a", node, epoch: "e1", sequence, instances: [part] });
      learner.estimate();
    }
    const { classes, idleUs } = learner.estimate();
    expect(idleUs).toBeLessThan(1000);
    for (const { name, costUs, confidence } of classes) {
      const trueUs = name === "cheap" ? 1000 : 100_000;
      expect(confidence).toBeGreaterThan(0.9);
      expect(Math.abs(costUs - trueUs)).toBeLessThan(Math.max(0.02, 1 - confidence) * trueUs);
    }
  }
});

test("a lost count, a lost sample, a new process or a new agent ends a window unused", () => {
  const lost: readonly ((windows: CostWindows) => NodeCpu)[] = [
    // The count of b for sample 2 is missing.
    (windows) => {
      windows.counted(answer("a", 2, 1));
      return cpu(3, 3000, 3000);
    },
    (windows) => {
      windows.counted(answer("a", 2, 1));
      windows.counted(answer("b", 2, 1, { from: 0 }));
      return cpu(3, 3000, 3000);
    },
    (windows) => {
      windows.counted(answer("a", 2, 1));
      windows.counted(answer("b", 2, 1));
      return cpu(3, 3000, 3000, "e2");
    },
  ];
  for (const lose of lost) {
    const windows = new CostWindows();
    windows.sampled(cpu(1, 1000, 1000));
    windows.counted(answer("a", 1, 1));
    windows.counted(answer("b", 1, 1));
    windows.sampled(cpu(2, 2000, 2000));
    expect(windows.sampled(lose(windows))).toEqual([]);
  }
  const restarted = new CostWindows();
  restarted.sampled(cpu(1, 1000, 9000));
  restarted.counted(answer("a", 1, 1));
  restarted.sampled(cpu(2, 2000, 100));
  restarted.counted(answer("a", 2, 1));
  expect(restarted.sampled(cpu(3, 3000, 200))).toEqual([]);
});

test("a gateway that is gone is missed three times, then no more", () => {
  const windows = new CostWindows();
  windows.sampled(cpu(1, 0, 0));
  windows.counted(answer("a", 1, 1));
  windows.counted(answer("b", 1, 1));
  let ended = 0;
  for (let sequence = 2; sequence < 10; sequence += 1) {
    ended += windows.sampled(cpu(sequence, sequence * 1000, sequence * 10)).length;
    windows.counted(answer("a", sequence, 1));
  }
  expect(ended).toBeGreaterThan(2);
});
