import { expect, test } from "bun:test";
import { type DividedCandidate, placeDear, workForCheap } from "./place.ts";

const division = { dearFromUs: 10_000, dearShare: 0.5 };
const idle: DividedCandidate = { work: 0, speed: 1, cost: 100, penalty: 0, dear: 0, used: 0 };
const never = () => {
  throw new Error("there are no equals to choose among");
};

test("so long as fewer than their due have dear requests, one goes to the least used of others", () => {
  const candidates = [
    { ...idle, dear: 1, work: 1 },
    { ...idle, used: 30 },
    { ...idle, used: 20, work: 5 },
    { ...idle, used: 25 },
  ];
  expect(placeDear(candidates, division, never)).toBe(2);
});

test("when as many as their due have some, it queues behind the least work", () => {
  const candidates = [{ ...idle, dear: 1, work: 90 }, idle, { ...idle, dear: 2, work: 80 }, idle];
  expect(placeDear(candidates, division, never)).toBe(2);
});

test("with a long queue at all of these, it takes another: their share has grown", () => {
  const candidates = [
    { ...idle, dear: 5, work: 401 },
    { ...idle, used: 9 },
    { ...idle, dear: 5, work: 430 },
    { ...idle, used: 8 },
  ];
  expect(placeDear(candidates, division, never)).toBe(3);
});

test("all have dear requests, or there is one, or none", () => {
  const busy = [
    { ...idle, dear: 5, work: 900 },
    { ...idle, dear: 1, work: 800 },
  ];
  expect(placeDear(busy, division, never)).toBe(1);
  expect(placeDear([idle], division, never)).toBe(0);
  expect(placeDear([], division, never)).toBe(-1);
});

test("one that fails gets no dear request while there is another", () => {
  const candidates = [
    { ...idle, penalty: 8 },
    { ...idle, used: 1000 },
    { ...idle, penalty: 16 },
  ];
  expect(placeDear(candidates, division, never)).toBe(1);
});

test("of instances that promise different speeds, the used ones are compared in proportion", () => {
  const candidates = [
    { ...idle, used: 100, speed: 4 },
    { ...idle, used: 50, speed: 1 },
  ];
  expect(placeDear(candidates, division, never)).toBe(0);
});

test("for a cheap request, dear ones weigh more than what is left of them", () => {
  expect(workForCheap(500, 0, division)).toBe(500);
  expect(workForCheap(500, 2, division)).toBe(10_500);
});
