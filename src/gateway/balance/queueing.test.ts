import { expect, test } from "bun:test";
import { Backlog } from "./backlog.ts";
import { choose } from "./choose.ts";
import { dearInstancesOf, divide } from "./division.ts";
import { type DividedCandidate, placeDear, workForCheap } from "./place.ts";

// Ten instances of a tenth of a core that serve in order, two routes of 1 and 100 CPU-ms with
// half of the work each, 80 % load: the benchmark's question in virtual time, where nothing but
// the rule of choice makes a difference.

const servers = 10;
const cores = 0.1;
const cheapUs = 1000;
const dearUs = 100_000;
const virtualMs = 200_000;

interface Server {
  readonly queue: { readonly costUs: number; readonly endsAt: number }[];
  freeAt: number;
  begunUs: number;
  endedUs: number;
  doneUs: number;
  dear: number;
}

type Rule = (list: readonly Server[], costUs: number, now: number, gateway: number) => number;

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

function finish(server: Server, now: number): void {
  while ((server.queue[0]?.endsAt ?? Number.POSITIVE_INFINITY) <= now) {
    const costUs = server.queue.shift()?.costUs ?? 0;
    server.endedUs = (server.endedUs + costUs) | 0;
    if (costUs === dearUs) server.dear -= 1;
  }
}

function simulate(makeRule: (random: () => number) => Rule, seed: number) {
  const random = seeded(seed);
  const rule = makeRule(seeded(seed + 1));
  const list: Server[] = Array.from({ length: servers }, () => ({
    ...{ queue: [], freeAt: 0, begunUs: 0, endedUs: 0, doneUs: 0, dear: 0 },
  }));
  const latencies = { cheap: [] as number[], dear: [] as number[] };
  const perMs = (0.8 * servers * cores * 1000) / ((100 * cheapUs + dearUs) / 101);
  for (let now = 0; now < virtualMs; now += -Math.log(1 - random()) / perMs) {
    for (const server of list) finish(server, now);
    const costUs = random() < 1 / 101 ? dearUs : cheapUs;
    const server = list[rule(list, costUs, now, random() < 0.5 ? 0 : 1)] as Server;
    server.freeAt = Math.max(server.freeAt, now) + costUs / 1000 / cores;
    server.queue.push({ costUs, endsAt: server.freeAt });
    server.begunUs = (server.begunUs + costUs) | 0;
    server.doneUs += costUs;
    if (costUs === dearUs) server.dear += 1;
    latencies[costUs === cheapUs ? "cheap" : "dear"].push(server.freeAt - now);
  }
  const used = list.map(({ doneUs }) => doneUs);
  const imbalance = (Math.max(...used) * servers) / used.reduce((sum, one) => sum + one, 0);
  return { cheapMs: p99(latencies.cheap), dearMs: p99(latencies.dear), imbalance };
}

function p99(values: number[]): number {
  values.sort((a, b) => a - b);
  return values[Math.floor(values.length * 0.99)] as number;
}

const common = { speed: cores, penalty: 0, cost: 1, used: 0 };

const leastRequests = (random: () => number): Rule => {
  return (list) =>
    choose(
      list.map(({ queue }) => ({ ...common, work: queue.length })),
      random,
    );
};

const division = divide(
  [
    { costUs: cheapUs, requests: 100 },
    { costUs: dearUs, requests: 1 },
  ],
  servers,
);
if (division === null) throw new Error("it is worth a division");

function place(candidates: DividedCandidate[], costUs: number, random: () => number): number {
  if (division === null) return -1;
  if (costUs >= division.dearFromUs) return placeDear(candidates, division, random);
  const seen = candidates.map((one) => ({
    ...one,
    work: workForCheap(one.work, one.dear, division),
  }));
  return choose(seen, random);
}

/** Places by the same rule, but knows what is left, and what was used, to the microsecond. */
const oracle = (random: () => number): Rule => {
  return (list, costUs, now) => {
    const candidates = list.map(({ freeAt, doneUs, dear }) => {
      const work = Math.max(0, freeAt - now) * cores * 1000;
      return { ...common, dear, work, used: doneUs, cost: costUs };
    });
    return place(candidates, costUs, random);
  };
};

/** The same without keeping dear requests together: the least work, known exactly. */
const leastWork = (random: () => number): Rule => {
  return (list, _, now) =>
    choose(
      list.map(({ freeAt }) => ({ ...common, work: Math.max(0, freeAt - now) })),
      random,
    );
};

const byCost = (random: () => number): Rule => {
  const backlogs = [0, 1].map(() => Array.from({ length: servers }, () => new Backlog()));
  return (list, costUs, now, gateway) => {
    const candidates = list.map(({ queue, begunUs, endedUs, dear }, index) => {
      const backlog = backlogs[gateway]?.[index] as Backlog;
      // A gateway's clock has milliseconds.
      const work = backlog.look(Math.floor(now), queue.length, begunUs, endedUs, cores);
      return { ...common, dear, work, used: backlog.used, cost: costUs };
    });
    return place(candidates, costUs, random);
  };
};

test("two gateways balancing by cost are as good as one that knows what is left", () => {
  expect(dearInstancesOf(division, servers)).toBe(5);
  for (const seed of [11, 12, 13]) {
    const cost = simulate(byCost, seed);
    const best = simulate(oracle, seed);
    const counting = simulate(leastRequests, seed);
    const undivided = simulate(leastWork, seed);
    expect(cost.cheapMs).toBeLessThan(1.3 * best.cheapMs);
    expect(cost.cheapMs).toBeLessThan(0.1 * counting.cheapMs);
    expect(cost.cheapMs).toBeLessThan(0.1 * undivided.cheapMs);
    expect(cost.dearMs).toBeLessThan(1.5 * counting.dearMs);
    expect(cost.imbalance).toBeLessThan(1.05);
  }
});
