import { expect, test } from "bun:test";
import { seededRandom } from "../base/virtual.ts";
import { covers, isPattern, isSubject, SubjectIndex } from "./subjects.ts";

test("covers: every subject of the inner pattern is one of the outer's", () => {
  const yes = ["a a", "* a", "> a", "> a.b", "> >", "a.> a.b.*", "a.* a.*", "*.* a.*", "a.> a.>"];
  const no = ["a b", "* a.b", "a.> a", "a.* a.>", "* >", "a.b a.*", "a.b.c a.b", "a.* *.a"];
  for (const pair of yes) expect([pair, covers(...split(pair))]).toEqual([pair, true]);
  for (const pair of no) expect([pair, covers(...split(pair))]).toEqual([pair, false]);
});

function split(pair: string): [string, string] {
  const [outer, inner] = pair.split(" ") as [string, string];
  return [outer, inner];
}

test("the index agrees with covers on random patterns, and empties itself", () => {
  const random = seededRandom(4);
  const tokens = ["a", "b", "*", ">"];
  const draw = (valid: (text: string) => boolean): string => {
    for (;;) {
      const length = 1 + Math.floor(random.next() * 3);
      const pick = () => tokens[Math.floor(random.next() * tokens.length)];
      const text = Array.from({ length }, pick).join(".");
      if (valid(text)) return text;
    }
  };
  const index = new SubjectIndex<string>();
  const filed = new Set<string>();
  let found = 0;
  for (let round = 0; round < 3000; round++) {
    const pattern = draw(isPattern);
    if (random.next() < 0.5) {
      index.add(pattern, pattern);
      filed.add(pattern);
    } else {
      index.remove(pattern, pattern);
      filed.delete(pattern);
    }
    const subject = draw(isSubject);
    const expected = [...filed].filter((pattern) => covers(pattern, subject)).sort();
    expect(index.find(subject).sort()).toEqual(expected);
    found += expected.length;
  }
  expect(found).toBeGreaterThan(1000);
  for (const pattern of filed) index.remove(pattern, pattern);
  for (const subject of ["a", "a.b", "a.b.a"]) expect(index.find(subject)).toEqual([]);
});
