import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Endpoint } from "../../model/instance.ts";
import { attemptsMax, restartDelayMs } from "./backoff.ts";
import { nextTickAt } from "./idle.ts";
import { type Input, initialState, resume, step } from "./machine.ts";
import type { InstanceState, Wanted } from "./state.ts";

const endpoint: Endpoint = { kind: "unix", path: "/s" };
const wanted: Wanted = { keepAwake: false, freezeMs: null, idleMs: 1000, drain: null };
const ladder: Wanted = { ...wanted, freezeMs: 300 };
const web = { task: false, takesRequests: true, graceMs: 10_000 };
const exit1: Input = {
  kind: "exited",
  cause: { kind: "exit", code: 1 },
  logTail: ["last"],
  jitter: 0.5,
};
const ended: Input = {
  kind: "exited",
  cause: { kind: "signal", signal: "SIGTERM" },
  logTail: [],
  jitter: 0,
};
const ready: Input = { kind: "ready", endpoint, pid: 7 };
const quiet: Input = { kind: "quiesced", inFlight: 0, lastRequestAt: null, complete: true };

/** Runs a script of `[time, input]` and tells it as a story: state, then effects. */
function story(script: readonly (readonly [number, Input])[], kind = web, first = wanted): string {
  let state = initialState(first, kind);
  const lines = script.map(([now, input]) => {
    const result = step(state, input, now);
    state = result.state;
    const effects = result.effects.map((effect) =>
      effect.kind === "log"
        ? `"${effect.text}"`
        : effect.kind === "answerWake"
          ? `answer ${effect.reply.ok ? "ok" : effect.reply.reason}`
          : effect.kind,
    );
    const tick = nextTickAt(state);
    const due = tick === null ? "" : ` @${tick}`;
    return `${now} ${input.kind} → ${state.situation.state}${due} ${effects.join("; ")}`.trim();
  });
  return `\n${lines.join("\n")}\n`;
}

test("a start, a sleep when idle, a wake", () => {
  expect(
    story([
      [0, { kind: "start" }],
      [5, { kind: "launching" }],
      [7, { kind: "launched", pid: null }],
      [12, ready],
      [500, { kind: "requested", at: 500 }],
      [1012, { kind: "tick" }],
      [1500, { kind: "tick" }],
      [1501, quiet],
      [1510, { kind: "wake" }],
      [1520, ended],
      [1525, { kind: "launched", pid: null }],
      [1530, ready],
    ]),
  ).toBe(`
0 start → preparing start
5 launching → starting
7 launched → starting
12 ready → running @1012 "running, ready after 7ms (pid 7)"
500 requested → running @1500
1012 tick → running @1500
1500 tick → running quiesce
1501 quiesced → stopping @11501 "goes to sleep after 1s without a request"; terminate
1510 wake → stopping @11501
1520 exited → starting start
1525 launched → starting
1530 ready → running @2530 answer ok; "running, ready after 10ms (pid 7)"
`);
});

test("a request while the gateways are asked keeps it awake", () => {
  expect(
    story([
      [0, { kind: "start" }],
      [1, { kind: "launching" }],
      [2, ready],
      [1002, { kind: "tick" }],
      [1003, { kind: "wake" }],
      [1004, quiet],
      [2003, { kind: "tick" }],
      [2004, { kind: "quiesced", inFlight: 1, lastRequestAt: null, complete: true }],
      [3004, { kind: "tick" }],
      [3005, { kind: "quiesced", inFlight: 0, lastRequestAt: null, complete: false }],
      [4005, { kind: "tick" }],
      [4006, quiet],
    ]),
  ).toBe(`
0 start → preparing start
1 launching → starting
2 ready → running @1002 "running, ready after 1ms (pid 7)"
1002 tick → running quiesce
1003 wake → running @2003 answer ok
1004 quiesced → running @2003
2003 tick → running quiesce
2004 quiesced → running @3004
3004 tick → running quiesce
3005 quiesced → running @4005
4005 tick → running quiesce
4006 quiesced → stopping @14006 "goes to sleep after 1s without a request"; terminate
`);
});

