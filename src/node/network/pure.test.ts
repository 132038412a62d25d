import { expect, test } from "bun:test";
import { chooseSubnet, formatRange, overlaps, parseRange, type Range } from "./addresses.ts";
import { findResolvers } from "./resolvers.ts";

function range(text: string): Range {
  const parsed = parseRange(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

test("ranges are parsed strictly", () => {
  expect(formatRange(range("10.1.2.3/16"))).toBe("10.1.0.0/16");
  expect(formatRange(range("255.255.255.255"))).toBe("255.255.255.255/32");
  expect(formatRange(range("0.0.0.0/0"))).toBe("0.0.0.0/0");
  for (const text of [
    "10.1.2",
    "10.1.2.256",
    "010.0.0.1",
    "0x0a.0.0.1",
    "1.2.3.4/33",
    "1.2.3.4/8/8",
    "::1",
    "",
  ]) {
    expect(parseRange(text).ok).toBe(false);
  }
});

test("overlap is symmetric and exact", () => {
  const cases: [string, string, boolean][] = [
    ["10.0.0.0/20", "10.0.15.255", true],
    ["10.0.0.0/20", "10.0.16.0", false],
    ["10.0.0.0/8", "10.200.0.0/24", true],
    ["172.16.0.0/12", "172.32.0.0/16", false],
  ];
  for (const [one, other, expected] of cases) {
    expect(overlaps(range(one), range(other))).toBe(expected);
    expect(overlaps(range(other), range(one))).toBe(expected);
  }
});

test("a subnet overlaps nothing that is taken, and differs between clouds", () => {
  const first = chooseSubnet("abc123", []);
  if (!first.ok) throw new Error(first.error);
  const second = chooseSubnet("abc123", [first.value]);
  if (!second.ok) throw new Error(second.error);
  expect(overlaps(first.value, second.value)).toBe(false);
  const other = chooseSubnet("xyz789", []);
  expect(other.ok && other.value.base).not.toBe(first.value.base);
  const none = chooseSubnet("abc123", [range("10.0.0.0/8")]);
  expect(none.ok ? "" : none.error).toContain("no free /20");
});

test("resolvers are IPv4, at most three, and those behind systemd's stub", () => {
  const text = "# comment\nsearch example\nnameserver 9.9.9.9\nnameserver 2001:db8::1\n";
  expect(findResolvers(text, null)).toEqual(["9.9.9.9"]);
  expect(
    findResolvers("nameserver 127.0.0.53\n", "nameserver 10.0.0.2\nnameserver 10.0.0.3\n"),
  ).toEqual(["10.0.0.2", "10.0.0.3"]);
  expect(findResolvers("nameserver 127.0.0.1\n", "nameserver 10.0.0.2\n")).toEqual(["127.0.0.1"]);
  const many = [1, 2, 3, 4].map((last) => `nameserver 1.1.1.${last}\n`).join("");
  expect(findResolvers(many, null)).toHaveLength(3);
  expect(findResolvers("", null)).toEqual([]);
});
