import { expect } from "bun:test";
import type { Json } from "../../base/json.ts";
import type { Message, Wire } from "../wire.ts";
import { must } from "./ledger-case.ts";

/** A wire and the power over its surroundings that the tests need. */
export interface WireFixture {
  /** A connected party; in memory all share one object. */
  party(): Promise<Wire>;
  /** Waits until what the parties did has arrived everywhere. */
  settle(): Promise<void>;
  /** Lets time pass for requests. */
  elapse(durationMs: number): Promise<void>;
  dispose(): Promise<void>;
}

/** A rule's check, run on a wire of its own. */
export interface WireCase {
  readonly name: string;
  run(fixture: WireFixture): Promise<void>;
}

const timeoutMs = 10_000;

async function twoParties(fixture: WireFixture): Promise<[Wire, Wire]> {
  return [await fixture.party(), await fixture.party()];
}

function collect(wire: Wire, pattern: string): { messages: Message[]; cancel: () => void } {
  const messages: Message[] = [];
  const { cancel } = wire.subscribe(pattern, (message) => messages.push(message));
  return { messages, cancel };
}

async function ask(wire: Wire, subject: string, payload: Json = null): Promise<Json> {
  return must(await wire.request(subject, payload, { timeoutMs }));
}

async function refusal(wire: Wire, subject: string): Promise<{ code: string; message: string }> {
  const result = await wire.request(subject, null, { timeoutMs });
  if (result.ok) throw new Error(`${subject} was answered: ${JSON.stringify(result.value)}`);
  return result.error;
}

function nested(levels: number): Json {
  let value: Json = 1;
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? [value] : { value };
  return value;
}

const subjectsCases: readonly WireCase[] = [
  {
    name: "[W1] subjects and patterns",
    run: async (fixture) => {
      const [wire] = await twoParties(fixture);
      for (const subject of [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a.*",
        "a.>",
        "ü",
        "x".repeat(513),
      ]) {
        expect(() => wire.publish(subject, 1)).toThrow("[W1]");
        expect(() => wire.request(subject, 1, { timeoutMs })).toThrow("[W1]");
      }
      for (const pattern of ["", "a.", "a..b", "a b", "a*", ">.a", "a.>.b", "x".repeat(513)]) {
        expect(() => wire.subscribe(pattern, () => {})).toThrow("[W1]");
        expect(() => wire.respond(pattern, async () => null)).toThrow("[W1]");
      }
      for (const subject of ["a", "a.b-c_d.E/f:g", "!#$%&'()+,;<=?@[]^`{|}~", "x".repeat(512)]) {
        wire.publish(subject, 1);
        wire.subscribe(subject, () => {}).cancel();
      }
    },
  },
  {
    name: "[W2] JSON values arrive as they are; undefined and non-finite as JSON has it",
    run: async (fixture) => {
      const [sender, receiver] = await twoParties(fixture);
      const { messages } = collect(receiver, "v");
      receiver.respond("echo", async (payload) => payload);
      await fixture.settle();
      const text = "ü€😀\n\u0000\u2028";
      const values: Json[] = [null, true, 0, -1.5, "", text, [], {}, [1, [2, { a: [null] }]]];
      values.push(JSON.parse('{"__proto__":{"a":1},"b":2}'), nested(100));
      for (const value of values) {
        sender.publish("v", value);
        const back = await ask(sender, "echo", value);
        expect(JSON.stringify(back)).toBe(JSON.stringify(value));
      }
      const odd: Json = { here: 1, gone: undefined, list: [Number.NaN, Number.POSITIVE_INFINITY] };
      expect(await ask(sender, "echo", odd)).toEqual({ here: 1, list: [null, null] });
      await fixture.settle();
      const arrived = messages.map(({ payload }) => JSON.stringify(payload));
      expect(arrived).toEqual(values.map((value) => JSON.stringify(value)));
      expect(() => sender.publish("v", nested(101))).toThrow("nested deeper");
      expect(() => sender.request("echo", nested(101), { timeoutMs })).toThrow("nested deeper");
    },
  },
  {
    name: "[W2] nobody sees what the sender changes later, or another receiver changes",
    run: async (fixture) => {
      const [sender, receiver] = await twoParties(fixture);
      const first = collect(receiver, "v");
      const second = collect(receiver, "v");
      receiver.respond("keep", async (payload) => {
        await fixture.settle();
        return payload;
      });
      await fixture.settle();
      const value = { list: [1], deep: { text: "old" } };
      sender.publish("v", value);
      const kept = ask(sender, "keep", value);
      value.list.push(2);
      value.deep.text = "new";
      await fixture.settle();
      const original = { list: [1], deep: { text: "old" } };
      expect(await kept).toEqual(original);
      const received = first.messages[0]?.payload as typeof value;
      expect(received).toEqual(original);
      try {
        received.list.push(3);
      } catch {
        // Frozen: as good as a copy of its own.
      }
      expect(second.messages[0]?.payload).toEqual(original);
    },
  },
];