test("the ladder: frozen, thawed by a request, frozen again, asleep", () => {
  expect(
    story(
      [
        [0, { kind: "start" }],
        [1, { kind: "launching" }],
        [2, ready],
        [302, { kind: "tick" }],
        [303, quiet],
        [400, { kind: "wake" }],
        [401, { kind: "requested", at: 400 }],
        [700, { kind: "tick" }],
        [701, quiet],
        [1400, { kind: "tick" }],
        [1402, { kind: "wake" }],
        [1410, ended],
      ],
      web,
      ladder,
    ),
  ).toBe(`
0 start → preparing start
1 launching → starting
2 ready → running @302 "running, ready after 1ms (pid 7)"
302 tick → running quiesce
303 quiesced → frozen @1002 freeze; "frozen after 300ms without a request"
400 wake → running @700 thaw; answer ok
401 requested → running @700
700 tick → running quiesce
701 quiesced → frozen @1400 freeze; "frozen after 300ms without a request"
1400 tick → stopping @11400 "goes to sleep after 1s without a request"; terminate
1402 wake → stopping @11400
1410 exited → starting start
`);
});

test("what is frozen thaws for a visit and for a request that nobody announced, and can end", () => {
  const frozen: [number, Input][] = [
    [0, { kind: "start" }],
    [1, { kind: "launching" }],
    [2, ready],
    [302, { kind: "tick" }],
    [303, { kind: "quiesced", inFlight: 1, lastRequestAt: null, complete: true }],
    [603, { kind: "tick" }],
    [604, quiet],
  ];
  const tell = (...then: [number, Input][]) =>
    story([...frozen, ...then], web, ladder)
      .trim()
      .split("\n")
      .slice(frozen.length);
  expect(
    tell(
      [700, { kind: "visit", difference: 1 }],
      [2000, { kind: "tick" }],
      [2001, { kind: "visit", difference: -1 }],
    ),
  ).toEqual(["700 visit → running thaw", "2000 tick → running", "2001 visit → running @2301"]);
  expect(tell([700, { kind: "requested", at: 604 }])).toEqual(["700 requested → frozen @1303"]);
  expect(tell([700, { kind: "requested", at: 650 }])).toEqual([
    "700 requested → running @1000 thaw",
  ]);
  expect(tell([700, exit1])).toEqual(['700 exited → asleep "ended while frozen: exit code 1"']);
  expect(tell([700, { kind: "removed" }])).toEqual(["700 removed → stopping @10700 terminate"]);
  expect(tell([700, { kind: "sleep" }])).toEqual([
    '700 sleep → stopping @10700 "goes to sleep, as asked"; terminate',
  ]);
  const awake = { ...ladder, keepAwake: true };
  expect(tell([700, { kind: "assigned", wanted: awake }])).toEqual(["700 assigned → running thaw"]);
  const drain = { since: 700, deadline: 5000 };
  expect(tell([700, { kind: "assigned", wanted: { ...ladder, drain } }])).toEqual([
    "700 assigned → stopping @10700 terminate",
  ]);
});

test("a rung that comes after the next is left out; workers and tasks have no ladder", () => {
  const begin: [number, Input][] = [
    [0, { kind: "start" }],
    [1, { kind: "launching" }],
    [2, ready],
    [1002, { kind: "tick" }],
    [1003, quiet],
  ];
  for (const freezeMs of [1000, 5000]) {
    expect(story(begin, web, { ...wanted, freezeMs })).toEndWith(
      '1003 quiesced → stopping @11003 "goes to sleep after 1s without a request"; terminate\n',
    );
  }
  const worker = { ...web, takesRequests: false };
  expect(story(begin, worker, ladder)).toEndWith("1003 quiesced → running\n");
});

test("three failures before it was ever healthy are the end", () => {
  expect(
    story([
      [0, { kind: "start" }],
      [1, { kind: "launching" }],
      [2, exit1],
      [252, { kind: "tick" }],
      [253, { kind: "launched", pid: null }],
      [260, { kind: "unhealthy", reason: "GET / answered 500" }],
      [10_260, { kind: "tick" }],
      [10_300, ended],
      [10_800, { kind: "tick" }],
      [10_801, { kind: "wake" }],
      [10_802, exit1],
    ]),
  ).toBe(`
0 start → preparing start
1 launching → starting
2 exited → backing-off @252 "ended: exit code 1; starts again in 250ms"
252 tick → starting start
253 launched → starting
260 unhealthy → stopping @10260 terminate
10260 tick → stopping "did not end within 10s: killed"; kill
10300 exited → backing-off @10675 "ended: GET / answered 500; starts again in 375ms"
10800 tick → starting start
10801 wake → starting
10802 exited → failed "failed: exit code 1, 3 times in a row"; answer exit code 1, 3 times in a row
`);
});

