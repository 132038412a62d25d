import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Affinity } from "../../model/release.ts";
import { affinityKeyOf, hashText, type Member, ownerOf } from "./affinity.ts";

interface Named extends Member {
  readonly name: string;
}

const member = (name: string, weight = 1): Named => ({ name, seed: hashText(name), weight });
const keys = Array.from({ length: 2000 }, (_, index) => hashText(`room-${index}`));
const owners = (members: readonly Named[]) => keys.map((key) => ownerOf(key, members)?.name);

const instanceName = fc.stringMatching(/^i[a-z0-9]{11}$/);
const names = fc.uniqueArray(instanceName, { minLength: 2, maxLength: 12 });

test("without a member nobody owns a key, and alone it owns all", () => {
  expect(ownerOf(1, [])).toBeNull();
  expect(new Set(owners([member("a")]))).toEqual(new Set(["a"]));
});

test("the order of the members does not matter", () => {
  fc.assert(
    fc.property(names, (some) => {
      const members = some.map((name) => member(name));
      expect(owners(members.toReversed())).toEqual(owners(members));
    }),
    { numRuns: 50, seed: 1 },
  );
});

test("a member that goes gives up its own keys and no others; one that comes takes only", () => {
  fc.assert(
    fc.property(names, fc.nat(), (some, pick) => {
      const all = some.map((name) => member(name));
      const gone = all[pick % all.length]?.name;
      const before = owners(all);
      const after = owners(all.filter(({ name }) => name !== gone));
      before.forEach((owner, index) => {
        if (owner !== gone) expect(after[index]).toBe(owner as string);
        else expect(after[index]).not.toBe(gone as string);
      });
    }),
    { numRuns: 100, seed: 2 },
  );
});

test("keys are shared out evenly: chi-square far below what chance allows", () => {
  fc.assert(
    fc.property(names, (some) => {
      const counts = new Map(some.map((name) => [name, 0]));
      for (const owner of owners(some.map((name) => member(name)))) {
        counts.set(owner as string, (counts.get(owner as string) ?? 0) + 1);
      }
      const expected = keys.length / some.length;
      let chiSquare = 0;
      for (const count of counts.values()) chiSquare += (count - expected) ** 2 / expected;
      // With 11 degrees of freedom, 50 is exceeded once in a million draws.
      expect(chiSquare).toBeLessThan(50);
    }),
    { numRuns: 100, seed: 3 },
  );
});

test("a member of three times the weight gets three times the keys", () => {
  const got = owners([member("small", 1), member("large", 3)]);
  const share = got.filter((name) => name === "large").length / keys.length;
  expect(share).toBeGreaterThan(0.71);
  expect(share).toBeLessThan(0.79);
});

test("weights that change all alike move nothing", () => {
  const all = ["a", "b", "c", "d"];
  expect(owners(all.map((name) => member(name, 8)))).toEqual(
    owners(all.map((name) => member(name, 1))),
  );
});

function keyOf(affinity: Affinity, target: string, fields: Record<string, string[]> = {}) {
  return affinityKeyOf(affinity, {
    host: "a.example.org",
    target,
    fields: (name) => fields[name] ?? [],
  });
}

test("a key from a header field: the first value, none when empty", () => {
  const affinity: Affinity = { kind: "header", name: "x-room" };
  expect(keyOf(affinity, "/", { "x-room": ["red", "blue"] })).toBe("red");
  expect(keyOf(affinity, "/", { "x-room": [""] })).toBeNull();
  expect(keyOf(affinity, "/")).toBeNull();
  expect(keyOf({ kind: "header", name: "host" }, "/")).toBe("a.example.org");
});

test("a key from a cookie, in whichever field it stands", () => {
  const affinity: Affinity = { kind: "cookie", name: "sid" };
  expect(keyOf(affinity, "/", { cookie: ["a=1; sid=abc=d; b=2"] })).toBe("abc=d");
  expect(keyOf(affinity, "/", { cookie: ["a=1", "sid=x"] })).toBe("x");
  expect(keyOf(affinity, "/", { cookie: ["xsid=1; sid="] })).toBeNull();
});

test("a key from the path: the segment's text, however it was written", () => {
  const affinity: Affinity = { kind: "path", index: 2 };
  expect(keyOf(affinity, "/rooms/red/users?x=/y/z")).toBe("red");
  expect(keyOf(affinity, "/rooms/%72ed")).toBe("red");
  expect(keyOf(affinity, "/rooms/%zz")).toBe("%zz");
  expect(keyOf(affinity, "/rooms?room=red/blue")).toBeNull();
  expect(keyOf(affinity, "/rooms/")).toBeNull();
  expect(keyOf(affinity, "*")).toBeNull();
});

test("a key from the query, decoded as forms are", () => {
  const affinity: Affinity = { kind: "query", name: "room" };
  expect(keyOf(affinity, "/a?b=1&room=big+red%21")).toBe("big red!");
  expect(keyOf(affinity, "/a?rooms=1&b")).toBeNull();
  expect(keyOf(affinity, "/a")).toBeNull();
});