const publishCases: readonly WireCase[] = [
  {
    name: "[W3] patterns match as NATS has it, each subscription once",
    run: async (fixture) => {
      const [sender, receiver] = await twoParties(fixture);
      const patterns = ["a.b.c", "a.*.c", "*.*.*", "a.>", ">", "a.b", "a.*", "*", "a.b.c.>", "b.>"];
      const got = patterns.map((pattern) => collect(receiver, pattern).messages);
      const twice = collect(receiver, "a.b.c").messages;
      const own = collect(sender, "a.b.c").messages;
      await fixture.settle();
      for (const subject of ["a.b.c", "a.b", "a", "a.x.c", "b.c"]) sender.publish(subject, subject);
      await fixture.settle();
      const subjectsOf = (messages: readonly Message[]) => messages.map(({ subject }) => subject);
      expect(
        Object.fromEntries(got.map((messages, at) => [patterns[at], subjectsOf(messages)])),
      ).toEqual({
        "a.b.c": ["a.b.c"],
        "a.*.c": ["a.b.c", "a.x.c"],
        "*.*.*": ["a.b.c", "a.x.c"],
        "a.>": ["a.b.c", "a.b", "a.x.c"],
        ">": ["a.b.c", "a.b", "a", "a.x.c", "b.c"],
        "a.b": ["a.b"],
        "a.*": ["a.b"],
        "*": ["a"],
        "a.b.c.>": [],
        "b.>": ["b.c"],
      });
      expect(subjectsOf(twice)).toEqual(["a.b.c"]);
      expect(subjectsOf(own)).toEqual(["a.b.c"]);
      const late = collect(receiver, ">").messages;
      await fixture.settle();
      expect(late).toEqual([]);
    },
  },
  {
    name: "[W4] handlers run after publish returned, in order",
    run: async (fixture) => {
      const [sender, receiver] = await twoParties(fixture);
      const trace: string[] = [];
      sender.subscribe("v", ({ payload }) => {
        trace.push(`got ${payload}`);
        if (payload === 1) sender.publish("v", "nested");
      });
      const { messages } = collect(receiver, "n.>");
      await fixture.settle();
      sender.publish("v", 1);
      trace.push("published 1");
      sender.publish("v", 2);
      trace.push("published 2");
      await fixture.settle();
      await fixture.settle();
      expect(trace).toEqual(["published 1", "published 2", "got 1", "got 2", "got nested"]);
      for (let number = 0; number < 2000; number++) sender.publish(`n.${number % 3}`, number);
      await fixture.settle();
      expect(messages.map(({ payload }) => payload)).toEqual(Array.from(Array(2000).keys()));
    },
  },
  {
    name: "[W6] nothing after cancel, not even what was on its way",
    run: async (fixture) => {
      const [sender, receiver] = await twoParties(fixture);
      const { messages, cancel } = collect(receiver, "v");
      const other = collect(receiver, "v").messages;
      await fixture.settle();
      sender.publish("v", 1);
      await fixture.settle();
      sender.publish("v", 2);
      cancel();
      cancel();
      await fixture.settle();
      expect(messages.map(({ payload }) => payload)).toEqual([1]);
      expect(other.map(({ payload }) => payload)).toEqual([1, 2]);
    },
  },
];