test("a drain waits for requests in flight, and for its deadline no longer", () => {
  const drain = { since: 100, deadline: 5000 };
  expect(
    story([
      [0, { kind: "start" }],
      [1, { kind: "launching" }],
      [2, ready],
      [100, { kind: "assigned", wanted: { ...wanted, drain } }],
      [600, { kind: "tick" }],
      [601, { kind: "quiesced", inFlight: 2, lastRequestAt: null, complete: true }],
      [851, { kind: "tick" }],
      [852, { kind: "wake" }],
      [853, quiet],
      [1102, { kind: "tick" }],
      [5000, { kind: "tick" }],
      [5001, { kind: "wake" }],
      [5002, ended],
    ]),
  ).toBe(`
0 start → preparing start
1 launching → starting
2 ready → running @1002 "running, ready after 1ms (pid 7)"
100 assigned → running @600
600 tick → running @5000 quiesce
601 quiesced → running @851
851 tick → running @5000 quiesce
852 wake → running @1102 answer ok
853 quiesced → running @1102
1102 tick → running @5000 quiesce
5000 tick → stopping @15000 "drained: a newer release serves"; terminate
5001 wake → stopping @15000 answer the instance is ending
5002 exited → gone discard
`);
});

test("a release process ends in done or failed, and never starts again", () => {
  const task = { task: true, takesRequests: false, graceMs: 1000 };
  const begin: [number, Input][] = [
    [0, { kind: "start" }],
    [1, { kind: "launching" }],
    [2, { kind: "ready", endpoint: null, pid: 9 }],
  ];
  const done: Input = { kind: "exited", cause: { kind: "exit", code: 0 }, logTail: [], jitter: 0 };
  expect(story([...begin, [9, done]], task)).toEndWith('exited → done "ended with exit code 0"\n');
  expect(story([...begin, [9, exit1]], task)).toEndWith(
    'exited → failed "failed: the release process ended with exit code 1"\n',
  );
});

test("an end during the launch waits for the launch", () => {
  expect(
    story([
      [0, { kind: "start" }],
      [1, { kind: "launching" }],
      [2, { kind: "removed" }],
      [3, { kind: "launched", pid: null }],
      [4, ended],
    ]),
  ).toBe(`
0 start → preparing start
1 launching → starting
2 removed → stopping @10002 terminate
3 launched → stopping @10002 terminate
4 exited → gone discard
`);
});

test("who asks it to sleep while it starts is heard, unless a request waits for the start", () => {
  const begin: [number, Input][] = [
    [0, { kind: "start" }],
    [1, { kind: "launching" }],
  ];
  const asked: [number, Input][] = [
    [2, { kind: "sleep" }],
    [3, { kind: "launched", pid: null }],
    [4, ready],
  ];
  expect(story([...begin, ...asked, [5, ended]])).toBe(`
0 start → preparing start
1 launching → starting
2 sleep → stopping @10002 "goes to sleep, as asked"; terminate
3 launched → stopping @10002 terminate
4 ready → stopping @10002
5 exited → asleep
`);
  // Not launched yet: what prepares it finds that it is to end.
  const notLaunched: Input = {
    kind: "startFailed",
    ...{ stage: "start", reason: "it is ending", logTail: [], jitter: 0 },
  };
  expect(story([[0, { kind: "start" }], ...asked.slice(0, 1), [5, notLaunched]])).toBe(`
0 start → preparing start
2 sleep → stopping @10002 "goes to sleep, as asked"; terminate
5 startFailed → asleep
`);
  expect(story([...begin, ...asked.slice(0, 2), [3, { kind: "wake" }], [5, ended]])).toEndWith(
    "5 exited → starting start\n",
  );
  expect(story([...begin, [1, { kind: "wake" }], ...asked.slice(0, 1)])).toEndWith(
    "2 sleep → starting\n",
  );
});

const inputs: fc.Arbitrary<Input> = fc.oneof(
  fc.constantFrom<Input>(
    { kind: "start" },
    { kind: "removed" },
    { kind: "launching" },
    { kind: "launched", pid: null },
    ready,
    exit1,
    ended,
    quiet,
    { kind: "unhealthy", reason: "no" },
    { kind: "startFailed", stage: "start", reason: "no", logTail: [], jitter: 0 },
    { kind: "wake" },
    { kind: "sleep" },
    { kind: "tick" },
    { kind: "assigned", wanted: { ...wanted, keepAwake: true } },
    { kind: "assigned", wanted: ladder },
    { kind: "visit", difference: 1 },
    { kind: "visit", difference: -1 },
    { kind: "requested", at: 2500 },
    { kind: "assigned", wanted: { ...wanted, drain: { since: 0, deadline: 3000 } } },
  ),
  fc.record({
    kind: fc.constant("quiesced" as const),
    inFlight: fc.nat(2),
    lastRequestAt: fc.option(fc.nat(5000)),
    complete: fc.boolean(),
  }),
);

