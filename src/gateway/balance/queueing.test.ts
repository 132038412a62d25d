import { expect, test } from "bun:test";
import { Backlog } from "./backlog.ts";
import { type Candidate, choose } from "./choose.ts";

// Ten instances of a tenth of a core that serve in order, two routes of 1 and 100 CPU-ms with
// half of the work each, 80 % load: the benchmark's question in virtual time, where nothing but
// the rule of choice makes a difference.

const servers = 10;
const cores = 0.1;
const cheapUs = 1000;
const dearUs = 100_000;

interface Server {
  readonly queue: { readonly costUs: number; readonly endsAt: number }[];
  freeAt: number;
  begunUs: number;
  endedUs: number;
  doneUs: number;
}

type Rule = (list: readonly Server[], costUs: number, now: number, gateway: number) => number;

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

function simulate(makeRule: (random: () => number) => Rule, seed: number) {
  const random = seeded(seed);
  const rule = makeRule(seeded(seed + 1));
  const list: Server[] = Array.from({ length: servers }, () => ({
    ...{ queue: [], freeAt: 0, begunUs: 0, endedUs: 0, doneUs: 0 },
  }));
  const latencies: number[] = [];
  const perMs = (0.8 * servers * cores * 1000) / ((100 * cheapUs + dearUs) / 101);
  for (let now = 0; now < 200_000; now += -Math.log(1 - random()) / perMs) {
    for (const server of list) {
      while ((server.queue[0]?.endsAt ?? Number.POSITIVE_INFINITY) <= now) {
        server.endedUs = (server.endedUs + (server.queue.shift()?.costUs ?? 0)) | 0;
      }
    }
    const costUs = random() < 1 / 101 ? dearUs : cheapUs;
    const server = list[rule(list, costUs, now, random() < 0.5 ? 0 : 1)] as Server;
    server.freeAt = Math.max(server.freeAt, now) + costUs / 1000 / cores;
    server.queue.push({ costUs, endsAt: server.freeAt });
    server.begunUs = (server.begunUs + costUs) | 0;
    server.doneUs += costUs;
    if (costUs === cheapUs) latencies.push(server.freeAt - now);
  }
  latencies.sort((a, b) => a - b);
  const p99Ms = latencies[Math.floor(latencies.length * 0.99)] as number;
  const used = list.map(({ doneUs }) => doneUs);
  const imbalance = (Math.max(...used) * servers) / used.reduce((sum, one) => sum + one, 0);
  return { p99Ms, imbalance };
}

const byCandidates =
  (candidateOf: (server: Server, index: number, gateway: number, now: number) => Candidate) =>
  (random: () => number): Rule =>
  (list, _, now, gateway) =>
    choose(
      list.map((server, index) => candidateOf(server, index, gateway, now)),
      random,
    );

const common = { speed: cores, penalty: 0 };

const leastRequests = byCandidates(({ queue }) => ({ ...common, work: queue.length, cost: 1 }));

/** Knows what is left to the microsecond. */
const oracle = byCandidates(({ freeAt }, _, __, now) => ({
  ...common,
  work: Math.max(0, freeAt - now),
  cost: 0,
}));

const byCost = (random: () => number): Rule => {
  const backlogs = [0, 1].map(() => Array.from({ length: servers }, () => new Backlog()));
  return byCandidates(({ queue, begunUs, endedUs }, index, gateway, now) => {
    const backlog = backlogs[gateway]?.[index] as Backlog;
    // A gateway's clock has milliseconds.
    const work = backlog.look(Math.floor(now), queue.length, begunUs, endedUs, cores);
    return { ...common, work, cost: 1 };
  })(random);
};

test("two gateways balancing by cost are as good as one that knows what is left", () => {
  for (const seed of [11, 12, 13]) {
    const cost = simulate(byCost, seed);
    const best = simulate(oracle, seed);
    const counting = simulate(leastRequests, seed);
    expect(cost.p99Ms).toBeLessThan(1.05 * best.p99Ms);
    expect(cost.p99Ms).toBeLessThan(0.6 * counting.p99Ms);
    expect(cost.imbalance).toBeLessThan(1.05);
  }
});