const requestCases: readonly WireCase[] = [
  {
    name: "[W7] the closest responder answers and is told the subject",
    run: async (fixture) => {
      const [asking, answering] = await twoParties(fixture);
      for (const pattern of [">", "a.>", "a.*", "a.b", "*.b", "*.*.c"]) {
        answering.respond(pattern, async (payload, subject) => [pattern, subject, payload]);
      }
      await fixture.settle();
      const by = async (subject: string) => await ask(asking, subject, 7);
      expect(await by("a.b")).toEqual(["a.b", "a.b", 7]);
      expect(await by("a.x")).toEqual(["a.*", "a.x", 7]);
      expect(await by("a.b.c")).toEqual(["a.>", "a.b.c", 7]);
      expect(await by("x.b")).toEqual(["*.b", "x.b", 7]);
      expect(await by("x.y.c")).toEqual(["*.*.c", "x.y.c", 7]);
      expect(await by("x")).toEqual([">", "x", 7]);
      expect(await ask(answering, "a.b", 8)).toEqual(["a.b", "a.b", 8]);
    },
  },
  {
    name: "[W7] a slow request holds up no other",
    run: async (fixture) => {
      const [asking, answering] = await twoParties(fixture);
      let release = (): void => {};
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      answering.respond("q", async (payload) => {
        if (payload === "slow") await gate;
        return payload;
      });
      await fixture.settle();
      const slow = ask(asking, "q", "slow");
      const fast = Array.from({ length: 50 }, (_, number) => ask(asking, "q", number));
      expect(await Promise.all(fast)).toEqual(Array.from(Array(50).keys()));
      release();
      expect(await slow).toBe("slow");
    },
  },
  {
    name: "[W8] the second of two responders answers, whoever goes first",
    run: async (fixture) => {
      const [asking, answering] = await twoParties(fixture);
      const first = answering.respond("q", async () => 1);
      await fixture.settle();
      const second = (await fixture.party()).respond("q", async () => 2);
      await fixture.settle();
      first.cancel();
      await fixture.settle();
      expect(await ask(asking, "q")).toBe(2);
      second.cancel();
      await fixture.settle();
      expect((await refusal(asking, "q")).code).toBe("noResponder");
    },
  },
  {
    name: "[W9] noResponder, timeout and failed",
    run: async (fixture) => {
      const [asking, answering] = await twoParties(fixture);
      const none = await refusal(asking, "nobody.there");
      expect(none.code).toBe("noResponder");
      expect(none.message).toContain("nobody.there");
      let answered = (): void => {};
      const late = new Promise<void>((resolve) => {
        answered = resolve;
      });
      answering.respond("late", async () => {
        await late;
        return "too late";
      });
      answering.respond("broken", async () => {
        throw new Error("no luck today");
      });
      answering.respond("sync", () => {
        throw new Error("no luck at all");
      });
      await fixture.settle();
      const failed = await refusal(asking, "broken");
      expect(failed.code).toBe("failed");
      expect(failed.message).toContain("no luck today");
      expect((await refusal(asking, "sync")).message).toContain("no luck at all");
      const waiting = asking.request("late", null, { timeoutMs: 1000 });
      await fixture.settle();
      await fixture.elapse(1000);
      const result = await waiting;
      expect(result.ok ? "answered" : result.error.code).toBe("timeout");
      answered();
      await fixture.settle();
      expect((await refusal(asking, "broken")).code).toBe("failed");
    },
  },
  {
    name: "[W10] a cancelled responder still answers what it holds",
    run: async (fixture) => {
      const [asking, answering] = await twoParties(fixture);
      let release = (): void => {};
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      const responder = answering.respond("q", async () => {
        await gate;
        return "held";
      });
      await fixture.settle();
      const held = ask(asking, "q");
      await fixture.settle();
      responder.cancel();
      responder.cancel();
      await fixture.settle();
      expect((await refusal(asking, "q")).code).toBe("noResponder");
      release();
      expect(await held).toBe("held");
    },
  },
];

const connectionCases: readonly WireCase[] = [
  {
    name: "[W11][W12] the present state at once; after close nothing",
    run: async (fixture) => {
      const [other, wire] = await twoParties(fixture);
      const states: boolean[] = [];
      wire.onConnection((connected) => states.push(connected));
      expect(states).toEqual([true]);
      const { messages } = collect(wire, "v");
      other.respond("never", () => new Promise<Json>(() => {}));
      await fixture.settle();
      const waiting = refusal(wire, "never");
      wire.publish("v", 1);
      await wire.close();
      expect((await waiting).code).toBe("disconnected");
      other.publish("v", 2);
      wire.publish("v", 3);
      await fixture.settle();
      expect(messages).toEqual([]);
      expect((await refusal(wire, "never")).code).toBe("disconnected");
      expect(states).toEqual([true]);
      await wire.close();
    },
  },
];

export const wireCases: readonly WireCase[] = [
  ...subjectsCases,
  ...publishCases,
  ...requestCases,
  ...connectionCases,
];