test("whatever happens, wakes are answered, ends are final and time is never lost", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2000), inputs), { maxLength: 60 }), (script) => {
      let state: InstanceState = initialState(wanted, web);
      let now = 0;
      for (const [pause, input] of script) {
        now += pause;
        const before = state;
        const result = step(state, input, now);
        state = result.state;
        const kinds = result.effects.map(({ kind }) => kind);
        if (before.situation.state === "gone") expect(state.situation).toEqual(before.situation);
        if (input.kind === "wake" && !kinds.includes("answerWake"))
          expect(state.wakeWanted).toBe(true);
        if (before.wakeWanted && !state.wakeWanted) expect(kinds).toContain("answerWake");
        if (state.wakeWanted) {
          expect(["preparing", "starting", "stopping", "backing-off"]).toContain(
            state.situation.state,
          );
        }
        const at = nextTickAt(state);
        if (state.situation.state === "backing-off") expect(at).not.toBeNull();
        expect(JSON.parse(JSON.stringify(state))).toEqual(state);
      }
    }),
    { numRuns: 2000, seed: 1 },
  );
});

test("the kernel's freezer always follows the state, whatever happens", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(500), inputs), { maxLength: 80 }), (script) => {
      let state: InstanceState = initialState(ladder, web);
      let now = 0;
      let isFrozen = false;
      const take = (input: Input) => {
        const result = step(state, input, now);
        state = result.state;
        for (const { kind } of result.effects) {
          if (kind === "freeze") isFrozen = true;
          // SIGTERM and SIGKILL thaw what they are to end.
          if (["thaw", "terminate", "kill", "start"].includes(kind)) isFrozen = false;
          // A request that is answered goes to a process that runs.
          if (kind === "answerWake") expect(isFrozen).toBe(false);
        }
        if (input.kind === "exited") isFrozen = isFrozen && state.situation.state === "frozen";
        expect(isFrozen).toBe(state.situation.state === "frozen");
        if (isFrozen) expect(state.visitors === 0 && !state.wanted.keepAwake).toBe(true);
      };
      for (const [pause, input] of [[0, { kind: "launching" }], [0, ready], ...script] as const) {
        now += pause;
        const at = nextTickAt(state);
        if (at !== null && at <= now) take({ kind: "tick" });
        take(input);
      }
    }),
    { numRuns: 2000, seed: 2 },
  );
});

test("ticks alone never loop: each moves the next one later or ends it", () => {
  fc.assert(
    fc.property(fc.array(inputs, { maxLength: 30 }), (script) => {
      let state: InstanceState = initialState(wanted, web);
      let now = 0;
      for (const input of script) {
        now += 100;
        state = step(state, input, now).state;
      }
      for (let turns = 0; turns < 20; turns++) {
        const at = nextTickAt(state);
        if (at === null) return;
        now = Math.max(now, at);
        state = step(state, { kind: "tick" }, now).state;
        const next = nextTickAt(state);
        expect(next === null || next > now).toBe(true);
      }
    }),
    { numRuns: 1000, seed: 3 },
  );
});

test("what an earlier lode left is taken up from every state", () => {
  const starting = step(initialState(wanted, web), { kind: "launching" }, 5).state;
  expect(resume(starting, "alive", 10).effects).toEqual([{ kind: "await" }]);
  expect(resume(starting, "never", 10).effects).toEqual([{ kind: "start" }]);
  const running = step(starting, ready, 6).state;
  const asking = step(running, { kind: "sleep" }, 7).state;
  const resumed = resume(asking, "alive", 10);
  expect(step(resumed.state, { kind: "tick" }, 10).effects).toEqual([{ kind: "quiesce" }]);
  expect(resume(running, "alive", 10).effects).toEqual([{ kind: "thaw" }]);
  const idle = step({ ...running, wanted: ladder }, { kind: "tick" }, 500).state;
  const frozen = { ...step(idle, quiet, 501).state, visitors: 1 };
  const adopted = resume(frozen, "alive", 510);
  expect(adopted.effects).toEqual([{ kind: "freeze" }]);
  expect(adopted.state).toMatchObject({ visitors: 0, situation: { state: "frozen", since: 501 } });
  const stopping = step(running, { kind: "removed" }, 8).state;
  expect(resume(stopping, "alive", 10).effects).toEqual([{ kind: "terminate" }]);
});

test("the back-off doubles, is jittered by a quarter and bounded", () => {
  expect([1, 2, 3, 4].map((failures) => restartDelayMs(failures, 0.5))).toEqual([
    250, 500, 1000, 2000,
  ]);
  expect(restartDelayMs(100, 0.5)).toBe(60_000);
  expect(restartDelayMs(1, 0)).toBe(188);
  expect(attemptsMax).toBe(3);
});
